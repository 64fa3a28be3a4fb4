// The products of matrix.h.
//
// Every column of tiles reads all of A, and every tile its vectors of B. A long loop over k is therefore divided, so
// that these stay in the second-level cache.
#include "matrix.h"

#include "tiles.h"

namespace axion {
namespace {

constexpr int kDepth = 512;

// A part of the loop over k, and all columns of C.
template <bool kAdd>
void multiply_part(int M, int N, int K, const float* a, const float* b, float* c, Strides s) {
  constexpr int kWide = kTileVectors * kLanes;
  int n = 0;
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
  multiply_part<kAdd>(M, N, K < kDepth ? K : kDepth, a, b, c, s);
  for (int k = kDepth; k < K; k += kDepth) {
    const int depth = K - k < kDepth ? K - k : kDepth;
    multiply_part<true>(M, N, depth, a + k * col_a, b + k * row_b, c, s);
  }
}

template void multiply<false>(int, int, int, const float*, long, long, const float*, long, float*, long);
template void multiply<true>(int, int, int, const float*, long, long, const float*, long, float*, long);

}  // namespace axion
