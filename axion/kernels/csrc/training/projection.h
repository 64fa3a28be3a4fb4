// The matrices of grouped-query attention and of SwiGLU: full ones, or with kProjectionRank products of two.
//
//   Y = X·Wᵀ      or      H = X·Aᵀ,  Y = H·Bᵀ
//
// Low rank is computed factor by factor, never as the matrix B·A. For a token that takes rank · (in + out)
// multiply-adds instead of in · out: in mini-axion1-0.9m, with rank 16, a ninth for a whole layer.
#pragma once

#include <type_traits>

#include "dimensions.h"
#include "linear.h"
#include "scratch.h"

namespace axion {

struct Factors {
  float *a, *b;  // [rank][in], [out][rank]
};

// As Linear. In the backward pass `dbetween`, rows of kBetweenRow numbers, takes the gradient of H from backward_input
// to backward_weight, which therefore comes second.
template <int kIn, int kOut>
struct LowRank {
  using Parameter = Factors;
  using A = Linear<kIn, kProjectionRank>;
  using B = Linear<kProjectionRank, kOut>;
  static constexpr int kBetweenRow = padded(kProjectionRank);
  static constexpr size_t kGradientSize = A::kGradientSize + B::kGradientSize;
  static constexpr size_t kForwardSpace = A::kForwardSpace + B::kForwardSpace;
  static constexpr size_t kBackwardSpace = A::kForwardSpace + A::kBackwardSpace + B::kBackwardSpace;

  A a;
  B b;

  void pack_forward(Factors p, float* space) {
    a.pack_forward(p.a, space);
    b.pack_forward(p.b, space + A::kForwardSpace);
  }

  void pack_backward(Factors p, float* space) {
    a.pack_forward(p.a, space);  // for H again
    a.pack_backward(p.a, space + A::kForwardSpace);
    b.pack_backward(p.b, space + A::kForwardSpace + A::kBackwardSpace);
  }

  void forward(int rows, const float* x, long row_x, float* y, long row_y) const {
    Scratch scratch;
    float* between = scratch.take((size_t)rows * kBetweenRow);
    a.forward(rows, x, row_x, between, kBetweenRow);
    b.forward(rows, between, kBetweenRow, y, row_y);
  }

  template <bool kAdd = false>
  void backward_input(int rows, const float* dy, long row_dy, float* dx, long row_dx, float* dbetween) const {
    b.backward_input(rows, dy, row_dy, dbetween, kBetweenRow);
    a.template backward_input<kAdd>(rows, dbetween, kBetweenRow, dx, row_dx);
  }

  void backward_weight(int rows, const float* dy, long row_dy, const float* x, long row_x, float* gradient,
                       const float* dbetween) const {
    Scratch scratch;
    float* between = scratch.take((size_t)rows * kBetweenRow);
    a.forward(rows, x, row_x, between, kBetweenRow);
    A::backward_weight(rows, dbetween, kBetweenRow, x, row_x, gradient);
    B::backward_weight(rows, dy, row_dy, between, kBetweenRow, gradient + A::kGradientSize);
  }

  static void sum_threads(const float* const* thread_gradients, size_t at, int threads, Factors to, const Team& team) {
    A::sum_threads(thread_gradients, at, threads, to.a, team);
    B::sum_threads(thread_gradients, at + A::kGradientSize, threads, to.b, team);
  }
};

template <int kIn, int kOut>
using Projection = std::conditional_t<(kProjectionRank > 0), LowRank<kIn, kOut>, Linear<kIn, kOut>>;

using ProjectionParameter = std::conditional_t<(kProjectionRank > 0), Factors, float*>;

}  // namespace axion
