// From outputs to logits, and from logits to the next token.
#pragma once

#include <algorithm>
#include <cmath>

#include "decoder_state.h"
#include "linear.h"
#include "normalise.h"
#include "read_rows.h"
#include "sampling.h"

namespace axion::decoding {

// Sets the logits of `rows` rows beyond the vocabulary, where there is no token, to −∞.
inline void close_logits(int rows, float* logits) {
  for (int row = 0; row < rows; ++row) {
    float* end = logits + static_cast<size_t>(row) * kPaddedVocabulary;
    std::fill(end + kVocabulary, end + kPaddedVocabulary, -kInfinity);
  }
}

// Makes logits [rows][kPaddedVocabulary] from normed rows that each thread has. Thread 0 may use them at once, the
// others after the next wait.
template <class Number>
inline void find_logits_of(const Weights<Number>& weights, Crew crew, int rows, const float* normed, float* logits) {
  const int panels = weights.head.panels();
  for (int panel = crew.first(panels); panel < crew.last(panels); ++panel) {
    multiply_panel_rows(weights.head, panel, rows, normed, kHiddenRow, logits, kPaddedVocabulary);
  }
  crew.wait();
  if (crew.thread == 0) close_logits(rows, logits);
}

// The same for one row, with the product that is fastest for it.
template <class Number>
inline void find_logits_of_one(const Weights<Number>& weights, Crew crew, const float* normed, float* logits) {
  const int panels = weights.head.panels();
  for (int panel = crew.first(panels); panel < crew.last(panels); ++panel) {
    multiply_panel(weights.head, panel, normed, logits);
  }
  crew.wait();
  if (crew.thread == 0) close_logits(1, logits);
}

// The logits [count][kPaddedVocabulary] after each of the tokens from position `first` on.
template <class Number>
void find_logits(State& state, const Weights<Number>& weights, Crew crew, int first, int count, float* logits_TV) {
  float* normed = state.rows[crew.thread]->normed;
  if (crew.thread == 0) finish_outputs(state, weights, *state.rows[0], first, count);
  crew.wait();
  for (int start = 0; start < count; start += kRowsAtOnce) {
    const int rows = std::min(count - start, kRowsAtOnce);
    for (int row = 0; row < rows; ++row) {
      normalise(kHidden, state.output(first + start + row), kNormEpsilon, weights.norm_D, normed + row * kHiddenRow);
    }
    find_logits_of(weights, crew, rows, normed, logits_TV + static_cast<size_t>(start) * kPaddedVocabulary);
  }
}

// Makes state.logits those of the next token. Thread 0 may use them at once, the others after the next wait.
template <class Number>
void find_next_logits(State& state, const Weights<Number>& weights, Crew crew) {
  if (state.logits_ready) return;  // written below only after all threads have waited
  const int last = state.length - 1;
  if (crew.thread == 0) finish_outputs(state, weights, *state.rows[0], last, 1);
  crew.wait();
  Zeros<kHiddenRow> normed;
  normalise(kHidden, state.output(last), kNormEpsilon, weights.norm_D, normed);
  find_logits_of_one(weights, crew, normed, state.logits);
  if (crew.thread == 0) state.logits_ready = true;
}

// The token at `position`, by the settings of the state and by the tokens that it has counted.
inline int draw_by_settings(State& state, const float* logits, int position, double uniform) {
  std::copy(logits, logits + kPaddedVocabulary, state.candidates.data());
  return draw(state.sampling, state.seen_V.data(), position, uniform, state.candidates, state.chances);
}

// The next token, drawn from its logits unless `forced` is one, and the probabilities there.
inline int draw_token(State& state, const float* logits, double uniform, int forced, Drawn& drawn) {
  const float log_total = top_tokens(logits, drawn.tokens_A, drawn.probabilities_A);
  const int token = forced < 0 ? draw_by_settings(state, logits, state.length, uniform) : forced;
  drawn.probability = std::exp(logits[token] - log_total);
  return token;
}

}  // namespace axion::decoding
