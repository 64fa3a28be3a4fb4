// Reading many tokens, of one text or of several: each thread takes its own through all layers with products of whole
// matrices, and the threads synchronise once per pass, when all of its cache is written.
//
// The last layer's feed-forward part is needed only where a next token is drawn. In a prompt that is the last position,
// so it can be left out, and is computed later where its output is needed.
#pragma once

#include <algorithm>

#include "decoder_state.h"
#include "embedding.h"
#include "linear.h"
#include "normalise.h"
#include "read_token.h"

namespace axion::decoding {

// A token to be read: its text, its position there, and the token itself.
struct Place {
  State* state;
  int position;
  int token;
};

// hidden rows += down(weight·silu(gate(x))·up(x)). Row r of x is added to hidden row rows[r] with weights[r].
template <class Number, const auto& kWidth>
inline void read_rows_feed_forward(const FeedForward<Number, kWidth>& layer, Rows& own, int count, const float* x,
                                   const int* rows, const float* weights) {
  multiply_rows(layer.gate, count, x, kHiddenRow, own.gate, kWidestRow);
  multiply_rows(layer.up, count, x, kHiddenRow, own.up, kWidestRow);
  for (int row = 0; row < count; ++row) {
    float* gate = own.gate + row * kWidestRow;
    for (int i = 0; i < padded(kWidth); i += kLanes) {
      store(gate + i, weights[row] * silu(load(gate + i)) * load(own.up + row * kWidestRow + i));
    }
  }
  multiply_rows(layer.down, count, own.gate, kWidestRow, own.result, kHiddenRow);
  for (int row = 0; row < count; ++row) {
    float* hidden = own.hidden + rows[row] * kHiddenRow;
    for (int i = 0; i < padded(kHidden); i += kLanes) {
      store(hidden + i, load(hidden + i) + load(own.result + row * kHiddenRow + i));
    }
  }
}

// `rows` and `weights` of a layer that reads every token with weight 1.
struct AllRows {
  int rows[kRowsAtOnce];
  float weights[kRowsAtOnce];
  AllRows() {
    for (int row = 0; row < kRowsAtOnce; ++row) rows[row] = row, weights[row] = 1;
  }
};
const AllRows kAllRows;

// Chooses the experts of normed rows by `rule_of(row)`; `trace_of(row)` is where the choice is written.
template <class Number, class RuleOf, class TraceOf>
inline void route_rows(const Mixture<Number>& mixture, Rows& own, int count, RuleOf rule_of, TraceOf trace_of) {
  multiply_rows(mixture.router, count, own.normed, kHiddenRow, own.router_logits, kRouterRow);
  for (int row = 0; row < count; ++row) route(own.router_logits + row * kRouterRow, rule_of(row), trace_of(row));
}

// hidden rows += the experts that were chosen for the normed rows.
template <class Number, class TraceOf>
inline void read_rows_mixture(const Mixture<Number>& mixture, Rows& own, int count, TraceOf trace_of) {
  read_rows_feed_forward(mixture.shared, own, count, own.normed, kAllRows.rows, kAllRows.weights);
  for (int expert = 0; expert < kExperts; ++expert) {
    int rows[kRowsAtOnce], found = 0;
    float gates[kRowsAtOnce];
    for (int row = 0; row < count; ++row) {
      const Trace trace = trace_of(row);
      for (int k = 0; k < trace.chosen; ++k) {
        if (trace.experts_K[k] != expert) continue;
        std::copy(own.normed + row * kHiddenRow, own.normed + (row + 1) * kHiddenRow,
                  own.gathered + found * kHiddenRow);
        rows[found] = row;
        gates[found++] = trace.gates_K[k];
      }
    }
    if (found > 0) read_rows_feed_forward(mixture.experts[expert], own, found, own.gathered, rows, gates);
  }
}

// hidden rows += the feed-forward part of a pass for the normed rows. `routed`: their experts are chosen already.
template <class Number>
inline void read_rows_rest(const Weights<Number>& weights, const Pass& at, const Place* places, int count, Rows& own,
                           bool only_route, bool routed) {
  if (at.layer < kDenseLayers) {
    if (only_route) return;
    read_rows_feed_forward(weights.dense[at.layer], own, count, own.normed, kAllRows.rows, kAllRows.weights);
  } else {
    const Mixture<Number>& mixture = weights.mixtures[at.layer - kDenseLayers];
    auto trace_of = [&](int row) { return places[row].state->traces.at(places[row].position, at.trace); };
    auto rule_of = [&](int row) { return places[row].state->rule(at.layer, mixture.bias_E); };
    if (!routed) route_rows(mixture, own, count, rule_of, trace_of);
    if (!only_route) read_rows_mixture(mixture, own, count, trace_of);
  }
}

inline void normalise_rows(Rows& own, int count) {
  for (int row = 0; row < count; ++row) {
    normalise(kHidden, own.hidden + row * kHiddenRow, kNormEpsilon, own.normed + row * kHiddenRow);
  }
}

// hidden rows += the attention of one pass, then the feed-forward part's norm.
template <class Attention>
inline void read_rows_attention(const Attention& attention, int pass, Crew crew, const Place* places, int count,
                                Rows& own, float* scores) {
  normalise_rows(own, count);
  multiply_rows(attention.compress, count, own.normed, kHiddenRow, own.compressed, kCompressedRow);
  for (int row = 0; row < count; ++row) {
    const float* compressed = own.compressed + row * kCompressedRow;
    attention.store(places[row].state->pass_cache(pass), places[row].position, compressed);
    if (kQueryRank > 0) attention.query_input(compressed, own.query_input + row * kQueryInputRow);
  }
  multiply_rows(attention.query, count, kQueryRank > 0 ? own.query_input : own.normed, kQueryInputRow, own.query,
                kQueryRow);
  crew.wait();
  for (int row = 0; row < count; ++row) {
    attention.attend(places[row].state->pass_cache(pass), places[row].position, 0, kHeads, own.query + row * kQueryRow,
                     scores, own.context + row * kContextRow);
    places[row].state->scale_heads(pass, 0, kHeads, own.context + row * kContextRow);
    keep_attention(*places[row].state, places[row].position, pass, 0, kHeads, scores);
  }
  multiply_rows(attention.output, count, own.context, kContextRow, own.hidden, kHiddenRow, true);
  normalise_rows(own, count);
}

// This thread's tokens, which may be none. Their texts have the same passes as `lead`, which has the scratch memory.
// Without `finish` the outputs lack the last layer's feed-forward part.
template <class Number>
void read_rows(const State& lead, const Weights<Number>& weights, Crew crew, const Place* places, int count,
               bool finish) {
  Rows& own = *lead.rows[crew.thread];
  for (int row = 0; row < count; ++row) embed(weights, places[row].token, own.hidden + row * kHiddenRow);
  for (size_t pass = 0; pass < lead.passes.size(); ++pass) {
    const Pass& at = lead.passes[pass];
    for (int row = 0; at.starts_loop() && row < count; ++row) {
      blend_loops(at.loop, weights.looped_share, own.hidden + row * kHiddenRow, own.before_loops + row * kHiddenRow);
    }
    read_rows_attention(weights.attention[at.layer], static_cast<int>(pass), crew, places, count, own,
                        lead.thread_scores(crew.thread));
    const bool only_route = !finish && pass + 1 == lead.passes.size();
    read_rows_rest(weights, at, places, count, own, only_route, false);
  }
  for (int row = 0; row < count; ++row) {
    const float* hidden = own.hidden + row * kHiddenRow;
    State& state = *places[row].state;
    std::copy(hidden, hidden + kHiddenRow, state.output(places[row].position));
    state.finished_T[places[row].position] = finish;
  }
}

// Completes the outputs of `count` positions from `first` on that lack the last layer's feed-forward part.
template <class Number>
void finish_outputs(State& state, const Weights<Number>& weights, Rows& own, int first, int count) {
  for (int position = first; position < first + count;) {
    Place places[kRowsAtOnce];
    int rows = 0;
    for (; position < first + count && rows < kRowsAtOnce; ++position) {
      if (state.finished_T[position]) continue;
      std::copy(state.output(position), state.output(position) + kHiddenRow, own.hidden + rows * kHiddenRow);
      places[rows++] = {&state, position, -1};
    }
    normalise_rows(own, rows);
    read_rows_rest(weights, state.passes.back(), places, rows, own, false, true);
    for (int row = 0; row < rows; ++row) {
      const float* hidden = own.hidden + row * kHiddenRow;
      std::copy(hidden, hidden + kHiddenRow, state.output(places[row].position));
      state.finished_T[places[row].position] = true;
    }
  }
}

template <class Number>
void read_prompt(State& state, const Weights<Number>& weights, const int32_t* tokens, int count, bool finish) {
  need_rows(state);
  const int begin = state.length;
  with_crew(state.threads, [&](Crew crew) {
    for (int start = 0; start < count; start += crew.count * kRowsAtOnce) {
      const int together = std::min(count - start, crew.count * kRowsAtOnce);
      const int first = start + crew.first(together), end = start + crew.last(together);
      Place places[kRowsAtOnce];
      for (int i = first; i < end; ++i) places[i - first] = {&state, begin + i, tokens[i]};
      read_rows(state, weights, crew, places, end - first, finish);
      crew.wait();
      if (crew.thread == 0) {
        for (int i = start; i < start + together; ++i) state.append(tokens[i]);
      }
      crew.wait();
    }
  });
}

}  // namespace axion::decoding
