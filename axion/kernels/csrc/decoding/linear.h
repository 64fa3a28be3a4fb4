// Linear layers: full matrices, or products of two of low rank where the model has them and they need fewer operations.
//
//   y = x·W        or        h = x·A,  y = h·B
#pragma once

#include "crew.h"
#include "dimensions.h"
#include "matvec.h"

namespace axion::decoding {

// Of rank 0 it is a full matrix.
template <class Number, const auto& kIn, const auto& kOut, const auto& kRank = kKeptRank>
struct Linear {
  Matrix<Number, kIn, kOut> whole;
  Matrix<Number, kIn, kRank> a;
  Matrix<Number, kRank, kOut> b;

  static bool is_whole() { return kRank == 0; }
  static int panels() { return Matrix<Number, kIn, kOut>::panels(); }
};

// One row of activations on its way through a linear layer: its panels can be computed in any order, by any thread.
template <class Layer>
class Product;

template <class Layer>
Product(const Layer&, const float*) -> Product<Layer>;

template <class Number, const auto& kIn, const auto& kOut, const auto& kRank>
class Product<Linear<Number, kIn, kOut, kRank>> {
 public:
  // Every thread computes h for itself, which is faster than waiting for another.
  Product(const Linear<Number, kIn, kOut, kRank>& weights, const float* x) : weights_(weights), x_(x) {
    if (!weights.is_whole()) multiply(weights.a, x, between_);
  }

  void panel(int index, float* y, bool add = false) const {
    if (weights_.is_whole()) {
      multiply_panel(weights_.whole, index, x_, y, add);
    } else {
      multiply_panel(weights_.b, index, between_, y, add);
    }
  }

 private:
  const Linear<Number, kIn, kOut, kRank>& weights_;
  const float* x_;
  Zeros<kRoom<kRank>> between_;
};

// This thread's panels of y = x·W, or of y += x·W if `add`.
template <class Layer>
inline void multiply_share(Crew crew, const Layer& weights, const float* x, float* y, bool add = false) {
  const Product<Layer> product(weights, x);
  for (int panel = crew.first(Layer::panels()); panel < crew.last(Layer::panels()); ++panel) {
    product.panel(panel, y, add);
  }
}

template <const auto& kRank>
struct RoomOfRows {
  constexpr int operator()() const { return kRowsAtOnce * room(kRank); }
};

template <const auto& kRank>
inline constexpr Size<RoomOfRows<kRank>> kRoomOfRows{};

// Y = X·W, or Y += X·W if `add`, for up to kRowsAtOnce rows of activations.
template <class Number, const auto& kIn, const auto& kOut, const auto& kRank>
inline void multiply_rows(const Linear<Number, kIn, kOut, kRank>& weights, int tokens, const float* x, int x_row,
                          float* y, int y_row, bool add = false) {
  if (weights.is_whole()) return multiply_rows(weights.whole, tokens, x, x_row, y, y_row, add);
  Zeros<kRoomOfRows<kRank>> between;
  multiply_rows(weights.a, tokens, x, x_row, between, room(kRank));
  multiply_rows(weights.b, tokens, between, room(kRank), y, y_row, add);
}

}  // namespace axion::decoding
