// Routing: which experts read a token, and their weights (DeepSeek-V3 report, equations 12 to 16).
//
//   s_e = σ(W_router·n)_e       chosen: the kChosen largest s_e + bias_e, in the kTopGroups best groups
//                               (another number where a model is tampered with)
//   w_e = kRoutedScale · s_e / Σ_chosen s          (kNormalise; otherwise kRoutedScale · s_e)
//
// A group's score is the sum of its two largest s_e + bias_e. Ties go to the lower index.
#pragma once

#include "dimensions.h"
#include "size.h"
#include "vector.h"

namespace axion {

inline constexpr Size kExpertsRow{[] { return padded(kExperts); }};

// Affinities [kExpertsRow] of one token from its logits [kExpertsRow].
inline void affinities(const float* logits_E, float* scores_E) {
  for (int e = 0; e < kExpertsRow; e += kLanes) store(scores_E + e, sigmoid(load(logits_E + e)));
}

// Gives experts outside the best groups a score that is never chosen.
inline void close_groups(float* corrected_E) {
  const int size = kExperts / kGroups;
  Local<float, kGroups> group_scores;
  for (int g = 0; g < kGroups; ++g) {
    float best = -1e30f, second = -1e30f;
    for (int e = g * size; e < (g + 1) * size; ++e) {
      const float score = corrected_E[e];
      if (score > best) {
        second = best;
        best = score;
      } else if (score > second) {
        second = score;
      }
    }
    group_scores[g] = best + second;
  }
  for (int closed = 0; closed < kGroups - kTopGroups; ++closed) {
    int worst = 0;
    for (int g = 1; g < kGroups; ++g) worst = group_scores[g] <= group_scores[worst] ? g : worst;
    group_scores[worst] = 1e30f;
    for (int e = worst * size; e < (worst + 1) * size; ++e) corrected_E[e] = -1e30f;
  }
}

// The experts of one token in descending order of corrected affinity.
inline void choose(const float* scores_E, const float* bias_E, int32_t* experts_K, int chosen = kChosen) {
  Local<float, kExperts> corrected_E;
  for (int e = 0; e < kExperts; ++e) corrected_E[e] = scores_E[e] + bias_E[e];
  if (kTopGroups < kGroups) close_groups(corrected_E);
  for (int k = 0; k < chosen; ++k) {
    int best = 0;
    for (int e = 1; e < kExperts; ++e) best = corrected_E[e] > corrected_E[best] ? e : best;
    experts_K[k] = best;
    corrected_E[best] = -2e30f;
  }
}

// The divisor of the weights.
inline float weight_divisor(const float* scores_E, const int32_t* experts_K, int chosen = kChosen) {
  if (!kNormalise) return 1;
  float total = 1e-20f;
  for (int k = 0; k < chosen; ++k) total += scores_E[experts_K[k]];
  return total;
}

inline void weigh(const float* scores_E, const int32_t* experts_K, float* weights_K, int chosen = kChosen) {
  const float divisor = weight_divisor(scores_E, experts_K, chosen);
  for (int k = 0; k < chosen; ++k) weights_K[k] = kRoutedScale * (scores_E[experts_K[k]] / divisor);
}

// dlogits [kExperts] += the gradient through the weights.
inline void weigh_backward(const float* scores_E, const int32_t* experts_K, const float* dweights_K, float* dlogits_E) {
  const float divisor = weight_divisor(scores_E, experts_K);
  float mean = 0;
  if (kNormalise) {
    for (int k = 0; k < kChosen; ++k) mean += dweights_K[k] * scores_E[experts_K[k]] / divisor;
  }
  for (int k = 0; k < kChosen; ++k) {
    const float score = scores_E[experts_K[k]];
    dlogits_E[experts_K[k]] += kRoutedScale * (dweights_K[k] - mean) / divisor * score * (1 - score);
  }
}

}  // namespace axion
