// Latent attention (DeepSeek-V2, 2.1), for the attention block (attention_block.h):
//
//   n = norm(x)                                   the layer's input norm
//   q = W_qb·norm(W_qa·n)   or   W_q·n            queries, kHeads × (kNope + kRope); the kRope part is then rotated
//   c, r = W_kva·n                                the latent, kLatent, and the rotary key that all heads share
//   k_h, v_h = W_kvb·norm(c)                      a head's key without positions, and its value
//   o_h = attention(q_h, [k_h, rotated r], v_h)
#include "attention_block.h"
#include "linear.h"
#include "common/norm.h"
#include "common/rotary.h"

namespace axion {
namespace {

constexpr int kDownWidth = kLatent + kRope;
constexpr int kHeadUp = kNope + kValue;
constexpr int kUpWidth = kHeads * kHeadUp;
constexpr int kQueryInput = kQueryRank ? kQueryRank : kHidden;
constexpr int kRankRow = padded(kQueryRank), kLatentRow = padded(kLatent);
constexpr int kDownRow = padded(kDownWidth), kUpRow = padded(kUpWidth);

struct LatentAttention {
  using QueryDown = Linear<kHidden, kQueryRank>;
  using QueryUp = Linear<kQueryInput, kQueriesWidth>;
  using LatentDown = Linear<kHidden, kDownWidth>;
  using LatentUp = Linear<kLatent, kUpWidth>;
  using Output = Linear<kHeadsWidth, kHidden>;

  // The parameters, or pointers to their gradients in the same order. query_down and query_gain are null without a rank.
  struct Parameters {
    float *norm_gain, *query_down, *query_gain, *query_up, *latent_down, *latent_gain, *latent_up, *output;
  };

  // Layout of the gradients of one thread.
  static constexpr size_t kNormGainAt = 0;
  static constexpr size_t kQueryDownAt = kNormGainAt + kHiddenRow;
  static constexpr size_t kQueryGainAt = kQueryDownAt + QueryDown::kGradientSize;
  static constexpr size_t kQueryUpAt = kQueryGainAt + kRankRow;
  static constexpr size_t kLatentDownAt = kQueryUpAt + QueryUp::kGradientSize;
  static constexpr size_t kLatentGainAt = kLatentDownAt + LatentDown::kGradientSize;
  static constexpr size_t kLatentUpAt = kLatentGainAt + kLatentRow;
  static constexpr size_t kOutputAt = kLatentUpAt + LatentUp::kGradientSize;
  static constexpr size_t kGradients = kOutputAt + Output::kGradientSize;

  Norm<kHidden> norm;
  Norm<kQueryRank> query_norm;
  Norm<kLatent> latent_norm;
  QueryDown query_down;
  QueryUp query_up;
  LatentDown latent_down;
  LatentUp latent_up;
  Output output;
  const float *cos, *sin;

  LatentAttention(const Parameters& p, const float* cos, const float* sin, Scratch& scratch)
      : norm{p.norm_gain, kNormEpsilon},
        query_norm{p.query_gain, kLatentEpsilon},
        latent_norm{p.latent_gain, kLatentEpsilon},
        cos(cos),
        sin(sin) {
    if constexpr (kQueryRank > 0) query_down.pack_forward(p.query_down, scratch.take(QueryDown::kForwardSpace));
    query_up.pack_forward(p.query_up, scratch.take(QueryUp::kForwardSpace));
    latent_down.pack_forward(p.latent_down, scratch.take(LatentDown::kForwardSpace));
    latent_up.pack_forward(p.latent_up, scratch.take(LatentUp::kForwardSpace));
    output.pack_forward(p.output, scratch.take(Output::kForwardSpace));
  }

  void pack_backward(const Parameters& p, Scratch& scratch) {
    if constexpr (kQueryRank > 0) query_down.pack_backward(p.query_down, scratch.take(QueryDown::kBackwardSpace));
    query_up.pack_backward(p.query_up, scratch.take(QueryUp::kBackwardSpace));
    latent_down.pack_backward(p.latent_down, scratch.take(LatentDown::kBackwardSpace));
    latent_up.pack_backward(p.latent_up, scratch.take(LatentUp::kBackwardSpace));
    output.pack_backward(p.output, scratch.take(Output::kBackwardSpace));
  }

  // The projections of the tokens of one sequence.
  struct Projected {
    float *normed_TD, *rank_TQ, *rank_normed_TQ, *queries_TQ, *down_TR, *latent_TR, *up_TU;

    Projected(int tokens, Scratch& scratch)
        : normed_TD(scratch.take((size_t)tokens * kHiddenRow)),
          rank_TQ(scratch.take((size_t)tokens * kRankRow)),
          rank_normed_TQ(scratch.take((size_t)tokens * kRankRow)),
          queries_TQ(scratch.take((size_t)tokens * kQueriesRow)),
          down_TR(scratch.take((size_t)tokens * kDownRow)),
          latent_TR(scratch.take((size_t)tokens * kLatentRow)),
          up_TU(scratch.take((size_t)tokens * kUpRow)) {}

    // The input of the queries' last projection, and the length of its rows.
    float* query_input() const { return kQueryRank ? rank_normed_TQ : normed_TD; }
    static constexpr int kQueryInputRow = kQueryRank ? kRankRow : kHiddenRow;
  };

  // The gradients of what is projected last. Each head has its own of the shared rotary key.
  struct Gradients {
    float *queries_TQ, *up_TU, *rotary_HTP;

    Gradients(int tokens, Scratch& scratch)
        : queries_TQ(scratch.take_zeros((size_t)tokens * kQueriesRow)),
          up_TU(scratch.take_zeros((size_t)tokens * kUpRow)),
          rotary_HTP(scratch.take((size_t)kHeads * tokens * kRope)) {}
  };

  // Tokens `begin` to `end` of a sequence; `hidden` is that of the first of them.
  void project(const float* hidden, int begin, int end, const Projected& to) const {
    const int rows = end - begin;
    float* normed = to.normed_TD + (long)begin * kHiddenRow;
    float* queries = to.queries_TQ + (long)begin * kQueriesRow;
    float* down = to.down_TR + (long)begin * kDownRow;
    float* latent = to.latent_TR + (long)begin * kLatentRow;
    norm.forward(rows, hidden, kHidden, normed);
    if constexpr (kQueryRank > 0) {
      float* rank = to.rank_TQ + (long)begin * kRankRow;
      query_down.forward(rows, normed, kHiddenRow, rank, kRankRow);
      query_norm.forward(rows, rank, kRankRow, to.rank_normed_TQ + (long)begin * kRankRow);
    }
    constexpr int kInputRow = Projected::kQueryInputRow;
    query_up.forward(rows, to.query_input() + (long)begin * kInputRow, kInputRow, queries, kQueriesRow);
    latent_down.forward(rows, normed, kHiddenRow, down, kDownRow);
    latent_norm.forward(rows, down, kDownRow, latent);
    latent_up.forward(rows, latent, kLatentRow, to.up_TU + (long)begin * kUpRow, kUpRow);
    for (int t = 0; t < rows; ++t) {
      const float *cos_p = cos + (begin + t) * (kRope / 2), *sin_p = sin + (begin + t) * (kRope / 2);
      rotate(down + t * kDownRow + kLatent, cos_p, sin_p);
      for (int h = 0; h < kHeads; ++h) rotate(queries + t * kQueriesRow + h * kQueryWidth + kNope, cos_p, sin_p);
    }
  }

  // A head's keys [T][kQueryRow], each its own part followed by the rotary part that all heads share, and its values
  // [T][kValueRow].
  void gather(int tokens, int head, const Projected& from, float* keys_TQ, float* values_TV) const {
    for (int t = 0; t < tokens; ++t) {
      float* key = keys_TQ + (long)t * kQueryRow;
      const float* own = from.up_TU + (long)t * kUpRow + head * kHeadUp;
      const float* shared = from.down_TR + (long)t * kDownRow + kLatent;
      for (int d = 0; d < kNope; ++d) key[d] = own[d];
      for (int d = 0; d < kRope; ++d) key[kNope + d] = shared[d];
      for (int d = kQueryWidth; d < kQueryRow; ++d) key[d] = 0;
      for (int d = 0; d < kValue; ++d) values_TV[(long)t * kValueRow + d] = own[kNope + d];
    }
  }

  // The same backwards.
  void scatter(int tokens, int head, const float* dkeys_TQ, const float* dvalues_TV, const Gradients& to) const {
    for (int t = 0; t < tokens; ++t) {
      float* dup = to.up_TU + (long)t * kUpRow + head * kHeadUp;
      const float* dkey = dkeys_TQ + (long)t * kQueryRow;
      for (int d = 0; d < kNope; ++d) dup[d] = dkey[d];
      for (int d = 0; d < kValue; ++d) dup[kNope + d] = dvalues_TV[(long)t * kValueRow + d];
      for (int d = 0; d < kRope; ++d) to.rotary_HTP[((long)head * tokens + t) * kRope + d] = dkey[kNope + d];
    }
  }

  // Writes dnormed and adds to the gradients of a thread.
  void project_backward(int tokens, int begin, int end, const Projected& projected, const Gradients& from,
                        float* dnormed, float* mine) const {
    Scratch own;
    const int rows = end - begin;
    float* dqueries = from.queries_TQ + (long)begin * kQueriesRow;
    float* dup = from.up_TU + (long)begin * kUpRow;
    float* ddown = own.take_zeros(kBlock * kDownRow);
    for (int t = 0; t < rows; ++t) {
      const float *cos_p = cos + (begin + t) * (kRope / 2), *sin_p = sin + (begin + t) * (kRope / 2);
      for (int h = 0; h < kHeads; ++h) rotate<true>(dqueries + t * kQueriesRow + h * kQueryWidth + kNope, cos_p, sin_p);
      float* drotary = ddown + t * kDownRow + kLatent;
      for (int h = 0; h < kHeads; ++h) {
        for (int d = 0; d < kRope; ++d) drotary[d] += from.rotary_HTP[((long)h * tokens + begin + t) * kRope + d];
      }
      rotate<true>(drotary, cos_p, sin_p);
    }
    const float* normed = projected.normed_TD + (long)begin * kHiddenRow;

    constexpr int kInputRow = Projected::kQueryInputRow;
    float* dinput = kQueryRank ? own.take(kBlock * kInputRow) : dnormed;
    query_up.backward_input(rows, dqueries, kQueriesRow, dinput, kInputRow);
    QueryUp::backward_weight(rows, dqueries, kQueriesRow, projected.query_input() + (long)begin * kInputRow, kInputRow,
                             mine + kQueryUpAt);
    if constexpr (kQueryRank > 0) {
      float* drank = own.take_zeros(kBlock * kRankRow);
      query_norm.backward(rows, projected.rank_TQ + (long)begin * kRankRow, kRankRow, dinput, nullptr, drank, kRankRow,
                          mine + kQueryGainAt);
      query_down.backward_input(rows, drank, kRankRow, dnormed, kHiddenRow);
      QueryDown::backward_weight(rows, drank, kRankRow, normed, kHiddenRow, mine + kQueryDownAt);
    }

    const float* latent = projected.latent_TR + (long)begin * kLatentRow;
    float* dlatent = own.take(kBlock * kLatentRow);
    latent_up.backward_input(rows, dup, kUpRow, dlatent, kLatentRow);
    LatentUp::backward_weight(rows, dup, kUpRow, latent, kLatentRow, mine + kLatentUpAt);
    latent_norm.backward(rows, projected.down_TR + (long)begin * kDownRow, kDownRow, dlatent, nullptr, ddown, kDownRow,
                         mine + kLatentGainAt);
    latent_down.backward_input<true>(rows, ddown, kDownRow, dnormed, kHiddenRow);
    LatentDown::backward_weight(rows, ddown, kDownRow, normed, kHiddenRow, mine + kLatentDownAt);
  }

  static void sum_threads(const float* const* thread_gradients, int threads, const Parameters& to) {
    const Team alone{};  // too small to divide among threads
    sum_gradients(thread_gradients, kNormGainAt, threads, 1, kHidden, to.norm_gain, alone);
    if (kQueryRank > 0) {
      QueryDown::sum_threads(thread_gradients, kQueryDownAt, threads, to.query_down, alone);
      sum_gradients(thread_gradients, kQueryGainAt, threads, 1, kQueryRank, to.query_gain, alone);
    }
    QueryUp::sum_threads(thread_gradients, kQueryUpAt, threads, to.query_up, alone);
    LatentDown::sum_threads(thread_gradients, kLatentDownAt, threads, to.latent_down, alone);
    sum_gradients(thread_gradients, kLatentGainAt, threads, 1, kLatent, to.latent_gain, alone);
    LatentUp::sum_threads(thread_gradients, kLatentUpAt, threads, to.latent_up, alone);
    Output::sum_threads(thread_gradients, kOutputAt, threads, to.output, alone);
  }
};

}  // namespace
}  // namespace axion

// Sizes of what the forward pass saves: the number of heads, and the row length of their outputs.
extern "C" int axion_heads() { return kHeads; }
extern "C" int axion_heads_row() { return axion::kHeadsRow; }

extern "C" int axion_attention_forward(const axion::LatentAttention::Parameters* parameters,
                                       const axion::Batch* batch, float* result, int threads) {
  return axion::has_memory_for([&] {
    axion::attention_forward<axion::LatentAttention>(*parameters, *batch, result, threads);
  });
}

extern "C" int axion_attention_backward(const axion::LatentAttention::Parameters* parameters,
                                        const axion::Batch* batch, const float* dresult, float* dhidden,
                                        const axion::LatentAttention::Parameters* gradients, int threads) {
  return axion::has_memory_for([&] {
    axion::attention_backward<axion::LatentAttention>(*parameters, *batch, dresult, dhidden, *gradients, threads);
  });
}
