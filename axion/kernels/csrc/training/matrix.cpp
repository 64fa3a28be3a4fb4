// The products of matrix.h.
//
// Every column of tiles reads all of A, and every tile its vectors of B. A long loop over k is therefore divided, so
// that these stay in the second-level cache.
//
// For the gradient of a weight, A is read column by column, from another cache line for every k. There the vectors of B
// are copied next to each other and the loop is divided further, so that they stay in the first-level cache beside A.
#include "matrix.h"

#include "tiles.h"

namespace axion {
namespace {

constexpr int kWide = kTileVectors * kLanes;
constexpr int kDepth = 512, kPackedDepth = 128;
constexpr int kRowsWorthPacking = 96;

// The first columns of C, kWide at a time, from copies of those of B. Returns how many they are.
template <bool kAdd>
int multiply_packed(int M, int N, int K, const float* a, const float* b, float* c, Strides s) {
  alignas(64) float packed_b[kPackedDepth * kWide];
  int n = 0;
  for (; n + kWide <= N; n += kWide) {
    for (int k = 0; k < K; ++k) {
#pragma GCC unroll 4
      for (int v = 0; v < kWide; v += kLanes) store(packed_b + k * kWide + v, load(b + k * s.row_b + n + v));
    }
    multiply_column<kTileVectors, kAdd>(M, K, a, packed_b, c + n, Strides{s.row_a, s.col_a, kWide, s.row_c});
  }
  return n;
}

// A part of the loop over k, and all columns of C.
template <bool kAdd>
void multiply_part(int M, int N, int K, const float* a, const float* b, float* c, Strides s, bool pack) {
  int n = pack ? multiply_packed<kAdd>(M, N, K, a, b, c, s) : 0;
  for (; n + kWide <= N; n += kWide) {
    multiply_column<kTileVectors, kAdd>(M, K, a, b + n, c + n, s);
  }
  const int vectors = (N - n) / kLanes;
  if (kTileVectors > 3 && vectors == 3) multiply_column<3, kAdd>(M, K, a, b + n, c + n, s);
  if (kTileVectors > 2 && vectors == 2) multiply_column<2, kAdd>(M, K, a, b + n, c + n, s);
  if (vectors == 1) multiply_column<1, kAdd>(M, K, a, b + n, c + n, s);
}

}  // namespace

template <bool kAdd>
void multiply(int M, int N, int K, const float* a, long row_a, long col_a, const float* b, long row_b, float* c,
              long row_c) {
  const Strides s{row_a, col_a, row_b, row_c};
  const bool pack = col_a != 1 && M >= kRowsWorthPacking && row_b > kWide;
  const int most = pack ? kPackedDepth : kDepth;
  multiply_part<kAdd>(M, N, K < most ? K : most, a, b, c, s, pack);
  for (int k = most; k < K; k += most) {
    const int depth = K - k < most ? K - k : most;
    multiply_part<true>(M, N, depth, a + k * col_a, b + k * row_b, c, s, pack);
  }
}

template void multiply<false>(int, int, int, const float*, long, long, const float*, long, float*, long);
template void multiply<true>(int, int, int, const float*, long, long, const float*, long, float*, long);

}  // namespace axion
