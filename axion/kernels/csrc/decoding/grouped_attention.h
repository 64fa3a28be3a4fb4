// Grouped-query attention: kHeads query heads share kKeyValueHeads keys and values, which are cached as they are.
//
// The interface is that of latent_attention.h: `compress` makes what is cached, keys of all heads and then values. The
// cache has the tiles of one key-value head after those of another.
#pragma once

#include <algorithm>

#include "cached_attention.h"
#include "dimensions.h"
#include "matvec.h"
#include "common/rotary.h"

namespace axion::decoding {

template <class Number>
struct GroupedAttention {
  using Cached = std::conditional_t<std::is_same_v<Number, float>, float, Bf16>;
  using CacheTile = Tile<Cached, kHeadPair, kHeadDim, kHeadDim, kHeadDim>;

  // Writes a token to the cache: its keys, rotated by the position's angles, and its values.
  static void store(const LayerCache& cache, int position, const float* compressed) {
    for (int head = 0; head < kKeyValueHeads; ++head) {
      const float* values = compressed + (kKeyValueHeads + head) * kHeadDim;
      Local<float, kHeadDim> key;
      std::copy(compressed + head * kHeadDim, compressed + (head + 1) * kHeadDim, key.begin());
      rotate(key, cache.cos_TP + position * (kHeadDim / 2), cache.sin_TP + position * (kHeadDim / 2));
      store_rows<CacheTile>(tiles(cache, head), position, 0, key, kHeadDim);
      store_rows<CacheTile>(tiles(cache, head), position, kHeadDim, values, kHeadDim);
    }
  }

  // Query heads `begin` to `end` of one token: from the output of `query` to the input of `output`.
  static void attend(const LayerCache& cache, int position, int begin, int end, const float* made, float* scores,
                     float* context) {
    const int group = kHeads / kKeyValueHeads;
    Local<float, kQueryWidth> queries_HC;
    std::copy(made + begin * kHeadDim, made + end * kHeadDim, queries_HC + begin * kHeadDim);
    for (int head = begin; head < end; ++head) {
      rotate(queries_HC + head * kHeadDim, cache.cos_TP + position * (kHeadDim / 2),
             cache.sin_TP + position * (kHeadDim / 2));
    }
    for (int head = begin; head < end;) {
      const int shared = head / group, stop = std::min(end, (shared + 1) * group);
      attend_cached<CacheTile>(queries_HC + head * kHeadDim, tiles(cache, shared), position, stop - head,
                               scores + head * cache.positions, cache.positions, context + head * kHeadDim);
      head = stop;
    }
  }

 private:
  static Cached* tiles(const LayerCache& cache, int head) {
    return reinterpret_cast<Cached*>(cache.numbers) + static_cast<size_t>(head) * cache.positions * kHeadPair;
  }
};

}  // namespace axion::decoding
