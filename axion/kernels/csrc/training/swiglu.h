// The gated feed-forward part of an expert, the shared experts or a dense layer:
//
//   g = W_gate·x      u = W_up·x      y = W_down·(g·σ(g)·u)
//
// g and u are saved for the backward pass, side by side: [rows][padded(width) | padded(width)].
#pragma once

#include "dimensions.h"
#include "projection.h"
#include "rows.h"
#include "scratch.h"

namespace axion {

struct SwigluParameters {
  ProjectionParameter gate, up, down;
};

template <int kWidth>
struct Swiglu {
  static constexpr int kRow = padded(kWidth), kSavedRow = 2 * kRow;
  using In = Projection<kHidden, kWidth>;
  using Out = Projection<kWidth, kHidden>;
  // Layout of a thread's gradients: gate, up, down.
  static constexpr size_t kUpAt = In::kGradientSize, kDownAt = 2 * In::kGradientSize;
  static constexpr size_t kGradients = kDownAt + Out::kGradientSize;

  In gate, up;
  Out down;

  static constexpr size_t kForwardSpace = 2 * In::kForwardSpace + Out::kForwardSpace;
  static constexpr size_t kBackwardSpace = 2 * In::kBackwardSpace + Out::kBackwardSpace;

  void pack_forward(const SwigluParameters& p, float* space) {
    gate.pack_forward(p.gate, space);
    up.pack_forward(p.up, space + In::kForwardSpace);
    down.pack_forward(p.down, space + 2 * In::kForwardSpace);
  }

  void pack_backward(const SwigluParameters& p, float* space) {
    gate.pack_backward(p.gate, space);
    up.pack_backward(p.up, space + In::kBackwardSpace);
    down.pack_backward(p.down, space + 2 * In::kBackwardSpace);
  }

  // y [rows][kHiddenRow] from x [rows][kHiddenRow].
  void forward(int rows, const float* x, float* saved, float* y) const {
    Scratch scratch;
    float* inner = scratch.take((size_t)rows * kRow);
    gate.forward(rows, x, kHiddenRow, saved, kSavedRow);
    up.forward(rows, x, kHiddenRow, saved + kRow, kSavedRow);
    for (int t = 0; t < rows; ++t) {
      for (int i = 0; i < kRow; i += kLanes) {
        const Vector g = load(saved + t * kSavedRow + i), u = load(saved + t * kSavedRow + kRow + i);
        store(inner + t * kRow + i, g * sigmoid(g) * u);
      }
    }
    down.forward(rows, inner, kRow, y, kHiddenRow);
  }

  // Writes dx and adds the parameters' gradients of Σ_t weights[t]·y_t; dweights[t] = y_t·dy_t. If weights is null, all
  // weights are 1.
  void backward(int rows, const float* x, const float* saved, const float* dy, const float* weights, float* dx,
                float* dweights, float* gradients) const {
    Scratch scratch;
    float* inner = scratch.take((size_t)rows * kRow);
    float* dinner = scratch.take((size_t)rows * kRow);
    float* dsaved = scratch.take((size_t)rows * kSavedRow);
    float* dbetween = scratch.take((size_t)rows * In::kBetweenRow);
    down.backward_input(rows, dy, kHiddenRow, dinner, kRow, dbetween);
    for (int t = 0; t < rows; ++t) {
      const Vector weight = splat(weights ? weights[t] : 1);
      Vector product = {};
      for (int i = 0; i < kRow; i += kLanes) {
        const Vector g = load(saved + t * kSavedRow + i), u = load(saved + t * kSavedRow + kRow + i);
        const Vector s = sigmoid(g), swish = g * s, d = load(dinner + t * kRow + i);
        product += swish * u * d;
        store(inner + t * kRow + i, weight * swish * u);
        store(dsaved + t * kSavedRow + i, weight * d * u * (s + swish * (1.0f - s)));
        store(dsaved + t * kSavedRow + kRow + i, weight * d * swish);
      }
      if (weights) dweights[t] = sum(product);
    }
    down.backward_weight(rows, dy, kHiddenRow, inner, kRow, gradients + kDownAt, dbetween);
    gate.backward_input(rows, dsaved, kSavedRow, dx, kHiddenRow, dbetween);
    gate.backward_weight(rows, dsaved, kSavedRow, x, kHiddenRow, gradients, dbetween);
    up.template backward_input<true>(rows, dsaved + kRow, kSavedRow, dx, kHiddenRow, dbetween);
    up.backward_weight(rows, dsaved + kRow, kSavedRow, x, kHiddenRow, gradients + kUpAt, dbetween);
  }

  static void sum_threads(const float* const* thread_gradients, size_t at, int threads, const SwigluParameters& to,
                          const Team& team) {
    In::sum_threads(thread_gradients, at, threads, to.gate, team);
    In::sum_threads(thread_gradients, at + kUpAt, threads, to.up, team);
    Out::sum_threads(thread_gradients, at + kDownAt, threads, to.down, team);
  }
};

}  // namespace axion
