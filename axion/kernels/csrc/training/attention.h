// Causal attention of one head over one sequence, without storing all of its scores.
//
//   S_TS = K·Qᵀ · scale      P = softmax over the keys t ≤ s      O_Sv = Pᵀ·V
//
// Queries are in the lanes: scores are stored as S_TS, one row per key, so that maxima, sums and exponentials of many
// queries are plain vector operations. A tile of kQueries queries is combined with blocks of kKeys keys, oldest first.
// As in FlashAttention, the forward pass keeps a running maximum m and sum and rescales them when m grows. It saves
// λ_s = m + log2 Σ_t 2^(S−m), from which the backward pass recomputes P = 2^(S−λ).
//
// Scores are in units of log 2 (the scale carries log2 e), so that e^S is 2^S.
//
// Several documents may be packed into one sequence. `starts_T` is then the position at which each token's document
// begins, and a query attends to no key before it: key blocks before the documents of a tile are skipped, and scores
// that cross a boundary are masked. It is null where a sequence is one document.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "common/shuffle.h"
#include "dimensions.h"
#include "matrix.h"
#include "scratch.h"
#include "tiles.h"

namespace axion {

constexpr int kQueryVectors = 3;
constexpr int kQueries = kQueryVectors * kLanes;
constexpr int kKeys = 4 * kLanes;
constexpr int kQueryWidth = kNope + kRope;  // a head's query and key
constexpr int kQueryRow = padded(kQueryWidth);
constexpr int kValueRow = padded(kValue);
constexpr float kMinusInfinity = -1e30f;

// Calls work(row, rows, first query column) for the parts of a block of keys that are visible to the tile's queries. A
// block before the tile is visible as a whole. On the diagonal, a key is visible only to the vectors of queries from
// its own position on, so the block is divided into steps of kLanes keys.
template <class Work>
inline void visible(int first_query, int first_key, int keys, Work work) {
  if (first_key + keys <= first_query) return work(0, keys, 0);
  for (int row = 0; row < keys; row += kLanes) {
    work(row, keys - row < kLanes ? keys - row : kLanes, first_key + row - first_query);
  }
}

// The number of keys in the block that starts at `first_key`: it ends at the start or at the end of the tile.
inline int block_of_keys(int first_query, int queries, int first_key) {
  const int end = first_key < first_query ? first_query : first_query + queries;
  return end - first_key < kKeys ? end - first_key : kKeys;
}

// The first key that is visible to a tile's queries. Starts never decrease, so it is that of the first query.
inline int first_visible_key(int first_query, const int32_t* starts_T) { return starts_T ? starts_T[first_query] : 0; }

// Masks the scores of a block's keys that are before the documents of the tile's `rows` queries.
inline void mask_earlier_documents(int first_query, int rows, int first_key, int keys, const int32_t* starts_T,
                                   float* scores_TS) {
  for (int s = rows - 1; s >= 0 && starts_T[first_query + s] > first_key; --s) {
    const int hidden = std::min(starts_T[first_query + s] - first_key, keys);
    for (int t = 0; t < hidden; ++t) scores_TS[t * kQueries + s] = kMinusInfinity;
  }
}

// Scores of a block's keys [kKeys][kQueries]; −10^30 where the key is after the query.
inline void score(int first_query, int first_key, int keys, int queries, const float* keys_TQ, const float* queries_QS,
                  float* scores_TS) {
  visible(first_query, first_key, keys, [&](int row, int rows, int column) {
    multiply<false>(rows, queries - column, kQueryWidth, keys_TQ + (long)(first_key + row) * kQueryRow, kQueryRow, 1,
                    queries_QS + column, kQueries, scores_TS + row * kQueries + column, kQueries);
    if (first_key + row < first_query) return;
    const IntVector lanes = lane_numbers();
    for (int t = 1; t < rows; ++t) {
      float* scores_S = scores_TS + (row + t) * kQueries + column;
      store(scores_S, lanes < t ? splat(kMinusInfinity) : load(scores_S));
    }
  });
}

// Transposes a tile's rows, `row` numbers apart, into [width][kQueries], times `scale`; missing rows become zeros.
template <int kWidth>
inline void to_lanes(int rows, const float* from, long row, float scale, float* to) {
  if constexpr (kWidth % kLanes == 0) {
    for (int s = 0; s < kQueries; s += kLanes) {
      for (int d = 0; d < kWidth; d += kLanes) {
        Vector square[kLanes];
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) square[i] = s + i < rows ? load(from + (s + i) * row + d) * scale : Vector{};
        transpose(square);
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) store(to + (d + i) * kQueries + s, square[i]);
      }
    }
  } else {
    for (int d = 0; d < kWidth; ++d) {
      for (int s = 0; s < rows; ++s) to[d * kQueries + s] = scale * from[s * row + d];
      for (int s = rows; s < kQueries; ++s) to[d * kQueries + s] = 0;
    }
  }
}

// The same backwards: `from` [width][kQueries], times a scale for each query, to rows `row` numbers apart.
template <int kWidth>
inline void from_lanes(int rows, const float* from, const Vector (&scales)[kQueryVectors], float* to, long row) {
  if constexpr (kWidth % kLanes == 0) {
    for (int s = 0; s < rows; s += kLanes) {
      for (int d = 0; d < kWidth; d += kLanes) {
        Vector square[kLanes];
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) square[i] = load(from + (d + i) * kQueries + s) * scales[s / kLanes];
        transpose(square);
        const int count = std::min(rows - s, kLanes);
        if (count == kLanes) {
#pragma GCC unroll 16
          for (int i = 0; i < kLanes; ++i) store(to + (s + i) * row + d, square[i]);
        } else {
          for (int i = 0; i < count; ++i) store(to + (s + i) * row + d, square[i]);
        }
      }
    }
  } else {
    for (int s = 0; s < rows; ++s) {
      const float scale = scales[s / kLanes][s % kLanes];
      for (int d = 0; d < kWidth; ++d) to[s * row + d] = from[d * kQueries + s] * scale;
    }
  }
}

// The numbers of one head: a row per token, `row` numbers apart.
struct HeadRows {
  float* data;
  long row;
};

// Queries [T][kQueryWidth], keys [T][kQueryRow], values [T][kValueRow] → output [T][kValue], λ [T].
//
// A query may meet only masked keys at first. Its maximum is then −10^30 and its weights are 1, but as soon as it meets
// a visible key, itself at the latest, its output and sum so far are multiplied by 2^(−10^30 − m) = 0.
inline void attend(int tokens, const int32_t* starts_T, HeadRows queries, const float* keys_TQ, const float* values_TV,
                   HeadRows output, float* lambda_T) {
  Scratch scratch;
  float* queries_QS = scratch.take(kQueryWidth * kQueries);
  float* scores_TS = scratch.take(kKeys * kQueries);
  float* output_VS = scratch.take(kValue * kQueries);
  for (int q = 0; q < tokens; q += kQueries) {
    const int rows = tokens - q < kQueries ? tokens - q : kQueries, columns = padded(rows);
    to_lanes<kQueryWidth>(rows, queries.data + q * queries.row, queries.row, kSoftmaxScale * kLog2E, queries_QS);
    Vector highest[kQueryVectors], total[kQueryVectors];
    for (int v = 0; v < kQueryVectors; ++v) highest[v] = splat(kMinusInfinity), total[v] = Vector{};
    for (int i = 0; i < kValue * kQueries; ++i) output_VS[i] = 0;

    for (int k = first_visible_key(q, starts_T), keys = 0; k < q + rows; k += keys) {
      keys = block_of_keys(q, rows, k);
      score(q, k, keys, columns, keys_TQ, queries_QS, scores_TS);
      if (starts_T) mask_earlier_documents(q, rows, k, keys, starts_T, scores_TS);

      Vector before[kQueryVectors];
      for (int v = 0; v < kQueryVectors; ++v) before[v] = highest[v];
      visible(q, k, keys, [&](int row, int count, int column) {
        for (int v = column / kLanes; v < columns / kLanes; ++v) {
          const float* scores = scores_TS + row * kQueries + v * kLanes;
          Vector most = highest[v];
          for (int t = 0; t < count; ++t) most = max(most, load(scores + t * kQueries));
          highest[v] = most;
        }
      });
      for (int v = 0; v < columns / kLanes; ++v) {
        const Vector shrink = exp2(before[v] - highest[v]);
        total[v] *= shrink;
        for (int d = 0; d < kValue; ++d) {
          float* out = output_VS + d * kQueries + v * kLanes;
          store(out, load(out) * shrink);
        }
      }
      visible(q, k, keys, [&](int row, int count, int column) {
        for (int v = column / kLanes; v < columns / kLanes; ++v) {
          float* scores = scores_TS + row * kQueries + v * kLanes;
          Vector sum = total[v];
          for (int t = 0; t < count; ++t) {
            const Vector weight = exp2(load(scores + t * kQueries) - highest[v]);
            sum += weight;
            store(scores + t * kQueries, weight);
          }
          total[v] = sum;
        }
        multiply<true>(kValue, columns - column, count, values_TV + (long)(k + row) * kValueRow, 1, kValueRow,
                       scores_TS + row * kQueries + column, kQueries, output_VS + column, kQueries);
      });
    }
    Vector inverse[kQueryVectors];
    float lambda[kQueries];
    for (int v = 0; v < columns / kLanes; ++v) {
      inverse[v] = 1.0f / total[v];
      store(lambda + v * kLanes, highest[v] + log2(total[v]));
    }
    from_lanes<kValue>(rows, output_VS, inverse, output.data + q * output.row, output.row);
    for (int s = 0; s < rows; ++s) lambda_T[q + s] = lambda[s];
  }
}

// The gradients of queries, keys and values from that of the output.
//
//   dP = dO·Vᵀ      dS = P·(dP − δ), δ_s = O_s·dO_s      dQ = scale·dS·K      dK = scale·dSᵀ·Q      dV = Pᵀ·dO
//
// dqueries is overwritten; what belongs to dkeys [T][kQueryRow] and dvalues [T][kValueRow] is added, because heads may
// share them.
inline void attend_backward(int tokens, const int32_t* starts_T, HeadRows queries, const float* keys_TQ,
                            const float* values_TV, HeadRows output, const float* lambda_T, HeadRows doutput,
                            HeadRows dqueries, float* dkeys_TQ, float* dvalues_TV) {
  Scratch scratch;
  float* queries_QS = scratch.take(kQueryWidth * kQueries);
  float* queries_SQ = scratch.take(kQueries * kQueryRow);
  float* doutput_VS = scratch.take(kValue * kQueries);
  float* doutput_SV = scratch.take(kQueries * kValueRow);
  float* dqueries_QS = scratch.take(kQueryWidth * kQueries);
  float* weights_TS = scratch.take(kKeys * kQueries);
  float* dscores_TS = scratch.take(kKeys * kQueries);
  Vector scales[kQueryVectors];
  for (Vector& scale : scales) scale = splat(kSoftmaxScale);

  for (int q = 0; q < tokens; q += kQueries) {
    const int rows = tokens - q < kQueries ? tokens - q : kQueries, columns = padded(rows);
    to_lanes<kQueryWidth>(rows, queries.data + q * queries.row, queries.row, kSoftmaxScale * kLog2E, queries_QS);
    to_lanes<kValue>(rows, doutput.data + q * doutput.row, doutput.row, 1.0f, doutput_VS);
    float lambda[kQueries] = {}, delta[kQueries] = {};
    for (int s = 0; s < kQueries; ++s) {
      const bool real = s < rows;  // rows after the last query do not count: their dO is zero
      const float* query = queries.data + (q + s) * queries.row;
      const float* out = output.data + (q + s) * output.row;
      const float* dout = doutput.data + (q + s) * doutput.row;
      for (int d = 0; d < kQueryRow; ++d) {
        queries_SQ[s * kQueryRow + d] = real && d < kQueryWidth ? kSoftmaxScale * query[d] : 0;
      }
      for (int d = 0; d < kValueRow; ++d) doutput_SV[s * kValueRow + d] = real && d < kValue ? dout[d] : 0;
      if (!real) continue;
      lambda[s] = lambda_T[q + s];
      float product = 0;
#pragma omp simd reduction(+ : product)
      for (int d = 0; d < kValue; ++d) product += out[d] * dout[d];
      delta[s] = product;
    }
    for (int i = 0; i < kQueryWidth * kQueries; ++i) dqueries_QS[i] = 0;

    for (int k = first_visible_key(q, starts_T), keys = 0; k < q + rows; k += keys) {
      keys = block_of_keys(q, rows, k);
      score(q, k, keys, columns, keys_TQ, queries_QS, weights_TS);
      if (starts_T) mask_earlier_documents(q, rows, k, keys, starts_T, weights_TS);
      visible(q, k, keys, [&](int row, int count, int column) {
        float* weights = weights_TS + row * kQueries + column;
        float* dscores = dscores_TS + row * kQueries + column;
        const int width = columns - column;
        multiply_fixed<false>(count, width, kValue, values_TV + (long)(k + row) * kValueRow, doutput_VS + column,
                              dscores, FixedStrides<kValueRow, 1, kQueries, kQueries>{});
        for (int t = 0; t < count; ++t) {
          for (int s = 0; s < width; s += kLanes) {
            const Vector weight = exp2(load(weights + t * kQueries + s) - load(lambda + column + s));
            const Vector dweight = load(dscores + t * kQueries + s);
            store(weights + t * kQueries + s, weight);
            store(dscores + t * kQueries + s, weight * (dweight - load(delta + column + s)));
          }
        }
        multiply_fixed<true>(count, kValueRow, width, weights, doutput_SV + column * kValueRow,
                             dvalues_TV + (long)(k + row) * kValueRow,
                             FixedStrides<kQueries, 1, kValueRow, kValueRow>{});
        multiply_fixed<true>(count, kQueryRow, width, dscores, queries_SQ + column * kQueryRow,
                             dkeys_TQ + (long)(k + row) * kQueryRow,
                             FixedStrides<kQueries, 1, kQueryRow, kQueryRow>{});
        multiply_fixed<true>(kQueryWidth, width, count, keys_TQ + (long)(k + row) * kQueryRow, dscores,
                             dqueries_QS + column, FixedStrides<1, kQueryRow, kQueries, kQueries>{});
      });
    }
    from_lanes<kQueryWidth>(rows, dqueries_QS, scales, dqueries.data + q * dqueries.row, dqueries.row);
  }
}

}  // namespace axion
