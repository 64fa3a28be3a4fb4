// A linear layer without bias, Y = X·Wᵀ, with its weight in the layouts that the products read.
//
// Shapes: W_OI is the parameter, `out` rows of `in` numbers. Rows of all matrices are padded with zeros to whole
// vectors: X has rows of padded(in), Y of padded(out).
#pragma once

#include "matrix.h"
#include "team.h"

namespace axion {

// Parameter gradient [out][in] = Σ over the threads' [out][padded(in)], always in the same order.
inline void sum_gradients(const float* const* thread_gradients, size_t offset, int threads, int out, int in, float* gradient,
                          const Team& team) {
  const int row = padded(in);
  team.blocks(out, 16, [&](int begin, int end, int) {
    for (int o = begin; o < end; ++o) {
      for (int i = 0; i < in; ++i) {
        float total = 0;
        for (int t = 0; t < threads; ++t) total += thread_gradients[t][offset + (size_t)o * row + i];
        gradient[(size_t)o * in + i] = total;
      }
    }
  });
}

template <int kIn, int kOut>
struct Linear {
  using Parameter = float*;
  static constexpr int kInRow = padded(kIn), kOutRow = padded(kOut);
  static constexpr int kBetweenRow = 0;  // see projection.h
  static constexpr size_t kGradientSize = (size_t)kOut * kInRow;

  // Floats of a packed weight. The backward pass reads a parameter whose rows are whole vectors in place.
  static constexpr size_t kForwardSpace = (size_t)kIn * kOutRow;
  static constexpr size_t kBackwardSpace = kIn == kInRow ? 0 : kGradientSize;

  const float* weight_IO = nullptr;  // [in][padded(out)], transposed
  const float* weight_OI = nullptr;  // [out][padded(in)]

  void pack_forward(const float* parameter, float* space) {
    constexpr int kStrip = 16;  // outputs at a time: a whole cache line of each row of the result
    for (int begin = 0; begin < kOutRow; begin += kStrip) {
      const int end = std::min(begin + kStrip, kOutRow);
      for (int i = 0; i < kIn; ++i) {
        for (int o = begin; o < end; ++o) space[(long)i * kOutRow + o] = o < kOut ? parameter[(long)o * kIn + i] : 0;
      }
    }
    weight_IO = space;
  }

  void pack_backward(const float* parameter, float* space) {
    weight_OI = kBackwardSpace ? space : parameter;
    if (!kBackwardSpace) return;
    for (int o = 0; o < kOut; ++o) {
      for (int i = 0; i < kInRow; ++i) space[(long)o * kInRow + i] = i < kIn ? parameter[(long)o * kIn + i] : 0;
    }
  }

  // y (rows of row_y ≥ padded(out) numbers) = x·Wᵀ
  template <bool kAdd = false>
  void forward(int rows, const float* x, long row_x, float* y, long row_y) const {
    multiply<kAdd>(rows, kOutRow, kIn, x, row_x, 1, weight_IO, kOutRow, y, row_y);
  }

  // dx (rows of row_dx ≥ padded(in) numbers) = dy·W
  template <bool kAdd = false>
  void backward_input(int rows, const float* dy, long row_dy, float* dx, long row_dx, float* = nullptr) const {
    multiply<kAdd>(rows, kInRow, kOut, dy, row_dy, 1, weight_OI, kInRow, dx, row_dx);
  }

  // dW [out][padded(in)] += dyᵀ·x
  static void backward_weight(int rows, const float* dy, long row_dy, const float* x, long row_x, float* gradient,
                              const float* = nullptr) {
    multiply<true>(kOut, kInRow, rows, dy, 1, row_dy, x, row_x, gradient, kInRow);
  }

  static void sum_threads(const float* const* thread_gradients, size_t at, int threads, float* to, const Team& team) {
    sum_gradients(thread_gradients, at, threads, kOut, kIn, to, team);
  }
};

}  // namespace axion
