// The tiles of a product (matrix.h), with strides that are constants or not.
//
// A tile of C, a few rows by a few vectors, stays in registers during the loop over k. Each k loads one vector of B per
// column of vectors and one number of A per row. 6 × 4 vectors fill 32 registers; with 16 registers it is half.
#pragma once

#include "common/vector.h"
#include "matrix.h"

namespace axion {

// Distances between the numbers of A, B and C.
struct Strides {
  long row_a, col_a, row_b, row_c;
};

// With constants the compiler computes the addresses in advance, from which products with short loops over k gain.
template <long kRowA, long kColA, long kRowB, long kRowC>
struct FixedStrides {
  static constexpr long row_a = kRowA, col_a = kColA, row_b = kRowB, row_c = kRowC;
};

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kTileVectors = 4;
#else
constexpr int kTileVectors = 2;
#endif

// Rows of a tile of this width: as many as there are registers for, beside the vectors of B and one of A.
constexpr int tile_rows(int vectors) { return vectors >= 4 ? 6 : vectors == 3 ? 8 : kTileVectors == 4 ? 8 : 6; }

template <int kRows, int kVectors, bool kAdd, class S>
inline __attribute__((always_inline)) void multiply_tile(int K, const float* a, const float* b, float* c, S s) {
  Vector sums[kRows][kVectors];
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sums[m][v] = kAdd ? load(c + m * s.row_c + v * kLanes) : Vector{};
  }
  for (int k = 0; k < K; ++k) {
    Vector b_v[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) b_v[v] = load(b + k * s.row_b + v * kLanes);
#pragma GCC unroll 8
    for (int m = 0; m < kRows; ++m) {
      const Vector a_mk = splat(a[m * s.row_a + k * s.col_a]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sums[m][v] += a_mk * b_v[v];
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store(c + m * s.row_c + v * kLanes, sums[m][v]);
  }
}

// The remaining rows of a column of tiles, fewer than a tile has.
template <int kRows, int kVectors, bool kAdd, class S>
void multiply_rest(int rows, int K, const float* a, const float* b, float* c, S s) {
  if constexpr (kRows > 0) {
    if (rows == kRows) return multiply_tile<kRows, kVectors, kAdd>(K, a, b, c, s);
    multiply_rest<kRows - 1, kVectors, kAdd>(rows, K, a, b, c, s);
  }
}

// A column of tiles: all rows of C, kVectors wide.
template <int kVectors, bool kAdd, class S>
void multiply_column(int M, int K, const float* a, const float* b, float* c, S s) {
  constexpr int kRows = tile_rows(kVectors);
  int m = 0;
  for (; m + kRows <= M; m += kRows) {
    multiply_tile<kRows, kVectors, kAdd>(K, a + m * s.row_a, b, c + m * s.row_c, s);
  }
  multiply_rest<kRows - 1, kVectors, kAdd>(M - m, K, a + m * s.row_a, b, c + m * s.row_c, s);
}

// Like multiply_column; the rows that no whole tile covers, which are few, are left to `multiply`.
template <int kVectors, bool kAdd, class S>
inline void multiply_fixed_column(int M, int K, const float* a, const float* b, float* c, S s) {
  constexpr int kRows = tile_rows(kVectors);
  int m = 0;
  for (; m + kRows <= M; m += kRows) {
    multiply_tile<kRows, kVectors, kAdd>(K, a + m * s.row_a, b, c + m * s.row_c, s);
  }
  if (m == M) return;
  multiply<kAdd>(M - m, kVectors * kLanes, K, a + m * s.row_a, s.row_a, s.col_a, b, s.row_b, c + m * s.row_c, s.row_c);
}

// A product with FixedStrides, compiled where it is called.
template <bool kAdd, class S>
inline void multiply_fixed(int M, int N, int K, const float* a, const float* b, float* c, S s) {
  constexpr int kWide = kTileVectors * kLanes;
  int n = 0;
  for (; n + kWide <= N; n += kWide) multiply_fixed_column<kTileVectors, kAdd>(M, K, a, b + n, c + n, s);
  const int vectors = (N - n) / kLanes;
  if (kTileVectors > 3 && vectors == 3) multiply_fixed_column<3, kAdd>(M, K, a, b + n, c + n, s);
  if (kTileVectors > 2 && vectors == 2) multiply_fixed_column<2, kAdd>(M, K, a, b + n, c + n, s);
  if (vectors == 1) multiply_fixed_column<1, kAdd>(M, K, a, b + n, c + n, s);
}

}  // namespace axion
