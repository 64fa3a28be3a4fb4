// The products of matrix.h, in tiles.
//
// A tile of C, a few rows by a few vectors, stays in registers during the loop over k. Each k loads one vector of B per
// column of vectors and one number of A per row. 6 × 4 vectors fill 32 registers; with 16 registers it is half.
//
// Every column of tiles reads all of A, and every tile its vectors of B. A long loop over k is therefore divided, so
// that these stay in the second-level cache.
#include "matrix.h"

namespace axion {
namespace {

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kTileVectors = 4;
#else
constexpr int kTileVectors = 2;
#endif

constexpr int kDepth = 512;

// Rows of a tile of this width: as many as there are registers for, beside the vectors of B and one of A.
constexpr int tile_rows(int vectors) { return vectors >= 4 ? 6 : vectors == 3 ? 8 : kTileVectors == 4 ? 8 : 6; }

template <int kRows, int kVectors, bool kAdd>
inline void multiply_tile(int K, const float* a, long row_a, long col_a, const float* b, long row_b, float* c,
                          long row_c) {
  Vector sums[kRows][kVectors];
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sums[m][v] = kAdd ? load(c + m * row_c + v * kLanes) : Vector{};
  }
  for (int k = 0; k < K; ++k) {
    Vector b_v[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) b_v[v] = load(b + k * row_b + v * kLanes);
#pragma GCC unroll 8
    for (int m = 0; m < kRows; ++m) {
      const Vector a_mk = splat(a[m * row_a + k * col_a]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sums[m][v] += a_mk * b_v[v];
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store(c + m * row_c + v * kLanes, sums[m][v]);
  }
}

// The remaining rows of a column of tiles, fewer than a tile has.
template <int kRows, int kVectors, bool kAdd>
void multiply_rest(int rows, int K, const float* a, long row_a, long col_a, const float* b, long row_b, float* c,
                   long row_c) {
  if constexpr (kRows > 0) {
    if (rows == kRows) return multiply_tile<kRows, kVectors, kAdd>(K, a, row_a, col_a, b, row_b, c, row_c);
    multiply_rest<kRows - 1, kVectors, kAdd>(rows, K, a, row_a, col_a, b, row_b, c, row_c);
  }
}

// A column of tiles: all rows of C, kVectors wide.
template <int kVectors, bool kAdd>
void multiply_column(int M, int K, const float* a, long row_a, long col_a, const float* b, long row_b, float* c,
                     long row_c) {
  constexpr int kRows = tile_rows(kVectors);
  int m = 0;
  for (; m + kRows <= M; m += kRows) {
    multiply_tile<kRows, kVectors, kAdd>(K, a + m * row_a, row_a, col_a, b, row_b, c + m * row_c, row_c);
  }
  multiply_rest<kRows - 1, kVectors, kAdd>(M - m, K, a + m * row_a, row_a, col_a, b, row_b, c + m * row_c, row_c);
}

// A part of the loop over k, and all columns of C.
template <bool kAdd>
void multiply_part(int M, int N, int K, const float* a, long row_a, long col_a, const float* b, long row_b, float* c,
                   long row_c) {
  constexpr int kWide = kTileVectors * kLanes;
  int n = 0;
  for (; n + kWide <= N; n += kWide) {
    multiply_column<kTileVectors, kAdd>(M, K, a, row_a, col_a, b + n, row_b, c + n, row_c);
  }
  const int vectors = (N - n) / kLanes;
  if (kTileVectors > 3 && vectors == 3) multiply_column<3, kAdd>(M, K, a, row_a, col_a, b + n, row_b, c + n, row_c);
  if (kTileVectors > 2 && vectors == 2) multiply_column<2, kAdd>(M, K, a, row_a, col_a, b + n, row_b, c + n, row_c);
  if (vectors == 1) multiply_column<1, kAdd>(M, K, a, row_a, col_a, b + n, row_b, c + n, row_c);
}

}  // namespace

template <bool kAdd>
void multiply(int M, int N, int K, const float* a, long row_a, long col_a, const float* b, long row_b, float* c,
              long row_c) {
  multiply_part<kAdd>(M, N, K < kDepth ? K : kDepth, a, row_a, col_a, b, row_b, c, row_c);
  for (int k = kDepth; k < K; k += kDepth) {
    const int depth = K - k < kDepth ? K - k : kDepth;
    multiply_part<true>(M, N, depth, a + k * col_a, row_a, col_a, b + k * row_b, row_b, c, row_c);
  }
}

template void multiply<false>(int, int, int, const float*, long, long, const float*, long, float*, long);
template void multiply<true>(int, int, int, const float*, long, long, const float*, long, float*, long);

}  // namespace axion
