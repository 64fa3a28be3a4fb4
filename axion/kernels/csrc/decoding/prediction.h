// Multi-token prediction: a guess at the token after the next (DeepSeek-V3 report, section 2.2).
//
//   h_i = W [norm(embedding of token i + 1), norm(output i)]        then one layer, a norm and the head
//
// The layer has a cache of its own. Position i is in it once token i + 1 is known.
#pragma once

#include <algorithm>

#include "decoder_state.h"
#include "draw.h"
#include "embedding.h"
#include "read_rows.h"

namespace axion::decoding {

// Takes this thread's rows through the layer: `count` positions from `first` on, the last of all followed by `token`.
template <class Number>
void predict_rows(State& state, const Weights<Number>& weights, const Prediction<Number>& layer, Crew crew, int token,
                  int first, int count) {
  Rows& own = *state.rows[crew.thread];
  finish_outputs(state, weights, own, first, count);
  Place places[kRowsAtOnce];
  for (int row = 0; row < count; ++row) {
    const int position = first + row, next = position + 1 < state.length ? state.tokens_T[position + 1] : token;
    places[row] = {&state, position, next};
    float* embedding = own.joined + row * kJoinedRow;
    float* output = embedding + kHidden;
    embed(weights, next, embedding);
    normalise(kHidden, embedding, kNormEpsilon, embedding);
    normalise(kHidden, state.output(position), kNormEpsilon, weights.norm_D, output);
    normalise(kHidden, output, kNormEpsilon, output);
  }
  multiply_rows(layer.join, count, own.joined, kJoinedRow, own.hidden, kHiddenRow);
  read_rows_attention(layer.attention, static_cast<int>(state.passes.size()), crew, places, count, own,
                      state.thread_scores(crew.thread));
  const Traces unread{state.prediction_experts.data(), state.prediction_weights.data(), 1, kChosen};
  auto trace_of = [&](int row) { return unread.at(first + row, 0); };
  auto rule_of = [&](int) { return Rule{layer.mixture.bias_E, nullptr}; };
  route_rows(layer.mixture, own, count, rule_of, trace_of);
  read_rows_mixture(layer.mixture, own, count, trace_of);
}

// A guess at the token after `token`, which follows what was read; −1 where the text would end there.
template <class Number>
int guess(State& state, const Weights<Number>& weights, int token, double uniform) {
  const Prediction<Number>& layer = weights.prediction[0];
  const int known = state.predicted;
  if (known > 0 && (known < state.length ? state.tokens_T[known] : token) != state.predicted_with) --state.predicted;
  if (state.predicted == state.length) --state.predicted;  // its logits were not kept
  need_rows(state);
  Zeros<kHiddenRow> normed;
  Local<float, kPaddedVocabulary> logits;
  with_crew(state.threads, [&](Crew crew) {
    for (int start = state.predicted; start < state.length; start += crew.count * kRowsAtOnce) {
      const int together = std::min(state.length - start, crew.count * kRowsAtOnce);
      const int first = start + crew.first(together), end = start + crew.last(together);
      predict_rows(state, weights, layer, crew, token, first, end - first);
      if (end == state.length && end > first) {
        const float* last = state.rows[crew.thread]->hidden + (end - first - 1) * kHiddenRow;
        normalise(kHidden, last, kNormEpsilon, layer.norm_D, normed);
      }
      crew.wait();
    }
    find_logits_of_one(weights, crew, normed, logits);
  });
  state.predicted = state.length;
  state.predicted_with = token;
  ++state.seen_V[token];
  const int drawn = draw_by_settings(state, logits, state.length + 1, uniform);
  --state.seen_V[token];
  return state.sampling.is_end(drawn) ? -1 : drawn;
}

}  // namespace axion::decoding
