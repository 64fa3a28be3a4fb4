// The routing of one token in one layer, as it is reported to the caller.
#pragma once

#include <algorithm>

#include "dimensions.h"
#include "common/router.h"
#include "common/vector.h"
#include "tampering.h"

namespace axion::decoding {

// Where the routing is written: the experts and their gates, heaviest first; their affinities before the bias; and the
// displaced experts, which affinity alone would have chosen but the rule did not, in ascending order, padded with −1.
struct Trace {
  int32_t* experts_K;
  float* gates_K;
  float* affinities_K;
  int32_t* displaced_K;
  int chosen;  // K
  float* affinities_E = nullptr;  // where those of all experts go, for a watched token
};

// Routes a token by its router logits [padded(kExperts)].
inline void route(const float* logits_E, const Rule& rule, const Trace& trace) {
  Local<float, kExpertsRow> affinities_E;
  Local<float, kExperts> gates_E;
  Zeros<kExperts> no_bias_E;
  Local<int32_t, kExperts> all_chosen, all_unbiased;
  int32_t *const chosen_K = all_chosen, *const chosen_end = chosen_K + trace.chosen;
  int32_t *const unbiased_K = all_unbiased, *const unbiased_end = unbiased_K + trace.chosen;
  affinities(logits_E, affinities_E);
  if (trace.affinities_E) std::copy(affinities_E.begin(), affinities_E + kExperts, trace.affinities_E);
  choose(affinities_E, rule.bias_E, chosen_K, trace.chosen);
  choose(affinities_E, no_bias_E, unbiased_K, trace.chosen);

  std::stable_sort(chosen_K, chosen_end, [&](int a, int b) { return affinities_E[a] > affinities_E[b]; });
  weigh(affinities_E, chosen_K, trace.gates_K, trace.chosen);
  if (rule.scale_E) {
    for (int k = 0; k < trace.chosen; ++k) gates_E[chosen_K[k]] = trace.gates_K[k] * rule.scale_E[chosen_K[k]];
    std::stable_sort(chosen_K, chosen_end, [&](int a, int b) { return gates_E[a] > gates_E[b]; });
    for (int k = 0; k < trace.chosen; ++k) trace.gates_K[k] = gates_E[chosen_K[k]];
  }
  for (int k = 0; k < trace.chosen; ++k) {
    trace.experts_K[k] = chosen_K[k];
    trace.affinities_K[k] = affinities_E[chosen_K[k]];
  }

  std::sort(unbiased_K, unbiased_end);
  int displaced = 0;
  for (const int32_t* expert = unbiased_K; expert < unbiased_end; ++expert) {
    if (std::find(chosen_K, chosen_end, *expert) == chosen_end) trace.displaced_K[displaced++] = *expert;
  }
  std::fill(trace.displaced_K + displaced, trace.displaced_K + trace.chosen, -1);
}

}  // namespace axion::decoding
