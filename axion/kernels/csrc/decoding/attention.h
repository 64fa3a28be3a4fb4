// The attention of one layer: its weights, and its two kinds, latent and grouped-query.
#pragma once

#include <vector>

#include "grouped_attention.h"
#include "latent_attention.h"
#include "linear.h"
#include "normalise.h"

namespace axion::decoding {

template <class Number>
struct Attention {
  Linear<Number, kHidden, kCompressed, kCompressRank> compress;  // of what is cached, and of the query's latent
  Linear<Number, kQueryInput, kQueryWidth> query;
  Linear<Number, kContextWidth, kHidden> output;
  // Of each head, unless they are multiplied into `query` and `output`.
  std::vector<Matrix<Number, kNope, kLatent>> key_up{static_cast<size_t>(kGroupedQuery || kAbsorbKeys ? 0 : kHeads)};
  std::vector<Matrix<Number, kLatent, kValue>> value_up{
      static_cast<size_t>(kGroupedQuery || kAbsorbValues ? 0 : kHeads)};

  // What `query` reads, if it is not the normed hidden state.
  static void query_input(const float* compressed, float* latent) {
    normalise(kQueryRank, compressed, kLatentEpsilon, latent);
  }

  // Writes a token to the cache.
  static void store(const LayerCache& cache, int position, const float* compressed) {
    if (kGroupedQuery) {
      GroupedAttention<Number>::store(cache, position, compressed);
    } else {
      LatentAttention<Number>::store(cache, position, compressed);
    }
  }

  // Heads `begin` to `end` of one token: from the output of `query` to the input of `output`.
  void attend(const LayerCache& cache, int position, int begin, int end, const float* made, float* scores,
              float* context) const {
    if (kGroupedQuery) {
      GroupedAttention<Number>::attend(cache, position, begin, end, made, scores, context);
    } else {
      LatentAttention<Number>{key_up.data(), value_up.data()}.attend(cache, position, begin, end, made, scores, context);
    }
  }
};

// The size in memory of what is cached of one position.
template <class Number>
inline size_t cached_bytes() {
  return kCachedRows * (kGroupedQuery ? sizeof(typename GroupedAttention<Number>::Cached) : sizeof(float));
}

}  // namespace axion::decoding
