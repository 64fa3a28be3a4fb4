// Multi-head latent attention over the cached latents themselves, which act as a single key-value head.
//
//   p_t = 2^(q·c_t + q_rope·k_t) / Σ        latent context = Σ_t p_t·c_t
//
// W_uk is multiplied into the query weights and W_uv into the output weights, each where that needs fewer products than
// applying it separately. grouped_attention.h has the same interface.
#pragma once

#include <algorithm>
#include <array>

#include "cached_attention.h"
#include "dimensions.h"
#include "linear.h"
#include "normalise.h"
#include "common/rotary.h"

namespace axion::decoding {

template <class Number>
struct LatentAttention {
  static constexpr int kCompressed = kQueryRank + kLatent + kRope;  // query latent, latent, rotary key
  static constexpr int kQueryInput = kQueryRank > 0 ? kQueryRank : kHidden;
  static constexpr int kQueryHead = (kAbsorbKeys ? kLatent : kNope) + kRope;  // a head of the queries
  static constexpr int kContextHead = kAbsorbValues ? kLatent : kValue;       // a head of the output's input
  static constexpr int kCachedRows = kLatent + kRope;                         // numbers in the cache per position
  using Cached = float;  // they are few
  using CacheTile = Tile<Cached, kCachedRows, kCachedRows, 0, kLatent>;

  Matrix<Number, kHidden, kCompressed> compress;
  Matrix<Number, kQueryInput, kHeads * kQueryHead> query;
  std::array<Matrix<Number, kNope, kLatent>, kAbsorbKeys ? 0 : kHeads> key_up;
  std::array<Matrix<Number, kLatent, kValue>, kAbsorbValues ? 0 : kHeads> value_up;
  Matrix<Number, kHeads * kContextHead, kHidden> output;

  template <class Dense>
  void fill(Dense& dense) {
    dense.fill(compress);
    dense.fill(query);
    for (auto& matrix : key_up) dense.fill(matrix);
    for (auto& matrix : value_up) dense.fill(matrix);
    dense.fill(output);
  }

  // What `query` reads, if it is not the normed hidden state.
  static void query_input(const float* compressed, float* latent) {
    normalise<kQueryRank>(compressed, kLatentEpsilon, latent);
  }

  // Writes a token to the cache: its normed latent, and its rotary key, rotated by the position's angles.
  static void store(const LayerCache& cache, int position, const float* compressed) {
    float cached[kCachedRows];
    normalise<kLatent>(compressed + kQueryRank, kLatentEpsilon, cached);
    std::copy(compressed + kQueryRank + kLatent, compressed + kCompressed, cached + kLatent);
    rotate(cached + kLatent, cache.cos_TP + position * (kRope / 2), cache.sin_TP + position * (kRope / 2));
    store_rows<CacheTile>(cache.numbers, position, 0, cached, kCachedRows);
  }

  // Heads `begin` to `end` of one token: from the output of `query` to the input of `output`.
  void attend(const LayerCache& cache, int position, int begin, int end, const float* made, float* scores,
              float* context) const {
    float queries_HC[kHeads * kCachedRows] = {};
    float latents_HR[kHeads * kLatent];
    for (int head = begin; head < end; ++head) {
      complete(head, made + head * kQueryHead, queries_HC + head * kCachedRows);
      rotate(queries_HC + head * kCachedRows + kLatent, cache.cos_TP + position * (kRope / 2),
             cache.sin_TP + position * (kRope / 2));
    }
    float* results = kAbsorbValues ? context : latents_HR;
    attend_cached<CacheTile>(queries_HC + begin * kCachedRows, cache.numbers, position, end - begin,
                             scores + begin * cache.positions, cache.positions, results + begin * kLatent);
    if constexpr (!kAbsorbValues) {
      for (int head = begin; head < end; ++head) expand(head, latents_HR + head * kLatent, context + head * kValue);
    }
  }

 private:
  // A head's query as the cache needs it: the part without positions in the latents' space, then the rotary part.
  void complete(int head, const float* made, float* full) const {
    if constexpr (kAbsorbKeys) {
      std::copy(made, made + kLatent, full);
    } else {
      alignas(64) float nope[room(kNope)] = {};
      alignas(64) float absorbed[room(kLatent)];
      std::copy(made, made + kNope, nope);
      for (int panel = 0; panel < Matrix<Number, kNope, kLatent>::kPanels; ++panel) {
        multiply_panel(key_up[head], panel, nope, absorbed);
      }
      std::copy(absorbed, absorbed + kLatent, full);
    }
    std::copy(made + kQueryHead - kRope, made + kQueryHead, full + kLatent);
  }

  // A head's value from its latent context.
  void expand(int head, const float* context_R, float* value_v) const {
    alignas(64) float latent[room(kLatent)] = {};
    alignas(64) float value[room(kValue)];
    std::copy(context_R, context_R + kLatent, latent);
    for (int panel = 0; panel < Matrix<Number, kLatent, kValue>::kPanels; ++panel) {
      multiply_panel(value_up[head], panel, latent, value);
    }
    std::copy(value, value + kValue, value_v);
  }
};

}  // namespace axion::decoding
