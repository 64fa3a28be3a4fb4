// Matrix products for matrices whose rows are whole vectors long.
//
//   C_MN  =  Σ_k A(m, k) · B_KN      or, with kAdd,   C_MN += …
//
// A is read number by number, so it may be stored transposed: A(m, k) = a[m·row_a + k·col_a]. One product thus covers a
// layer's forward pass (Y = X·Wᵀ), the gradient of its input (dX = dY·W) and of its weight (dW = dYᵀ·X).
#pragma once

#include "common/vector.h"

namespace axion {

// C: M rows of N numbers, N a multiple of kLanes.
template <bool kAdd>
void multiply(int M, int N, int K, const float* a, long row_a, long col_a, const float* b, long row_b, float* c,
              long row_c);

extern template void multiply<false>(int, int, int, const float*, long, long, const float*, long, float*, long);
extern template void multiply<true>(int, int, int, const float*, long, long, const float*, long, float*, long);

}  // namespace axion
