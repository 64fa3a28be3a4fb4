// Sums and maxima over the lanes of vectors, by shuffles.
#pragma once

#include "common/shuffle.h"

namespace axion::decoding {

// Sums of neighbouring lanes: first those of a, then those of b.
inline Vector pair_sums(Vector a, Vector b) {
  const Halves halves = divide(a, b);
  return halves.even + halves.odd;
}

// Lane i of the result is the sum of all lanes of vectors[i].
inline Vector sums_of(Vector (&vectors)[kLanes]) {
#pragma GCC unroll 4
  for (int left = kLanes / 2; left > 0; left /= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < left; ++i) vectors[i] = pair_sums(vectors[2 * i], vectors[2 * i + 1]);
  }
  return vectors[0];
}

inline float fast_sum(Vector vector) {
#pragma GCC unroll 4
  for (int left = kLanes / 2; left > 0; left /= 2) vector = pair_sums(vector, vector);
  return vector[0];
}

inline float fast_largest(Vector vector) {
#pragma GCC unroll 4
  for (int left = kLanes / 2; left > 0; left /= 2) {
    const Halves halves = divide(vector, vector);
    vector = max(halves.even, halves.odd);
  }
  return vector[0];
}

}  // namespace axion::decoding
