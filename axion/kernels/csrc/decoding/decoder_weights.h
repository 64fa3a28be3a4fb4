// The decoder's packed weights and how they are filled.
//
// Products that do not depend on the input are computed in advance: each norm's gain is in the weights that read its
// output; the scale of the scores, times log2 e because probabilities are computed as 2^x, is in the query weights.
// Attention runs over the latents themselves: W_uk is multiplied into the query weights and W_uv into the output
// weights, each where that needs fewer products than applying it separately.
#pragma once

#include <array>

#include "dimensions.h"
#include "matvec.h"

namespace axion::decoding {

constexpr int kQueryInput = kQueryRank > 0 ? kQueryRank : kHidden;

constexpr int kQueryHead = (kAbsorbKeys ? kLatent : kNope) + kRope;  // a head of the query projection's output
constexpr int kContextHead = kAbsorbValues ? kLatent : kValue;       // a head of the output projection's input
constexpr int kCompressed = kQueryRank + kLatent + kRope;            // query latent, latent, rotary key
constexpr int kMixtures = kLayers - kDenseLayers;

template <class Number>
struct Attention {
  Matrix<Number, kHidden, kCompressed> compress;
  Matrix<Number, kQueryInput, kHeads * kQueryHead> query;
  std::array<Matrix<Number, kNope, kLatent>, kAbsorbKeys ? 0 : kHeads> key_up;
  std::array<Matrix<Number, kLatent, kValue>, kAbsorbValues ? 0 : kHeads> value_up;
  Matrix<Number, kHeads * kContextHead, kHidden> output;
};

// SwiGLU: down(silu(gate(x))·up(x))
template <class Number, int Width>
struct FeedForward {
  static constexpr int kWidth = Width;
  Matrix<Number, kHidden, Width> gate, up;
  Matrix<Number, Width, kHidden> down;
};

// The router is always fp32: the choice of experts must not depend on rounding.
template <class Number>
struct Mixture {
  Matrix<float, kHidden, kExperts> router;
  alignas(64) float bias_E[kExperts];
  FeedForward<Number, kSharedWidth> shared;
  std::array<FeedForward<Number, kExpertWidth>, kExperts> experts;
};

template <class Number>
struct Weights {
  alignas(64) Number embedding_VD[kVocabulary * kHidden];
  std::array<Attention<Number>, kLayers> attention;
  std::array<FeedForward<Number, kDenseWidth>, kDenseLayers> dense;
  std::array<Mixture<Number>, kMixtures> mixtures;
  Matrix<Number, kHidden, kVocabulary> head;
};

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

  bool all_fit() const { return fits_ && at_ == count_; }

  template <class Number, int In, int Out>
  void fill(Matrix<Number, In, Out>& matrix) {
    if (const float* dense_IO = next(static_cast<int64_t>(In) * Out)) pack(matrix, dense_IO);
  }

  template <class Number, int Width>
  void fill(FeedForward<Number, Width>& layer) {
    fill(layer.gate);
    fill(layer.up);
    fill(layer.down);
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
    Attention<Number>& attention = weights.attention[layer];
    dense.fill(attention.compress);
    dense.fill(attention.query);
    for (auto& matrix : attention.key_up) dense.fill(matrix);
    for (auto& matrix : attention.value_up) dense.fill(matrix);
    dense.fill(attention.output);
    if (layer < kDenseLayers) {
      dense.fill(weights.dense[layer]);
      continue;
    }
    Mixture<Number>& mixture = weights.mixtures[layer - kDenseLayers];
    dense.fill(mixture.router);
    if (const float* bias_E = dense.next(kExperts)) std::copy(bias_E, bias_E + kExperts, mixture.bias_E);
    dense.fill(mixture.shared);
    for (auto& expert : mixture.experts) dense.fill(expert);
  }
  dense.fill(weights.head);
  return dense.all_fit();
}

}  // namespace axion::decoding
