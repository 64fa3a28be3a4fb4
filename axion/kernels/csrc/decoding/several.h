// Writing several texts at once: each weight is read once per thread for all of its texts.
#pragma once

#include <algorithm>

#include "decoder_state.h"
#include "draw.h"
#include "read_rows.h"

namespace axion::decoding {

// Makes the next logits of those texts that lack them, in one pass over the head.
template <class Number>
void find_several_logits(State* const* states, int count, const Weights<Number>& weights, Crew crew, float* logits_TV) {
  Rows& own = *states[0]->rows[crew.thread];
  for (int i = 0; crew.thread == 0 && i < count; ++i) {
    if (!states[i]->logits_ready) finish_outputs(*states[i], weights, own, states[i]->length - 1, 1);
  }
  crew.wait();
  State* lacking[kRowsAtOnce];
  int rows = 0;
  for (int i = 0; i < count; ++i) {
    if (states[i]->logits_ready) continue;
    normalise(kHidden, states[i]->output(states[i]->length - 1), kNormEpsilon, weights.norm_D,
                       own.normed + rows * kHiddenRow);
    lacking[rows++] = states[i];
  }
  find_logits_of(weights, crew, rows, own.normed, logits_TV);
  for (int row = 0; crew.thread == 0 && row < rows; ++row) {
    const float* logits = logits_TV + static_cast<size_t>(row) * kPaddedVocabulary;
    std::copy(logits, logits + kPaddedVocabulary, lacking[row]->logits.data());
    lacking[row]->logits_ready = true;
  }
}

// `step` for each of up to kRowsAtOnce texts: tokens[i] is the drawn token, or −1 where it ends the text.
template <class Number>
void step_several(State* const* states, int count, const Weights<Number>& weights, const double* uniforms,
                  int32_t* tokens) {
  State& lead = *states[0];
  need_rows(lead);
  const Floats logits(static_cast<int64_t>(count) * kPaddedVocabulary);
  Place places[kRowsAtOnce];
  int reading = 0;
  with_crew(lead.threads, [&](Crew crew) {
    find_several_logits(states, count, weights, crew, logits.data());
    for (int i = 0; crew.thread == 0 && i < count; ++i) {
      State& state = *states[i];
      tokens[i] = draw_token(state, state.logits, uniforms[i], -1, *state.drawn);
      if (state.sampling.is_end(tokens[i])) {
        tokens[i] = -1;
      } else {
        places[reading++] = {&state, state.length, tokens[i]};
      }
    }
    crew.wait();
    const int first = crew.first(reading), end = crew.last(reading);
    read_rows(lead, weights, crew, places + first, end - first, true);
  });
  for (int row = 0; row < reading; ++row) places[row].state->append(places[row].token);
}

}  // namespace axion::decoding
