// From logits to the next token: the likeliest tokens and their probabilities, the filters, and the draw.
//
// The filters and their order are those of transformers' `generate`: repetition penalty, minimum length, temperature,
// top-k, top-p, min-p. The draw inverts the cumulative distribution, in token order, at one uniform number. Nothing is
// sorted: thresholds are found by bisection over the bit patterns of floats, which sort like the floats themselves,
// with one pass over the vocabulary for each bit.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "dimensions.h"
#include "sizes.h"
#include "common/vector.h"

namespace axion::decoding {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Sampling {
  float temperature;  // 0: the likeliest token
  float top_p;        // 1: all tokens
  float min_p;        // 0: all tokens
  float repetition_penalty;
  int32_t top_k;      // 0: all tokens
  int32_t first_end;  // the first position at which a token may end the text
  int32_t end_count;
  const int32_t* ends;

  bool is_end(int token) const {
    for (int i = 0; i < end_count; ++i) {
      if (ends[i] == token) return true;
    }
    return false;
  }
};

// The first token with the highest score.
inline int likeliest(const float* scores_V) {
  Vector best = load(scores_V);
  for (int i = kLanes; i < kPaddedVocabulary; i += kLanes) best = max(best, load(scores_V + i));
  const float highest = largest(best);
  int token = 0;
  while (token < kVocabulary - 1 && !(scores_V[token] == highest)) ++token;
  return token;
}

inline bool any(IntVector lanes) {
  int32_t all = 0;
  for (int lane = 0; lane < kLanes; ++lane) all |= lanes[lane];
  return all != 0;
}

inline int sum(IntVector vector) {
  int total = 0;
  for (int lane = 0; lane < kLanes; ++lane) total += vector[lane];
  return total;
}

// A lower bound of the kAlternatives-th highest logit: the kAlternatives-th highest of the lanes' maxima, which are
// logits themselves.
inline float floor_of_top(const float* logits_V) {
  Vector lanes[2] = {splat(-kInfinity), splat(-kInfinity)};
  for (int i = 0; i < kPaddedVocabulary / kLanes; ++i) lanes[i % 2] = max(lanes[i % 2], load(logits_V + i * kLanes));
  float best_L[2 * kLanes];
  store(best_L, lanes[0]);
  store(best_L + kLanes, lanes[1]);
  std::nth_element(best_L, best_L + kAlternatives - 1, best_L + 2 * kLanes, std::greater<float>());
  return best_L[kAlternatives - 1];
}

// Σ e^(logit − highest).
inline float total_weight(const float* logits_V, float highest) {
  Vector sums = {};
  for (int i = 0; i < kPaddedVocabulary; i += kLanes) sums += exp(load(logits_V + i) - highest);
  return axion::sum(sums);
}

// The likeliest tokens, likeliest first, with the model's own probabilities. Returns log Σ e^logit.
inline float top_tokens(const float* logits_V, int32_t* tokens_A, float* probabilities_A) {
  float best_A[kAlternatives];
  std::fill(best_A, best_A + kAlternatives, -kInfinity);
  std::fill(tokens_A, tokens_A + kAlternatives, 0);
  const float floor = floor_of_top(logits_V);
  for (int start = 0; start < kPaddedVocabulary; start += kLanes) {
    if (!any(load(logits_V + start) >= floor)) continue;
    for (int token = start; token < start + kLanes; ++token) {
      if (!(logits_V[token] >= floor && logits_V[token] > best_A[kAlternatives - 1])) continue;
      int place = kAlternatives - 1;
      for (; place > 0 && logits_V[token] > best_A[place - 1]; --place) {
        best_A[place] = best_A[place - 1];
        tokens_A[place] = tokens_A[place - 1];
      }
      best_A[place] = logits_V[token];
      tokens_A[place] = token;
    }
  }
  const float total = total_weight(logits_V, best_A[0]);
  for (int i = 0; i < kAlternatives; ++i) probabilities_A[i] = std::exp(best_A[i] - best_A[0]) / total;
  return best_A[0] + std::log(total);
}

// log Σ e^logit.
inline float log_total(const float* logits_V) {
  Vector best = load(logits_V);
  for (int i = kLanes; i < kPaddedVocabulary; i += kLanes) best = max(best, load(logits_V + i));
  const float highest = largest(best);
  return highest + std::log(total_weight(logits_V, highest));
}

// Maps floats to integers that sort in the same order, and back.
inline int32_t key_of(float number) {
  int32_t bits;
  std::memcpy(&bits, &number, sizeof bits);
  return bits ^ (bits >> 31 & 0x7fffffff);
}

inline float number_of(int32_t key) {
  key ^= key >> 31 & 0x7fffffff;
  float number;
  std::memcpy(&number, &key, sizeof number);
  return number;
}

// The highest number from `low` to `high` for which `holds` is true. It must be monotonic, and true for `low`.
template <class Holds>
inline float bisect(float low, float high, Holds holds) {
  int64_t least = key_of(low), most = key_of(high);
  while (least < most) {
    const int64_t middle = least + (most - least + 1) / 2;
    if (holds(number_of(static_cast<int32_t>(middle)))) {
      least = middle;
    } else {
      most = middle - 1;
    }
  }
  return number_of(static_cast<int32_t>(least));
}

// Zeroes the weights of all scores below the k-th highest; scores equal to it are kept.
inline void keep_top_k(const float* scores_V, float highest, int k, float* weights_V) {
  if (k >= kVocabulary) return;
  const float floor = bisect(-kInfinity, highest, [&](float bound) {
    IntVector count = {};
    for (int i = 0; i < kPaddedVocabulary; i += kLanes) count -= load(scores_V + i) >= bound;
    return sum(count) >= k;
  });
  for (int i = 0; i < kPaddedVocabulary; i += kLanes) {
    store(weights_V + i, load(scores_V + i) >= floor ? load(weights_V + i) : Vector{});
  }
}

// Zeroes the weights of the least likely tokens, as many as together have at most 1 − p of the probability. Among
// equally likely tokens, lower ids are dropped first (transformers leaves that to its sort). The likeliest token, whose
// weight is 1, is always kept.
inline void keep_top_p(float p, float* weights_V) {
  auto mass_up_to = [&](float bound) {
    Vector mass = {};
    for (int i = 0; i < kPaddedVocabulary; i += kLanes) {
      const Vector weights = load(weights_V + i);
      mass += weights <= bound ? weights : Vector{};
    }
    return axion::sum(mass);
  };
  const float allowance = (1 - p) * mass_up_to(1);
  const float last = bisect(0, number_of(key_of(1) - 1), [&](float bound) { return mass_up_to(bound) <= allowance; });
  float gone = mass_up_to(last);
  Vector least = splat(1);  // the lowest remaining weight; some of the tokens that have it may still be dropped
  for (int i = 0; i < kPaddedVocabulary; i += kLanes) {
    const Vector weights = load(weights_V + i);
    least = weights > last ? min(least, weights) : least;
    store(weights_V + i, weights > last ? weights : Vector{});
  }
  const float next = -largest(-least);
  if (gone + next > allowance) return;
  int stays = kVocabulary - 1;
  while (weights_V[stays] < 1) --stays;
  for (int token = 0; token < kVocabulary; ++token) {
    if (weights_V[token] != next || token == stays) continue;
    gone += next;
    if (gone > allowance) return;
    weights_V[token] = 0;
  }
}

// Zeroes the weights below p times the highest, which is 1.
inline void keep_min_p(float p, float* weights_V) {
  for (int i = 0; i < kPaddedVocabulary; i += kLanes) {
    const Vector weights = load(weights_V + i);
    store(weights_V + i, weights < p ? Vector{} : weights);
  }
}

constexpr int kBlock = 16 * kLanes;
inline constexpr Size kSumsBefore{[] { return (kPaddedVocabulary + kBlock - 1) / kBlock + 1; }};

// The first token whose cumulative weight exceeds `uniform` times the total.
inline int draw_weighted(const float* weights_V, double uniform) {
  const int blocks = kSumsBefore - 1;
  Local<double, kSumsBefore> sums_before;
  sums_before[0] = 0;
  for (int block = 0; block < blocks; ++block) {
    Vector sums = {};
    const int end = std::min<int>((block + 1) * kBlock, kPaddedVocabulary);
    for (int i = block * kBlock; i < end; i += kLanes) sums += load(weights_V + i);
    sums_before[block + 1] = sums_before[block] + axion::sum(sums);
  }
  const double target = uniform * sums_before[blocks];
  int block = 0;
  while (block < blocks - 1 && sums_before[block + 1] <= target) ++block;
  double cumulative = sums_before[block];
  int found = -1;
  for (int token = block * kBlock; token < kVocabulary && !(found >= 0 && cumulative > target); ++token) {
    cumulative += weights_V[token];
    if (weights_V[token] > 0) found = token;
  }
  for (int token = block * kBlock; found < 0; --token) found = weights_V[token] > 0 ? token : -1;
  return found;
}

// The next token. scores_V holds the logits, −∞ beyond the vocabulary; it and weights_V are overwritten. seen_V counts
// each token's occurrences so far; `position` is that of the new token.
inline int draw(const Sampling& sampling, const int32_t* seen_V, int position, double uniform, float* scores_V,
                float* weights_V) {
  if (sampling.repetition_penalty != 1) {
    for (int token = 0; token < kVocabulary; ++token) {
      const float score = scores_V[token];
      const float changed = score < 0 ? score * sampling.repetition_penalty : score / sampling.repetition_penalty;
      scores_V[token] = seen_V[token] ? changed : score;
    }
  }
  if (position < sampling.first_end) {
    for (int i = 0; i < sampling.end_count; ++i) scores_V[sampling.ends[i]] = -kInfinity;
  }
  const int best = likeliest(scores_V);
  if (sampling.temperature == 0) return best;

  const float highest = scores_V[best] / sampling.temperature;
  for (int i = 0; i < kPaddedVocabulary; i += kLanes) {
    const Vector scores = load(scores_V + i) / sampling.temperature;
    store(scores_V + i, scores);
    store(weights_V + i, scores > -kInfinity ? exp(scores - highest) : Vector{});
  }
  if (sampling.top_k > 0) keep_top_k(scores_V, highest, sampling.top_k, weights_V);
  if (sampling.top_p < 1) keep_top_p(sampling.top_p, weights_V);
  if (sampling.min_p > 0) keep_min_p(sampling.min_p, weights_V);
  return draw_weighted(weights_V, uniform);
}

}  // namespace axion::decoding
