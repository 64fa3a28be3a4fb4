// Reading many tokens: each thread takes its own through all layers with products of whole matrices, and the threads
// synchronise once per pass, when all of its cache is written.
#pragma once

#include <algorithm>

#include "decoder_state.h"
#include "embedding.h"
#include "linear.h"
#include "normalise.h"
#include "read_token.h"

namespace axion::decoding {

// hidden rows += down(weight·silu(gate(x))·up(x)). Row r of x is added to hidden row rows[r] with weights[r].
template <class Number, int Width>
inline void read_rows_feed_forward(const FeedForward<Number, Width>& layer, Rows& own, int count, const float* x,
                                   const int* rows, const float* weights) {
  multiply_rows(layer.gate, count, x, kHiddenRow, own.gate, kWidestRow);
  multiply_rows(layer.up, count, x, kHiddenRow, own.up, kWidestRow);
  for (int row = 0; row < count; ++row) {
    float* gate = own.gate + row * kWidestRow;
    for (int i = 0; i < padded(Width); i += kLanes) {
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

template <class Number>
inline void read_rows_mixture(const Mixture<Number>& mixture, const Traces& traces, int trace_row, Rows& own,
                              int first_position, int count) {
  multiply_rows(mixture.router, count, own.normed, kHiddenRow, own.router_logits, kRouterRow);
  for (int row = 0; row < count; ++row) {
    route(own.router_logits + row * kRouterRow, mixture.bias_E, traces.at(first_position + row, trace_row));
  }
  read_rows_feed_forward(mixture.shared, own, count, own.normed, kAllRows.rows, kAllRows.weights);
  for (int expert = 0; expert < kExperts; ++expert) {
    int rows[kRowsAtOnce], found = 0;
    float gates[kRowsAtOnce];
    for (int row = 0; row < count; ++row) {
      const Trace trace = traces.at(first_position + row, trace_row);
      for (int k = 0; k < kChosen; ++k) {
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

inline void normalise_rows(Rows& own, int count) {
  for (int row = 0; row < count; ++row) {
    normalise<kHidden>(own.hidden + row * kHiddenRow, kNormEpsilon, own.normed + row * kHiddenRow);
  }
}

// hidden rows += the attention of one pass, then the feed-forward part's norm.
template <class Attention>
inline void read_rows_attention(const State& state, Crew crew, const Attention& attention, int pass, Rows& own,
                                int first_position, int count) {
  const LayerCache cache = state.pass_cache(pass);
  normalise_rows(own, count);
  multiply_rows(attention.compress, count, own.normed, kHiddenRow, own.compressed, kCompressedRow);
  for (int row = 0; row < count; ++row) {
    const float* compressed = own.compressed + row * kCompressedRow;
    attention.store(cache, first_position + row, compressed);
    if constexpr (kQueryRank > 0) attention.query_input(compressed, own.query_input + row * kQueryInputRow);
  }
  multiply_rows(attention.query, count, kQueryRank > 0 ? own.query_input : own.normed, kQueryInputRow, own.query,
                kQueryRow);
  crew.wait();
  for (int row = 0; row < count; ++row) {
    attention.attend(cache, first_position + row, 0, kHeads, own.query + row * kQueryRow,
                     state.thread_scores(crew.thread), own.context + row * kContextRow);
  }
  multiply_rows(attention.output, count, own.context, kContextRow, own.hidden, kHiddenRow, true);
  normalise_rows(own, count);
}

// This thread's rows of a prompt: tokens[first] to tokens[first + count - 1], where tokens[0] follows what was read.
template <class Number>
void read_rows(State& state, const Weights<Number>& weights, Crew crew, const int32_t* tokens, int first, int count) {
  Rows& own = *state.rows[crew.thread];
  const int first_position = state.length + first;
  for (int row = 0; row < count; ++row) embed(weights, tokens[first + row], own.hidden + row * kHiddenRow);
  for (size_t pass = 0; pass < state.passes.size(); ++pass) {
    const Pass& at = state.passes[pass];
    for (int row = 0; at.starts_loop() && row < count; ++row) {
      blend_loops(at.loop, weights.looped_share, own.hidden + row * kHiddenRow, own.before_loops + row * kHiddenRow);
    }
    read_rows_attention(state, crew, weights.attention[at.layer], static_cast<int>(pass), own, first_position, count);
    if (at.layer < kDenseLayers) {
      if constexpr (kDenseLayers > 0) {
        read_rows_feed_forward(weights.dense[at.layer], own, count, own.normed, kAllRows.rows, kAllRows.weights);
      }
    } else {
      if constexpr (kMixtures > 0) {
        read_rows_mixture(weights.mixtures[at.layer - kDenseLayers], state.traces, at.trace, own, first_position, count);
      }
    }
  }
  if (count > 0) std::copy(own.hidden, own.hidden + count * kHiddenRow, state.output(first_position));
}

template <class Number>
void read_prompt(State& state, const Weights<Number>& weights, const int32_t* tokens, int count) {
  need_rows(state);
  with_crew(state.threads, [&](Crew crew) {
    for (int start = 0; start < count; start += crew.count * kRowsAtOnce) {
      const int together = std::min(count - start, crew.count * kRowsAtOnce);
      const int first = crew.first(together), last = crew.last(together);
      read_rows(state, weights, crew, tokens + start, first, last - first);
      crew.wait();
      if (crew.thread == 0) {
        for (int i = start; i < start + together; ++i) state.append(tokens[i]);
      }
      crew.wait();
    }
  });
}

}  // namespace axion::decoding
