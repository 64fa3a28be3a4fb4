// Vectors of floats as wide as the processor's registers, by the vector extensions that GCC and Clang share.
//
// A Vector behaves like a number: +, −, ·, / and comparisons work lane by lane, and a scalar operand goes to every
// lane. The same source becomes AVX-512, AVX2, SSE or NEON, by the compiler's flags alone.
#pragma once

#include <cstdint>
#include <cstring>

namespace axion {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float Vector __attribute__((vector_size(4 * kLanes)));
typedef int32_t IntVector __attribute__((vector_size(4 * kLanes)));

// A size rounded up to whole vectors. Every internal matrix has rows of such a length, filled up with zeros.
constexpr int padded(int size) { return (size + kLanes - 1) / kLanes * kLanes; }

inline Vector load(const float* from) {
  Vector vector;
  std::memcpy(&vector, from, sizeof vector);  // any address; compiles to one unaligned load
  return vector;
}

inline void store(float* to, Vector vector) { std::memcpy(to, &vector, sizeof vector); }

inline Vector splat(float value) { return Vector{} + value; }

inline Vector max(Vector a, Vector b) { return a > b ? a : b; }

inline Vector min(Vector a, Vector b) { return a < b ? a : b; }

inline float sum(Vector vector) {
  float total = 0;
  for (int lane = 0; lane < kLanes; ++lane) total += vector[lane];
  return total;
}

inline float largest(Vector vector) {
  float found = vector[0];
  for (int lane = 1; lane < kLanes; ++lane) found = vector[lane] > found ? vector[lane] : found;
  return found;
}

// 2^x for x ≤ 127, to about 1e-7 of the result; 2^-126 and below end at about 1e-38.
//
// x = n + r with a whole n and |r| ≤ ½. Adding 1.5·2^23 rounds x to n and leaves n in the sum's lowest bits, from where
// it is shifted into the exponent of 2^r, a polynomial (minimax, degree 6).
inline Vector exp2(Vector x) {
  const Vector round = splat(12582912.0f);
  x = max(x, splat(-126.0f));
  Vector shifted = x + round;
  Vector r = x - (shifted - round);
  Vector power = r * 1.535336188319500e-4f + 1.339887440266574e-3f;
  power = power * r + 9.618437357674640e-3f;
  power = power * r + 5.550332471162809e-2f;
  power = power * r + 2.402264791363012e-1f;
  power = power * r + 6.931472028550421e-1f;
  power = power * r + 1.0f;
  return (Vector)((IntVector)power + ((IntVector)shifted << 23));
}

constexpr float kLog2E = 1.44269504088896341f;

// e^x; from 88 on about 1.7e38, so that no infinity comes out of a finite x.
inline Vector exp(Vector x) { return exp2(min(x * kLog2E, splat(127.0f))); }

inline Vector sigmoid(Vector x) { return 1.0f / (1.0f + exp(-x)); }

}  // namespace axion
