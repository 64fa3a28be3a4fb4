// Grouped-query attention with rotary positions, for the attention block (attention_block.h):
//
//   n = norm(x)                                   the layer's input norm
//   q = W_q·n      k = W_k·n      v = W_v·n       kHeads queries, kKeyValueHeads keys and values; q and k are rotated
//   o_h = attention(q_h, k_g, v_g)                g the group of head h
//
// The matrices are full or of low rank (projection.h).
#include "attention_block.h"
#include "common/norm.h"
#include "common/rotary.h"
#include "projection.h"

namespace axion {
namespace {

constexpr int kKeysWidth = kKeyValueHeads * kHeadDim, kKeysRow = padded(kKeysWidth);

struct GroupedAttention {
  using Queries = Projection<kHidden, kQueriesWidth>;
  using Keys = Projection<kHidden, kKeysWidth>;  // of the keys and of the values
  using Output = Projection<kHeadsWidth, kHidden>;

  // The parameters, or pointers to their gradients in the same order.
  struct Parameters {
    float* norm_gain;
    ProjectionParameter queries, keys, values, output;
  };

  // Layout of the gradients of one thread.
  static constexpr size_t kNormGainAt = 0;
  static constexpr size_t kQueriesAt = kNormGainAt + kHiddenRow;
  static constexpr size_t kKeysAt = kQueriesAt + Queries::kGradientSize;
  static constexpr size_t kValuesAt = kKeysAt + Keys::kGradientSize;
  static constexpr size_t kOutputAt = kValuesAt + Keys::kGradientSize;
  static constexpr size_t kGradients = kOutputAt + Output::kGradientSize;

  Norm<kHidden> norm;
  Queries queries;
  Keys keys, values;
  Output output;
  const float *cos, *sin;

  GroupedAttention(const Parameters& p, const float* cos, const float* sin, Scratch& scratch)
      : norm{p.norm_gain, kNormEpsilon}, cos(cos), sin(sin) {
    queries.pack_forward(p.queries, scratch.take(Queries::kForwardSpace));
    keys.pack_forward(p.keys, scratch.take(Keys::kForwardSpace));
    values.pack_forward(p.values, scratch.take(Keys::kForwardSpace));
    output.pack_forward(p.output, scratch.take(Output::kForwardSpace));
  }

  void pack_backward(const Parameters& p, Scratch& scratch) {
    queries.pack_backward(p.queries, scratch.take(Queries::kBackwardSpace));
    keys.pack_backward(p.keys, scratch.take(Keys::kBackwardSpace));
    values.pack_backward(p.values, scratch.take(Keys::kBackwardSpace));
    output.pack_backward(p.output, scratch.take(Output::kBackwardSpace));
  }

  // The projections of the tokens of one sequence.
  struct Projected {
    float *normed_TD, *queries_TQ, *keys_TK, *values_TK;

    Projected(int tokens, Scratch& scratch)
        : normed_TD(scratch.take((size_t)tokens * kHiddenRow)),
          queries_TQ(scratch.take((size_t)tokens * kQueriesRow)),
          keys_TK(scratch.take((size_t)tokens * kKeysRow)),
          values_TK(scratch.take((size_t)tokens * kKeysRow)) {}
  };

  struct Gradients {
    float *queries_TQ, *keys_TK, *values_TK;

    Gradients(int tokens, Scratch& scratch)
        : queries_TQ(scratch.take((size_t)tokens * kQueriesRow)),
          keys_TK(scratch.take((size_t)tokens * kKeysRow)),
          values_TK(scratch.take((size_t)tokens * kKeysRow)) {}
  };

  // Tokens `begin` to `end` of a sequence; `hidden` is that of the first of them.
  void project(const float* hidden, int begin, int end, const Projected& to) const {
    const int rows = end - begin;
    float* normed = to.normed_TD + (long)begin * kHiddenRow;
    norm.forward(rows, hidden, kHidden, normed);
    queries.forward(rows, normed, kHiddenRow, to.queries_TQ + (long)begin * kQueriesRow, kQueriesRow);
    keys.forward(rows, normed, kHiddenRow, to.keys_TK + (long)begin * kKeysRow, kKeysRow);
    values.forward(rows, normed, kHiddenRow, to.values_TK + (long)begin * kKeysRow, kKeysRow);
    turn<false>(begin, end, to.queries_TQ, to.keys_TK);
  }

  // Rotates queries and keys, or their gradients back.
  template <bool kBack>
  void turn(int begin, int end, float* queries_TQ, float* keys_TK) const {
    for (int t = begin; t < end; ++t) {
      const float *cos_p = cos + t * (kHeadDim / 2), *sin_p = sin + t * (kHeadDim / 2);
      for (int h = 0; h < kHeads; ++h) rotate<kBack>(queries_TQ + (long)t * kQueriesRow + h * kHeadDim, cos_p, sin_p);
      for (int g = 0; g < kKeyValueHeads; ++g) rotate<kBack>(keys_TK + (long)t * kKeysRow + g * kHeadDim, cos_p, sin_p);
    }
  }

  // The keys [T][kQueryRow] and values [T][kValueRow] of a group.
  void gather(int tokens, int group, const Projected& from, float* keys_TQ, float* values_TV) const {
    for (int t = 0; t < tokens; ++t) {
      const long at = (long)t * kKeysRow + group * kHeadDim;
      for (int d = 0; d < kHeadDim; ++d) keys_TQ[(long)t * kQueryRow + d] = from.keys_TK[at + d];
      for (int d = 0; d < kHeadDim; ++d) values_TV[(long)t * kValueRow + d] = from.values_TK[at + d];
    }
  }

  // The same backwards.
  void scatter(int tokens, int group, const float* dkeys_TQ, const float* dvalues_TV, const Gradients& to) const {
    for (int t = 0; t < tokens; ++t) {
      const long at = (long)t * kKeysRow + group * kHeadDim;
      for (int d = 0; d < kHeadDim; ++d) to.keys_TK[at + d] = dkeys_TQ[(long)t * kQueryRow + d];
      for (int d = 0; d < kHeadDim; ++d) to.values_TK[at + d] = dvalues_TV[(long)t * kValueRow + d];
    }
  }

  // Writes dnormed and adds to the gradients of a thread.
  void project_backward(int, int begin, int end, const Projected& projected, const Gradients& from, float* dnormed,
                        float* mine) const {
    Scratch own;
    float* dbetween = own.take(kBlock * Queries::kBetweenRow);
    const int rows = end - begin;
    const float* normed = projected.normed_TD + (long)begin * kHiddenRow;
    const float* dqueries = from.queries_TQ + (long)begin * kQueriesRow;
    const float* dkeys = from.keys_TK + (long)begin * kKeysRow;
    const float* dvalues = from.values_TK + (long)begin * kKeysRow;
    turn<true>(begin, end, from.queries_TQ, from.keys_TK);
    queries.backward_input(rows, dqueries, kQueriesRow, dnormed, kHiddenRow, dbetween);
    queries.backward_weight(rows, dqueries, kQueriesRow, normed, kHiddenRow, mine + kQueriesAt, dbetween);
    keys.template backward_input<true>(rows, dkeys, kKeysRow, dnormed, kHiddenRow, dbetween);
    keys.backward_weight(rows, dkeys, kKeysRow, normed, kHiddenRow, mine + kKeysAt, dbetween);
    values.template backward_input<true>(rows, dvalues, kKeysRow, dnormed, kHiddenRow, dbetween);
    values.backward_weight(rows, dvalues, kKeysRow, normed, kHiddenRow, mine + kValuesAt, dbetween);
  }

  static void sum_threads(const float* const* thread_gradients, int threads, const Parameters& to) {
    const Team alone{};  // too small to divide among threads
    sum_gradients(thread_gradients, kNormGainAt, threads, 1, kHidden, to.norm_gain, alone);
    Queries::sum_threads(thread_gradients, kQueriesAt, threads, to.queries, alone);
    Keys::sum_threads(thread_gradients, kKeysAt, threads, to.keys, alone);
    Keys::sum_threads(thread_gradients, kValuesAt, threads, to.values, alone);
    Output::sum_threads(thread_gradients, kOutputAt, threads, to.output, alone);
  }
};

}  // namespace
}  // namespace axion

// Sizes of what the forward pass saves: the number of heads, and the row length of their outputs.
extern "C" int axion_heads() { return kHeads; }
extern "C" int axion_heads_row() { return axion::kHeadsRow; }

extern "C" int axion_attention_forward(const axion::GroupedAttention::Parameters* parameters,
                                       const axion::Batch* batch, float* result, int threads) {
  return axion::has_memory_for([&] {
    axion::attention_forward<axion::GroupedAttention>(*parameters, *batch, result, threads);
  });
}

extern "C" int axion_attention_backward(const axion::GroupedAttention::Parameters* parameters,
                                        const axion::Batch* batch, const float* dresult, float* dhidden,
                                        const axion::GroupedAttention::Parameters* gradients, int threads) {
  return axion::has_memory_for([&] {
    axion::attention_backward<axion::GroupedAttention>(*parameters, *batch, dresult, dhidden, *gradients, threads);
  });
}
