// Multi-head latent attention over the cached latents themselves, which act as a single key-value head.
//
//   p_t = 2^(q·c_t + q_rope·k_t) / Σ        latent context = Σ_t p_t·c_t
//
// W_uk is multiplied into the query weights and W_uv into the output weights, each where that needs fewer products than
// applying it separately. grouped_attention.h has the same interface.
#pragma once

#include <algorithm>

#include "cached_attention.h"
#include "dimensions.h"
#include "matvec.h"
#include "normalise.h"
#include "common/rotary.h"

namespace axion::decoding {

inline constexpr Size kQueries{[] { return kHeads * kCachedRows; }};
inline constexpr Size kLatents{[] { return kHeads * kLatent; }};

template <class Number>
struct LatentAttention {
  using CacheTile = Tile<float, kCachedRows, kCachedRows, kNone, kLatent>;  // in fp32 always: they are few

  const Matrix<Number, kNope, kLatent>* key_up;
  const Matrix<Number, kLatent, kValue>* value_up;

  // Writes a token to the cache: its normed latent, and its rotary key, rotated by the position's angles.
  static void store(const LayerCache& cache, int position, const float* compressed) {
    Local<float, kCachedRows> cached;
    normalise(kLatent, compressed + kQueryRank, kLatentEpsilon, cached);
    std::copy(compressed + kQueryRank + kLatent, compressed + kCompressed, cached + kLatent);
    rotate(cached + kLatent, cache.cos_TP + position * (kRope / 2), cache.sin_TP + position * (kRope / 2));
    store_rows<CacheTile>(cache.numbers, position, 0, cached, kCachedRows);
  }

  // Heads `begin` to `end` of one token: from the output of `query` to the input of `output`.
  void attend(const LayerCache& cache, int position, int begin, int end, const float* made, float* scores,
              float* context) const {
    Zeros<kQueries> queries_HC;
    Local<float, kLatents> latents_HR;
    for (int head = begin; head < end; ++head) {
      complete(head, made + head * kQueryHead, queries_HC + head * kCachedRows);
      rotate(queries_HC + head * kCachedRows + kLatent, cache.cos_TP + position * (kRope / 2),
             cache.sin_TP + position * (kRope / 2));
    }
    float* results = kAbsorbValues ? context : latents_HR;
    attend_cached<CacheTile>(queries_HC + begin * kCachedRows, cache.numbers, position, end - begin,
                             scores + begin * cache.positions, cache.positions, results + begin * kLatent);
    if (!kAbsorbValues) {
      for (int head = begin; head < end; ++head) expand(head, latents_HR + head * kLatent, context + head * kValue);
    }
  }

 private:
  // A head's query as the cache needs it: the part without positions in the latents' space, then the rotary part.
  void complete(int head, const float* made, float* full) const {
    if (kAbsorbKeys) {
      std::copy(made, made + kLatent, full);
    } else {
      Zeros<kRoom<kNope>> nope;
      Local<float, kRoom<kLatent>> absorbed;
      std::copy(made, made + kNope, nope.begin());
      multiply(key_up[head], nope, absorbed);
      std::copy(absorbed.begin(), absorbed + kLatent, full);
    }
    std::copy(made + kQueryHead - kRope, made + kQueryHead, full + kLatent);
  }

  // A head's value from its latent context.
  void expand(int head, const float* context_R, float* value_v) const {
    Zeros<kRoom<kLatent>> latent;
    Local<float, kRoom<kValue>> value;
    std::copy(context_R, context_R + kLatent, latent.begin());
    multiply(value_up[head], latent, value);
    std::copy(value.begin(), value + kValue, value_v);
  }
};

}  // namespace axion::decoding
