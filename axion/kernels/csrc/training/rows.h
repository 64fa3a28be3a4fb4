// Rows of hidden states: kHidden numbers in tensors, padded to whole vectors inside the kernels.
#pragma once

#include "dimensions.h"
#include "common/vector.h"
#include "dropout.h"

namespace axion {

constexpr int kHiddenRow = padded(kHidden);

// The gradient of a block's output from that of its result: [T][kHidden] → [T][kHiddenRow], padded with zeros. `dropout`
// is null without dropout; `first` is the number of the first token.
inline void pad_rows(int tokens, const float* from_TD, float* to_TD, const Dropout* dropout = nullptr, long first = 0) {
  for (int t = 0; t < tokens; ++t, from_TD += kHidden, to_TD += kHiddenRow) {
    if (dropout) {
      const Dropout drop = *dropout;
      const uint32_t at = (uint32_t)(first + t) * kHidden;
#pragma omp simd
      for (int d = 0; d < kHidden; ++d) to_TD[d] = from_TD[d] * drop.factor(at + d);
    } else {
      for (int d = 0; d < kHidden; ++d) to_TD[d] = from_TD[d];
    }
    for (int d = kHidden; d < kHiddenRow; ++d) to_TD[d] = 0;
  }
}

// The residual connection: result [T][kHidden] = hidden [T][kHidden] + output [T][kHiddenRow], dropped out as above.
inline void add_rows(int tokens, const float* hidden_TD, const float* output_TD, float* result_TD,
                     const Dropout* dropout = nullptr, long first = 0) {
  for (int t = 0; t < tokens; ++t, hidden_TD += kHidden, output_TD += kHiddenRow, result_TD += kHidden) {
    if (dropout) {
      const Dropout drop = *dropout;
      const uint32_t at = (uint32_t)(first + t) * kHidden;
#pragma omp simd
      for (int d = 0; d < kHidden; ++d) result_TD[d] = hidden_TD[d] + output_TD[d] * drop.factor(at + d);
    } else {
      for (int d = 0; d < kHidden; ++d) result_TD[d] = hidden_TD[d] + output_TD[d];
    }
  }
}

}  // namespace axion
