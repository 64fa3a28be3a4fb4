// Rearranging the lanes of vectors.
#pragma once

#include <utility>

#include "vector.h"

namespace axion {

struct Halves {
  Vector even, odd;
};

// The even lanes of a and then of b, and the odd ones.
#if defined(__clang__)
template <int... lane>
inline Halves divide(Vector a, Vector b, std::integer_sequence<int, lane...>) {
  return {__builtin_shufflevector(a, b, (2 * lane)...), __builtin_shufflevector(a, b, (2 * lane + 1)...)};
}
#else
template <int... lane>
inline Halves divide(Vector a, Vector b, std::integer_sequence<int, lane...>) {
  return {__builtin_shuffle(a, b, IntVector{(2 * lane)...}), __builtin_shuffle(a, b, IntVector{(2 * lane + 1)...})};
}
#endif

inline Halves divide(Vector a, Vector b) { return divide(a, b, std::make_integer_sequence<int, kLanes>{}); }

inline IntVector lane_numbers() {
  IntVector numbers;
  for (int lane = 0; lane < kLanes; ++lane) numbers[lane] = lane;
  return numbers;
}

// Transposes a square of numbers.
//
// A number's place is written as the bits of its row and then those of its lane. Every round moves the last bit to the
// front, so that after half of all rounds the lane is the row.
inline void transpose(Vector (&square)[kLanes]) {
#pragma GCC unroll 4
  for (int bit = 1; bit < kLanes; bit *= 2) {
    Vector moved[kLanes];
#pragma GCC unroll 8
    for (int i = 0; i < kLanes / 2; ++i) {
      const Halves halves = divide(square[2 * i], square[2 * i + 1]);
      moved[i] = halves.even;
      moved[i + kLanes / 2] = halves.odd;
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) square[i] = moved[i];
  }
}

}  // namespace axion
