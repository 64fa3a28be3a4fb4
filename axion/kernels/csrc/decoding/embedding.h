// A token's embedding, from weights of either type.
#pragma once

#include "decoder_weights.h"

namespace axion::decoding {

inline float number(float stored) { return stored; }

inline float number(Bf16 stored) {
  const uint32_t bits = static_cast<uint32_t>(stored.upper_half) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

template <class Number>
inline void embed(const Weights<Number>& weights, int token, float* hidden) {
  const auto* embedding = weights.embedding_VD + static_cast<size_t>(token) * kHidden;
  for (int i = 0; i < kHidden; ++i) hidden[i] = number(embedding[i]);
}

}  // namespace axion::decoding
