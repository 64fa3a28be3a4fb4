// The decoder's packed weights, which pack.h fills.
#pragma once

#include <type_traits>
#include <vector>

#include "attention.h"
#include "dimensions.h"
#include "floats.h"
#include "linear.h"

namespace axion::decoding {

// SwiGLU: down(silu(gate(x))·up(x))
template <class Number, const auto& kWidth>
struct FeedForward {
  using In = Linear<Number, kHidden, kWidth>;
  using Out = Linear<Number, kWidth, kHidden>;
  In gate, up;
  Out down;

  static int width() { return kWidth; }
};

// The router is always fp32: the choice of experts must not depend on rounding.
template <class Number>
struct Mixture {
  Matrix<float, kHidden, kExperts> router;
  float* bias_E = nullptr;
  FeedForward<Number, kSharedWidth> shared;
  std::vector<FeedForward<Number, kExpertWidth>> experts{static_cast<size_t>(kExperts)};
};

// Multi-token prediction: a layer that reads the next token's embedding and the decoder's output, side by side.
template <class Number>
struct Prediction {
  Matrix<Number, kJoined, kHidden> join;
  Attention<Number> attention;
  Mixture<Number> mixture;
  float* norm_D = nullptr;
};

// Hands out parts of one block of memory, or without a block counts what they need.
class Places {
 public:
  explicit Places(char* block = nullptr) : block_(block) {}

  size_t used() const { return used_; }

  template <class Number>
  void place(Number*& numbers, size_t count) {
    if (block_) numbers = reinterpret_cast<Number*>(block_ + used_);
    used_ += (count * sizeof(Number) + 63) / 64 * 64;
  }

  template <class Number, const auto& kIn, const auto& kOut>
  void place(Matrix<Number, kIn, kOut>& matrix) {
    place(matrix.numbers, matrix.size());
    if (kIsScaled<Number>) place(matrix.scales, padded(kOut));
  }

  template <class Number, const auto& kIn, const auto& kOut, const auto& kRank>
  void place(Linear<Number, kIn, kOut, kRank>& layer) {
    if (layer.is_whole()) return place(layer.whole);
    place(layer.a);
    place(layer.b);
  }

  template <class Number>
  void place(Attention<Number>& layer) {
    place(layer.compress);
    place(layer.query);
    for (auto& matrix : layer.key_up) place(matrix);
    for (auto& matrix : layer.value_up) place(matrix);
    place(layer.output);
  }

  template <class Number, const auto& kWidth>
  void place(FeedForward<Number, kWidth>& layer) {
    place(layer.gate);
    place(layer.up);
    place(layer.down);
  }

  template <class Number>
  void place(Mixture<Number>& layer) {
    place(layer.router);
    place(layer.bias_E, kExperts);
    place(layer.shared);
    for (auto& expert : layer.experts) place(expert);
  }

  template <class Number>
  void place(Prediction<Number>& layer) {
    place(layer.join);
    place(layer.attention);
    place(layer.mixture);
    place(layer.norm_D, kHidden);
  }

 private:
  char* block_;
  size_t used_ = 0;
};

template <class Number>
struct Weights {
  using Embedding = std::conditional_t<kIsScaled<Number>, Bf16, Number>;  // one row at a time, so its size matters little
  Embedding* embedding_VD = nullptr;
  std::vector<Attention<Number>> attention{static_cast<size_t>(kLayers)};
  std::vector<FeedForward<Number, kDenseWidth>> dense{static_cast<size_t>(kDenseLayers)};
  std::vector<Mixture<Number>> mixtures{static_cast<size_t>(kMixtures)};
  float looped_share = 1;  // of the looped state in its blend with the state before the loops
  float* norm_D = nullptr;
  Matrix<Number, kHidden, kVocabulary> head;
  std::vector<Prediction<Number>> prediction;  // only where the model has the layer attached
  Floats memory{0};

  explicit Weights(bool with_prediction)
      : prediction(static_cast<size_t>(with_prediction ? kPredictionLayers : 0)) {
    const size_t bytes = place_all(Places());
    memory = Floats{static_cast<int64_t>(bytes / sizeof(float))};
    place_all(Places(reinterpret_cast<char*>(memory.data())));
  }

 private:
  size_t place_all(Places places) {
    places.place(embedding_VD, static_cast<size_t>(kVocabulary) * kHidden);
    for (int layer = 0; layer < kLayers; ++layer) {
      places.place(attention[layer]);
      if (layer < kDenseLayers) {
        places.place(dense[layer]);
      } else {
        places.place(mixtures[layer - kDenseLayers]);
      }
    }
    places.place(norm_D, kHidden);
    places.place(head);
    for (auto& layer : prediction) places.place(layer);
    return places.used();
  }
};

using Stored = std::conditional_t<kWeightBits == 32, float, std::conditional_t<kWeightBits == 16, Bf16, Int8>>;

}  // namespace axion::decoding
