// The routing of one token in one layer, as it is reported to the caller.
#pragma once

#include <algorithm>

#include "dimensions.h"
#include "common/router.h"
#include "common/vector.h"

namespace axion::decoding {

// Where the routing is written: the experts and their gates, heaviest first; their affinities before the bias; and the
// displaced experts, which affinity alone would have chosen but the bias did not, in ascending order, padded with −1.
struct Trace {
  int32_t* experts_K;
  float* gates_K;
  float* affinities_K;
  int32_t* displaced_K;
};

constexpr float kNoBias_E[kExperts] = {};

// Routes a token by its router logits [padded(kExperts)].
inline void route(const float* logits_E, const float* bias_E, const Trace& trace) {
  alignas(64) float affinities_E[padded(kExperts)];
  int32_t chosen_K[kChosen], unbiased_K[kChosen];
  affinities(logits_E, affinities_E);
  choose(affinities_E, bias_E, chosen_K);
  choose(affinities_E, kNoBias_E, unbiased_K);

  std::stable_sort(chosen_K, chosen_K + kChosen, [&](int a, int b) { return affinities_E[a] > affinities_E[b]; });
  for (int k = 0; k < kChosen; ++k) {
    trace.experts_K[k] = chosen_K[k];
    trace.affinities_K[k] = affinities_E[chosen_K[k]];
  }
  weigh(affinities_E, chosen_K, trace.gates_K);

  std::sort(unbiased_K, unbiased_K + kChosen);
  int displaced = 0;
  for (int expert : unbiased_K) {
    if (std::find(chosen_K, chosen_K + kChosen, expert) == chosen_K + kChosen) trace.displaced_K[displaced++] = expert;
  }
  std::fill(trace.displaced_K + displaced, trace.displaced_K + kChosen, -1);
}

}  // namespace axion::decoding
