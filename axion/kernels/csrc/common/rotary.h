// Rotary positions: each pair of numbers is rotated by the angle of its position.
//
//   (a, b) → (a·cos − b·sin, b·cos + a·sin)
//
// Pairs are neighbours (kInterleave) or half the part's width apart, and are rotated in place: queries and keys have
// the same order, so their products do not depend on it. The gradient is rotated the other way.
#pragma once

#include "dimensions.h"

namespace axion {

template <bool kBack = false>
inline void rotate(float* part, const float* cos, const float* sin) {
  const int pairs = kRope / 2;
  for (int pair = 0; pair < pairs; ++pair) {
    float& first = part[kInterleave ? 2 * pair : pair];
    float& second = part[kInterleave ? 2 * pair + 1 : pair + pairs];
    const float a = first, b = second, s = kBack ? -sin[pair] : sin[pair];
    first = a * cos[pair] - b * s;
    second = b * cos[pair] + a * s;
  }
}

}  // namespace axion
