// The decoder's packed weights and how they are filled.
//
// Products that do not depend on the input are computed in advance: each norm's gain is in the weights that read its
// output, except that of the head, which multi-token prediction reads too; the scale of the scores, times log2 e because
// probabilities are computed as 2^x, is in the query weights.
#pragma once

#include <array>
#include <type_traits>

#include "dimensions.h"
#include "grouped_attention.h"
#include "latent_attention.h"
#include "linear.h"

namespace axion::decoding {

constexpr int kMixtures = kLayers - kDenseLayers;

template <class Number>
using Attention = std::conditional_t<kGroupedQuery, GroupedAttention<Number>, LatentAttention<Number>>;

// SwiGLU: down(silu(gate(x))·up(x))
template <class Number, int Width>
struct FeedForward {
  static constexpr int kWidth = Width;
  using In = Linear<Number, kHidden, Width>;
  using Out = Linear<Number, Width, kHidden>;
  In gate, up;
  Out down;
};

// The router is always fp32: the choice of experts must not depend on rounding.
template <class Number>
struct Mixture {
  Matrix<float, kHidden, kExperts> router;
  alignas(64) float bias_E[kExperts];
  FeedForward<Number, kSharedWidth> shared;
  std::array<FeedForward<Number, kExpertWidth>, kExperts> experts;
};

// Multi-token prediction: a layer that reads the next token's embedding and the decoder's output, side by side.
template <class Number>
struct Prediction {
  Matrix<Number, 2 * kHidden, kHidden> join;
  Attention<Number> attention;
  Mixture<Number> mixture;
  alignas(64) float norm_D[kHidden];
};

template <class Number>
struct Weights {
  using Embedding = std::conditional_t<kIsScaled<Number>, Bf16, Number>;  // one row at a time, so its size matters little
  alignas(64) Embedding embedding_VD[kVocabulary * kHidden];
  std::array<Attention<Number>, kLayers> attention;
  std::array<FeedForward<Number, kDenseWidth>, kDenseLayers> dense;
  std::array<Mixture<Number>, kMixtures> mixtures;
  float looped_share;  // of the looped state in its blend with the state before the loops
  alignas(64) float norm_D[kHidden];
  Matrix<Number, kHidden, kVocabulary> head;
  std::array<Prediction<Number>, kPredictionLayers> prediction;  // filled only where the model has the layer attached
};

using Stored = std::conditional_t<kWeightBits == 32, float, std::conditional_t<kWeightBits == 16, Bf16, Int8>>;

// Hands out the dense matrices in order and checks that each has the expected number of elements.
class Dense {
 public:
  Dense(const float* const* matrices, const int64_t* sizes, int count)
      : matrices_(matrices), sizes_(sizes), count_(count) {}

  const float* next(int64_t size) {
    const float* matrix = at_ < count_ && sizes_[at_] == size ? matrices_[at_] : nullptr;
    fits_ = fits_ && matrix;
    ++at_;
    return fits_ ? matrix : nullptr;
  }

  bool all_taken() const { return at_ >= count_; }
  bool all_fit() const { return fits_ && at_ == count_; }

  void fill(float* numbers, int count) {
    if (const float* dense = next(count)) std::copy(dense, dense + count, numbers);
  }

  template <class Number, int In, int Out>
  void fill(Matrix<Number, In, Out>& matrix) {
    if (const float* dense_IO = next(static_cast<int64_t>(In) * Out)) pack(matrix, dense_IO);
  }

  template <class Number, int In, int Out, int Rank>
  void fill(Factors<Number, In, Out, Rank>& factors) {
    fill(factors.a);
    fill(factors.b);
  }

  template <class Number, int Width>
  void fill(FeedForward<Number, Width>& layer) {
    fill(layer.gate);
    fill(layer.up);
    fill(layer.down);
  }

  template <class Number>
  void fill(Mixture<Number>& mixture) {
    fill(mixture.router);
    fill(mixture.bias_E, kExperts);
    fill(mixture.shared);
    for (auto& expert : mixture.experts) fill(expert);
  }

 private:
  const float* const* matrices_;
  const int64_t* sizes_;
  int count_;
  int at_ = 0;
  bool fits_ = true;
};

// Takes the matrices in the order of `dense_matrices` in axion/kernels/pack.py. Returns false if a size is wrong.
template <class Number>
bool fill(Weights<Number>& weights, Dense dense) {
  if (const float* embedding_VD = dense.next(static_cast<int64_t>(kVocabulary) * kHidden)) {
    for (int i = 0; i < kVocabulary * kHidden; ++i) put(weights.embedding_VD[i], embedding_VD[i]);
  }
  for (int layer = 0; layer < kLayers; ++layer) {
    weights.attention[layer].fill(dense);
    if (layer < kDenseLayers) {
      dense.fill(weights.dense[layer]);
    } else {
      dense.fill(weights.mixtures[layer - kDenseLayers]);
    }
  }
  dense.fill(&weights.looped_share, 1);
  dense.fill(weights.norm_D, kHidden);
  dense.fill(weights.head);
  if (dense.all_taken()) return dense.all_fit();
  for (auto& prediction : weights.prediction) {
    dense.fill(prediction.join);
    prediction.attention.fill(dense);
    dense.fill(prediction.mixture);
    dense.fill(prediction.norm_D, kHidden);
  }
  return dense.all_fit();
}

}  // namespace axion::decoding
