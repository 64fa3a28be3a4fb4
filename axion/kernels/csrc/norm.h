// Root-mean-square norm of rows:  y = g · x / √(mean(x²) + ε)
#pragma once

#include <cmath>

#include "vector.h"

namespace axion {

constexpr float kLatentEpsilon = 1e-6f;  // of the norms on the query's and the key-value latent

template <int kSize>
struct Norm {
  const float* gain;
  float epsilon;

  // 1 / √(mean(x²) + ε) of one row.
  float inverse(const float* x) const {
    float squares = 0;
#pragma omp simd reduction(+ : squares)
    for (int i = 0; i < kSize; ++i) squares += x[i] * x[i];
    return 1.0f / std::sqrt(squares / kSize + epsilon);
  }

  // y: rows of padded(kSize) numbers, zeros at the end.
  void forward(int rows, const float* x, long row_x, float* y) const {
    for (int t = 0; t < rows; ++t, x += row_x, y += padded(kSize)) {
      const float scale = inverse(x);
#pragma omp simd
      for (int i = 0; i < kSize; ++i) y[i] = gain[i] * (x[i] * scale);
      for (int i = kSize; i < padded(kSize); ++i) y[i] = 0;
    }
  }

  // With n = x / rms(x) and w = dy·g:  dx = (w − n · mean(w·n)) / rms(x),  dg += dy·n.
  //
  // dx, `row_dx` apart, is overwritten, or added to with kAdd; dy has rows of padded(kSize).
  template <bool kAdd>
  void backward(int rows, const float* x, long row_x, const float* dy, float* dx, long row_dx,
                float* gain_gradient) const {
    for (int t = 0; t < rows; ++t, x += row_x, dy += padded(kSize), dx += row_dx) {
      const float scale = inverse(x);
      float product = 0;
#pragma omp simd reduction(+ : product)
      for (int i = 0; i < kSize; ++i) product += dy[i] * gain[i] * x[i];
      const float mean = product * scale * scale / kSize;
#pragma omp simd
      for (int i = 0; i < kSize; ++i) {
        gain_gradient[i] += dy[i] * x[i] * scale;
        const float change = scale * (dy[i] * gain[i] - x[i] * mean);
        dx[i] = kAdd ? dx[i] + change : change;
      }
    }
  }
};

}  // namespace axion
