// Rotary positions: each pair of numbers is turned by its position's angle.
//
//   (a, b) → (a·cos − b·sin, b·cos + a·sin)
//
// Pairs are neighbours or lie half the part's width apart (kInterleave), and stay where they are: queries and keys
// agree on the order, so their products do not see it. The gradient is turned the other way.
#pragma once

#include "dimensions.h"

namespace axion {

template <bool kBack = false>
inline void rotate(float* part, const float* cos, const float* sin) {
  constexpr int kPairs = kRope / 2;
  for (int pair = 0; pair < kPairs; ++pair) {
    float& first = part[kInterleave ? 2 * pair : pair];
    float& second = part[kInterleave ? 2 * pair + 1 : pair + kPairs];
    const float a = first, b = second, s = kBack ? -sin[pair] : sin[pair];
    first = a * cos[pair] - b * s;
    second = b * cos[pair] + a * s;
  }
}

}  // namespace axion
