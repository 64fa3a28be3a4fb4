// Attention of one token's heads over the cached latents, which act as a single key-value head.
//
//   p_t = 2^(q·c_t + q_rope·k_t) / Σ        latent context = Σ_t p_t·c_t
//
// The cache of a layer is a sequence of tiles of kLanes positions each. A tile is [kCached][kLanes], first the latent
// and then the rotary key, so that a vector holds the same element of neighbouring positions.
#pragma once

#include <algorithm>
#include <utility>

#include "dimensions.h"
#include "common/vector.h"

namespace axion::decoding {

constexpr int kCached = kLatent + kRope;
constexpr int kCacheTile = kCached * kLanes;
constexpr int kHeadsAtOnce = 4;
constexpr int kLatentsAtOnce = 4;
constexpr int kTilesAtOnce = 2;

#if defined(__clang__)
template <int... lane>
inline Vector every_second(Vector a, Vector b, std::integer_sequence<int, lane...>) {
  return __builtin_shufflevector(a, b, (2 * lane)...) + __builtin_shufflevector(a, b, (2 * lane + 1)...);
}
#else
template <int... lane>
inline Vector every_second(Vector a, Vector b, std::integer_sequence<int, lane...>) {
  return __builtin_shuffle(a, b, IntVector{(2 * lane)...}) + __builtin_shuffle(a, b, IntVector{(2 * lane + 1)...});
}
#endif

// Sums of neighbouring lanes: first those of a, then those of b.
inline Vector pair_sums(Vector a, Vector b) { return every_second(a, b, std::make_integer_sequence<int, kLanes>{}); }

// Lane i of the result is the sum of all lanes of vectors[i].
inline Vector sums_of(Vector (&vectors)[kLanes]) {
#pragma GCC unroll 4
  for (int left = kLanes / 2; left > 0; left /= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < left; ++i) vectors[i] = pair_sums(vectors[2 * i], vectors[2 * i + 1]);
  }
  return vectors[0];
}

inline float fast_sum(Vector vector) {
#pragma GCC unroll 4
  for (int left = kLanes / 2; left > 0; left /= 2) vector = pair_sums(vector, vector);
  return vector[0];
}

// Stores kLatentsAtOnce elements of each head's context: the lanes of each vector are summed and scaled.
template <int Heads>
inline void keep_sums(const Vector (&sums)[Heads][kLatentsAtOnce], const float* inverse, int first, float* context_HR) {
  constexpr int kHeadsInVector = kLanes / kLatentsAtOnce;
  for (int group = 0; group < Heads; group += kHeadsInVector) {
    Vector together[kLanes] = {};
    for (int head = group; head < Heads && head < group + kHeadsInVector; ++head) {
      for (int r = 0; r < kLatentsAtOnce; ++r) together[(head - group) * kLatentsAtOnce + r] = sums[head][r];
    }
    const Vector totals = sums_of(together);
    for (int head = group; head < Heads && head < group + kHeadsInVector; ++head) {
      for (int r = 0; r < kLatentsAtOnce && first + r < kLatent; ++r) {
        context_HR[head * kLatent + first + r] = totals[(head - group) * kLatentsAtOnce + r] * inverse[head];
      }
    }
  }
}

inline IntVector lane_numbers() {
  IntVector numbers;
  for (int lane = 0; lane < kLanes; ++lane) numbers[lane] = lane;
  return numbers;
}

// `Heads` heads: queries_HC [Heads][kCached], context_HR [Heads][kLatent]; scores_HT is scratch, `row` floats a head.
template <int Heads>
void attend_heads(const float* queries_HC, const float* cache, int position, float* scores_HT, int row,
                  float* context_HR) {
  const int tiles = padded(position + 1) / kLanes;
  const IntVector beyond = lane_numbers() > position % kLanes;  // lanes of the last tile after `position`
  for (int tile = 0; tile < tiles; tile += kTilesAtOnce) {
    const float* numbers = cache + tile * kCacheTile;
    Vector scores[kTilesAtOnce][Heads] = {};
    for (int c = 0; c < kCached; ++c) {
      Vector keys[kTilesAtOnce];
#pragma GCC unroll 2
      for (int t = 0; t < kTilesAtOnce; ++t) keys[t] = load(numbers + t * kCacheTile + c * kLanes);
#pragma GCC unroll 4
      for (int head = 0; head < Heads; ++head) {
        const float query = queries_HC[head * kCached + c];
#pragma GCC unroll 2
        for (int t = 0; t < kTilesAtOnce; ++t) scores[t][head] += query * keys[t];
      }
    }
#pragma GCC unroll 2
    for (int t = 0; t < kTilesAtOnce; ++t) {
#pragma GCC unroll 4
      for (int head = 0; head < Heads; ++head) store(scores_HT + head * row + (tile + t) * kLanes, scores[t][head]);
    }
  }
  float inverse[Heads];
  for (int head = 0; head < Heads; ++head) {
    float* scores_T = scores_HT + head * row;
    float* last = scores_T + (tiles - 1) * kLanes;
    store(last, beyond ? splat(-1e30f) : load(last));
    Vector best = load(scores_T);
    for (int tile = 1; tile < tiles; ++tile) best = max(best, load(scores_T + tile * kLanes));
    const float highest = largest(best);
    Vector total = {};
    for (int tile = 0; tile < tiles; ++tile) {
      const Vector weights = exp2(load(scores_T + tile * kLanes) - highest);
      total += weights;
      store(scores_T + tile * kLanes, weights);
    }
    store(last, beyond ? Vector{} : load(last));
    inverse[head] = 1.0f / fast_sum(total);
  }
  for (int first = 0; first < kLatent; first += kLatentsAtOnce) {
    Vector sums[Heads][kLatentsAtOnce] = {};
    for (int tile = 0; tile < tiles; ++tile) {
      // This may read past the latent, into the rotary key or the next tile; keep_sums drops the result.
      Vector latents[kLatentsAtOnce];
#pragma GCC unroll 4
      for (int r = 0; r < kLatentsAtOnce; ++r) latents[r] = load(cache + tile * kCacheTile + (first + r) * kLanes);
#pragma GCC unroll 4
      for (int head = 0; head < Heads; ++head) {
        const Vector weights = load(scores_HT + head * row + tile * kLanes);
#pragma GCC unroll 4
        for (int r = 0; r < kLatentsAtOnce; ++r) sums[head][r] += weights * latents[r];
      }
    }
    keep_sums<Heads>(sums, inverse, first, context_HR);
  }
}

// Heads `begin` to `end`, several at a time so that they share each read of the cache.
inline void attend(const float* queries_HC, const float* cache, int position, int begin, int end, float* scores_HT,
                   int row, float* context_HR) {
  int head = begin;
  for (; head + kHeadsAtOnce <= end; head += kHeadsAtOnce) {
    attend_heads<kHeadsAtOnce>(queries_HC + head * kCached, cache, position, scores_HT + head * row, row,
                               context_HR + head * kLatent);
  }
  for (; head < end; ++head) {
    attend_heads<1>(queries_HC + head * kCached, cache, position, scores_HT + head * row, row,
                    context_HR + head * kLatent);
  }
}

}  // namespace axion::decoding
