// Grouped-query attention: kHeads query heads share kKeyValueHeads keys and values, which are cached as they are.
//
// The interface is that of latent_attention.h: `compress` makes what is cached, keys of all heads and then values. The
// cache has the tiles of one key-value head after those of another.
#pragma once

#include <algorithm>

#include "cached_attention.h"
#include "dimensions.h"
#include "linear.h"
#include "common/rotary.h"

namespace axion::decoding {

template <class Number>
struct GroupedAttention {
  static constexpr int kHead = kHeadDim;
  static constexpr int kGroup = kHeads / kKeyValueHeads;
  static constexpr int kCompressed = 2 * kKeyValueHeads * kHead;
  static constexpr int kQueryInput = kHidden;
  static constexpr int kQueryHead = kHead;
  static constexpr int kContextHead = kHead;
  static constexpr int kCachedRows = kCompressed;
  using Cached = std::conditional_t<std::is_same_v<Number, float>, float, Bf16>;
  using CacheTile = Tile<Cached, 2 * kHead, kHead, kHead, kHead>;

  Linear<Number, kHidden, kCompressed, 2 * kKeptRank> compress;  // the factors of keys and values, side by side
  Linear<Number, kHidden, kHeads * kHead> query;
  Linear<Number, kHeads * kHead, kHidden> output;

  template <class Dense>
  void fill(Dense& dense) {
    dense.fill(compress);
    dense.fill(query);
    dense.fill(output);
  }

  // Writes a token to the cache: its keys, rotated by the position's angles, and its values.
  static void store(const LayerCache& cache, int position, const float* compressed) {
    for (int head = 0; head < kKeyValueHeads; ++head) {
      float key[kHead];
      std::copy(compressed + head * kHead, compressed + (head + 1) * kHead, key);
      rotate(key, cache.cos_TP + position * (kHead / 2), cache.sin_TP + position * (kHead / 2));
      store_rows<CacheTile>(tiles(cache, head), position, 0, key, kHead);
      store_rows<CacheTile>(tiles(cache, head), position, kHead, compressed + (kKeyValueHeads + head) * kHead, kHead);
    }
  }

  // Query heads `begin` to `end` of one token: from the output of `query` to the input of `output`.
  void attend(const LayerCache& cache, int position, int begin, int end, const float* made, float* scores,
              float* context) const {
    float queries_HC[kHeads * kHead];
    std::copy(made + begin * kHead, made + end * kHead, queries_HC + begin * kHead);
    for (int head = begin; head < end; ++head) {
      rotate(queries_HC + head * kHead, cache.cos_TP + position * (kHead / 2), cache.sin_TP + position * (kHead / 2));
    }
    for (int head = begin; head < end;) {
      const int shared = head / kGroup, stop = std::min(end, (shared + 1) * kGroup);
      attend_cached<CacheTile>(queries_HC + head * kHead, tiles(cache, shared), position, stop - head,
                               scores + head * cache.positions, cache.positions, context + head * kHead);
      head = stop;
    }
  }

 private:
  static Cached* tiles(const LayerCache& cache, int head) {
    return reinterpret_cast<Cached*>(cache.numbers) + static_cast<size_t>(head) * cache.positions * 2 * kHead;
  }
};

}  // namespace axion::decoding
