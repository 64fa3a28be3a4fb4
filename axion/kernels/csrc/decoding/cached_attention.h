// Attention of one token's heads that share a key and a value, over all cached positions.
//
//   p_t = 2^(q·k_t) / Σ        context = Σ_t p_t·v_t
//
// The cache is a sequence of tiles of kLanes positions each. A tile is [rows][kLanes], a row for each element of the key
// and of the value, so that a vector holds the same element of neighbouring positions. The numbers are fp32, or bf16: a
// 32-bit word then holds two rows' elements of a position.
#pragma once

#include <algorithm>

#include "lanes.h"
#include "matvec.h"
#include "common/vector.h"

namespace axion::decoding {

constexpr int kHeadsAtOnce = 4;
constexpr int kValuesAtOnce = 4;
constexpr int kTilesAtOnce = 2;  // the cache has whole pairs of tiles

// Which rows of a tile are the key and which the value; they may overlap. With bf16 all numbers are even.
template <class Cached, const auto& kRows, const auto& kKeys, const auto& kFirstValue, const auto& kValues>
struct Tile {
  using Number = Cached;
  static int size() { return kRows * kLanes; }
  static int keys() { return kKeys; }
  static int first_value() { return kFirstValue; }
  static int values() { return kValues; }
};

// The cache of one pass through a layer, seen with the rotary angles of all positions.
struct LayerCache {
  float* numbers;  // or words of two bf16 numbers
  const float* cos_TP;
  const float* sin_TP;
  int positions;  // a multiple of kTilesAtOnce · kLanes: also the distance between the scores of two heads
};

// Rows that are stored together, lane by lane.
template <class Number>
constexpr int kTogether = std::is_same_v<Number, float> ? 1 : 2;

// Writes one position's rows, `count` of them, from `first` on, into the tiles that start at `cache`.
template <class Tile>
inline void store_rows(typename Tile::Number* cache, int position, int first, const float* rows, int count) {
  constexpr int kPair = kTogether<typename Tile::Number>;
  auto* to = cache + position / kLanes * Tile::size() + position % kLanes * kPair;
  for (int row = 0; row < count; ++row) {
    put(to[(first + row) / kPair * kPair * kLanes + (first + row) % kPair], rows[row]);
  }
}

// `Count` rows of a tile from `first` on, each as a vector of positions.
template <int Count>
inline void load_rows(const float* tile, int first, Vector (&rows)[Count]) {
#pragma GCC unroll 4
  for (int row = 0; row < Count; ++row) rows[row] = load(tile + (first + row) * kLanes);
}

template <int Count>
inline void load_rows(const Bf16* tile, int first, Vector (&rows)[Count]) {
#pragma GCC unroll 4
  for (int row = 0; row < Count; row += 2) {
    WordVector words;
    std::memcpy(&words, tile + (first + row) * kLanes, sizeof words);
    rows[row] = (Vector)(words << 16);
    rows[row + 1] = (Vector)(words & 0xffff0000u);
  }
}

// Stores kValuesAtOnce elements of each head's context: the lanes of each vector are summed and scaled.
template <class Tile, int Heads>
inline void keep_sums(const Vector (&sums)[Heads][kValuesAtOnce], const float* inverse, int first, float* context_HV) {
  constexpr int kHeadsInVector = kLanes / kValuesAtOnce;
  for (int group = 0; group < Heads; group += kHeadsInVector) {
    Vector together[kLanes] = {};
    for (int head = group; head < Heads && head < group + kHeadsInVector; ++head) {
      for (int v = 0; v < kValuesAtOnce; ++v) together[(head - group) * kValuesAtOnce + v] = sums[head][v];
    }
    const Vector totals = sums_of(together);
    for (int head = group; head < Heads && head < group + kHeadsInVector; ++head) {
      for (int v = 0; v < kValuesAtOnce && first + v < Tile::values(); ++v) {
        context_HV[head * Tile::values() + first + v] = totals[(head - group) * kValuesAtOnce + v] * inverse[head];
      }
    }
  }
}

// Scores of the positions in `Tiles` tiles from `tile` on.
template <class Tile, int Heads, int Tiles>
inline void score_tiles(const float* queries_HC, const typename Tile::Number* cache, int tile, float* scores_HT,
                        int row) {
  constexpr int kRows = kTogether<typename Tile::Number>;
  const auto* numbers = cache + tile * Tile::size();
  Vector scores[Tiles][Heads] = {};
  for (int c = 0; c < Tile::keys(); c += kRows) {
    Vector keys[Tiles][kRows];
#pragma GCC unroll 4
    for (int t = 0; t < Tiles; ++t) load_rows(numbers + t * Tile::size(), c, keys[t]);
#pragma GCC unroll 2
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int head = 0; head < Heads; ++head) {
        const float query = queries_HC[head * Tile::keys() + c + r];
#pragma GCC unroll 4
        for (int t = 0; t < Tiles; ++t) scores[t][head] += query * keys[t][r];
      }
    }
  }
#pragma GCC unroll 4
  for (int t = 0; t < Tiles; ++t) {
#pragma GCC unroll 4
    for (int head = 0; head < Heads; ++head) store(scores_HT + head * row + (tile + t) * kLanes, scores[t][head]);
  }
}

// Replaces each head's scores of the positions up to `position` by 2^(score − highest); inverse_H is 1/Σ of them.
template <int Heads>
inline void exponentiate(float* scores_HT, int row, int position, float* inverse_H) {
  const int tiles = padded(position + 1) / kLanes;
  const IntVector beyond = lane_numbers() > position % kLanes;  // lanes of the last tile after `position`
  Vector best[Heads], totals[Heads] = {};
  float highest[Heads];
#pragma GCC unroll 4
  for (int head = 0; head < Heads; ++head) {
    float* last = scores_HT + head * row + (tiles - 1) * kLanes;
    best[head] = beyond ? splat(-1e30f) : load(last);
    store(last, best[head]);
  }
  for (int tile = 0; tile < tiles - 1; ++tile) {
#pragma GCC unroll 4
    for (int head = 0; head < Heads; ++head) best[head] = max(load(scores_HT + head * row + tile * kLanes), best[head]);
  }
#pragma GCC unroll 4
  for (int head = 0; head < Heads; ++head) highest[head] = fast_largest(best[head]);
  for (int tile = 0; tile < tiles; ++tile) {
#pragma GCC unroll 4
    for (int head = 0; head < Heads; ++head) {
      float* scores = scores_HT + head * row + tile * kLanes;
      const Vector weights = weight_exp2(load(scores) - highest[head]);
      totals[head] += weights;
      store(scores, weights);
    }
  }
#pragma GCC unroll 4
  for (int head = 0; head < Heads; ++head) inverse_H[head] = 1.0f / fast_sum(totals[head]);
}

// `Heads` heads: queries_HC [Heads][kKeys], context_HV [Heads][kValues]; scores_HT is scratch, `row` floats a head.
template <class Tile, int Heads>
void attend_heads(const float* queries_HC, const typename Tile::Number* cache, int position, float* scores_HT, int row,
                  float* context_HV) {
  const int tiles = padded(position + 1) / kLanes;
  int scored = 0;
  if constexpr (Heads < kHeadsAtOnce) {  // few heads need more tiles for as many independent sums
    for (; scored + 2 * kTilesAtOnce <= tiles; scored += 2 * kTilesAtOnce) {
      score_tiles<Tile, Heads, 2 * kTilesAtOnce>(queries_HC, cache, scored, scores_HT, row);
    }
  }
  for (; scored < tiles; scored += kTilesAtOnce) {
    score_tiles<Tile, Heads, kTilesAtOnce>(queries_HC, cache, scored, scores_HT, row);
  }
  float inverse[Heads];
  exponentiate<Heads>(scores_HT, row, position, inverse);

  for (int first = 0; first < Tile::values(); first += kValuesAtOnce) {
    Vector sums[Heads][kValuesAtOnce] = {};
    for (int tile = 0; tile < tiles; ++tile) {
      // This may read past the value, into the tile's other rows or the next tile; keep_sums drops the result.
      Vector values[kValuesAtOnce];
      load_rows(cache + tile * Tile::size(), Tile::first_value() + first, values);
#pragma GCC unroll 4
      for (int head = 0; head < Heads; ++head) {
        const Vector weights = load(scores_HT + head * row + tile * kLanes);
#pragma GCC unroll 4
        for (int v = 0; v < kValuesAtOnce; ++v) sums[head][v] += weights * values[v];
      }
    }
    keep_sums<Tile, Heads>(sums, inverse, first, context_HV);
  }
}

// `count` heads, several at a time so that they share each read of the cache.
template <class Tile>
inline void attend_cached(const float* queries_HC, const typename Tile::Number* cache, int position, int count,
                          float* scores_HT, int row, float* context_HV) {
  auto attend = [&](auto heads, int head) {
    attend_heads<Tile, heads.value>(queries_HC + head * Tile::keys(), cache, position, scores_HT + head * row, row,
                                    context_HV + head * Tile::values());
  };
  int head = 0;
  for (; head + kHeadsAtOnce <= count; head += kHeadsAtOnce) {
    attend(std::integral_constant<int, kHeadsAtOnce>{}, head);
  }
  for (; head + 2 <= count; head += 2) attend(std::integral_constant<int, 2>{}, head);
  for (; head < count; ++head) attend(std::integral_constant<int, 1>{}, head);
}

}  // namespace axion::decoding
