// Rows of hidden states: kHidden numbers in tensors, padded to whole vectors inside the kernels.
#pragma once

#include "dimensions.h"
#include "common/vector.h"

namespace axion {

constexpr int kHiddenRow = padded(kHidden);

// [T][kHidden] → [T][kHiddenRow], padded with zeros.
inline void pad_rows(int tokens, const float* from_TD, float* to_TD) {
  for (int t = 0; t < tokens; ++t, from_TD += kHidden, to_TD += kHiddenRow) {
    for (int d = 0; d < kHiddenRow; ++d) to_TD[d] = d < kHidden ? from_TD[d] : 0;
  }
}

// The residual connection: result [T][kHidden] = hidden [T][kHidden] + output [T][kHiddenRow].
inline void add_rows(int tokens, const float* hidden_TD, const float* output_TD, float* result_TD) {
  for (int t = 0; t < tokens; ++t, hidden_TD += kHidden, output_TD += kHiddenRow, result_TD += kHidden) {
    for (int d = 0; d < kHidden; ++d) result_TD[d] = hidden_TD[d] + output_TD[d];
  }
}

}  // namespace axion
