// Linear layers: full matrices, or products of two of low rank where the model has them and they need fewer operations.
//
//   y = x·W        or        h = x·A,  y = h·B
#pragma once

#include <type_traits>

#include "crew.h"
#include "dimensions.h"
#include "matvec.h"

namespace axion::decoding {

template <class Number, int In, int Out, int Rank>
struct Factors {
  static constexpr int kIn = In;
  static constexpr int kOut = Out;
  static constexpr int kRank = Rank;
  static constexpr int kPanels = Matrix<Number, Rank, Out>::kPanels;

  Matrix<Number, In, Rank> a;
  Matrix<Number, Rank, Out> b;
};

template <class Number, int In, int Out, int Rank = kKeptRank>
using Linear = std::conditional_t<(Rank > 0), Factors<Number, In, Out, Rank>, Matrix<Number, In, Out>>;

// One row of activations on its way through a linear layer: its panels can be computed in any order, by any thread.
template <class Layer>
class Product;

template <class Number, int In, int Out>
class Product<Matrix<Number, In, Out>> {
 public:
  Product(const Matrix<Number, In, Out>& weights, const float* x) : weights_(weights), x_(x) {}

  void panel(int index, float* y, bool add = false) const { multiply_panel(weights_, index, x_, y, add); }

 private:
  const Matrix<Number, In, Out>& weights_;
  const float* x_;
};

template <class Number, int In, int Out, int Rank>
class Product<Factors<Number, In, Out, Rank>> {
 public:
  // Every thread computes h for itself, which is faster than waiting for another.
  Product(const Factors<Number, In, Out, Rank>& weights, const float* x) : weights_(weights) {
    for (int panel = 0; panel < decltype(weights.a)::kPanels; ++panel) multiply_panel(weights.a, panel, x, between_);
  }

  void panel(int index, float* y, bool add = false) const { multiply_panel(weights_.b, index, between_, y, add); }

 private:
  const Factors<Number, In, Out, Rank>& weights_;
  alignas(64) float between_[room(Rank)] = {};
};

// This thread's panels of y = x·W, or of y += x·W if `add`.
template <class Layer>
inline void multiply_share(Crew crew, const Layer& weights, const float* x, float* y, bool add = false) {
  const Product<Layer> product(weights, x);
  for (int panel = crew.first(Layer::kPanels); panel < crew.last(Layer::kPanels); ++panel) {
    product.panel(panel, y, add);
  }
}

// Y = X·W, or Y += X·W if `add`, for up to kRowsAtOnce rows of activations.
template <class Number, int In, int Out, int Rank>
inline void multiply_rows(const Factors<Number, In, Out, Rank>& weights, int tokens, const float* x, int x_row,
                          float* y, int y_row, bool add = false) {
  alignas(64) float between[kRowsAtOnce * room(Rank)] = {};
  multiply_rows(weights.a, tokens, x, x_row, between, room(Rank));
  multiply_rows(weights.b, tokens, between, room(Rank), y, y_row, add);
}

}  // namespace axion::decoding
