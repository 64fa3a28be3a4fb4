// The attention block of a layer, y = x + attention(norm(x)), and its gradients. Latent attention (DeepSeek-V2, 2.1):
//
//   n = norm(x)                                   the layer's input norm
//   q = W_qb·norm(W_qa·n)   or   W_q·n            queries, kHeads × (kNope + kRope); the kRope part is then rotated
//   c, r = W_kva·n                                the latent, kLatent, and the rotary key that all heads share
//   k_h, v_h = W_kvb·norm(c)                      a head's key without positions, and its value
//   o_h = attention(q_h, [k_h, rotated r], v_h)   attention.h
//   y = x + W_o·[o_1 … o_kHeads]
//
// Saved for the backward pass: the heads' outputs and the logarithms of their sums (attention.h). The rest is
// recomputed, which is faster than storing and loading it.
#include "attention.h"
#include "linear.h"
#include "common/norm.h"
#include "common/rotary.h"
#include "rows.h"

namespace axion {
namespace {

constexpr int kQueriesWidth = kHeads * kQueryWidth;
constexpr int kDownWidth = kLatent + kRope;
constexpr int kHeadUp = kNope + kValue;
constexpr int kUpWidth = kHeads * kHeadUp;
constexpr int kHeadsWidth = kHeads * kValue;
constexpr int kQueryInput = kQueryRank ? kQueryRank : kHidden;
constexpr int kRankRow = padded(kQueryRank), kQueriesRow = padded(kQueriesWidth);
constexpr int kDownRow = padded(kDownWidth), kLatentRow = padded(kLatent), kUpRow = padded(kUpWidth);
constexpr int kHeadsRow = padded(kHeadsWidth);
constexpr int kBlock = 64;  // tokens that go through the projections together

// The parameters, or pointers to their gradients in the same order. query_down and query_gain are null without a rank.
struct Parameters {
  float *norm_gain, *query_down, *query_gain, *query_up, *latent_down, *latent_gain, *latent_up, *output;
};

// Layout of the gradients of one thread.
using QueryDown = Linear<kHidden, kQueryRank>;
using QueryUp = Linear<kQueryInput, kQueriesWidth>;
using LatentDown = Linear<kHidden, kDownWidth>;
using LatentUp = Linear<kLatent, kUpWidth>;
using Output = Linear<kHeadsWidth, kHidden>;
constexpr size_t kNormGainAt = 0;
constexpr size_t kQueryDownAt = kNormGainAt + kHiddenRow;
constexpr size_t kQueryGainAt = kQueryDownAt + QueryDown::kGradientSize;
constexpr size_t kQueryUpAt = kQueryGainAt + kRankRow;
constexpr size_t kLatentDownAt = kQueryUpAt + QueryUp::kGradientSize;
constexpr size_t kLatentGainAt = kLatentDownAt + LatentDown::kGradientSize;
constexpr size_t kLatentUpAt = kLatentGainAt + kLatentRow;
constexpr size_t kOutputAt = kLatentUpAt + LatentUp::kGradientSize;
constexpr size_t kGradients = kOutputAt + Output::kGradientSize;

struct Block {
  Norm<kHidden> norm;
  Norm<kQueryRank> query_norm;
  Norm<kLatent> latent_norm;
  QueryDown query_down;
  QueryUp query_up;
  LatentDown latent_down;
  LatentUp latent_up;
  Output output;
  const float *cos, *sin;  // [T][kRope / 2]

  Block(const Parameters& p, const float* cos, const float* sin, Scratch& scratch)
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
};

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

void project(const Block& block, const float* hidden_TD, int begin, int end, const Projected& to) {
  const int rows = end - begin;
  float* normed = to.normed_TD + (long)begin * kHiddenRow;
  float* queries = to.queries_TQ + (long)begin * kQueriesRow;
  float* down = to.down_TR + (long)begin * kDownRow;
  float* latent = to.latent_TR + (long)begin * kLatentRow;
  block.norm.forward(rows, hidden_TD + (long)begin * kHidden, kHidden, normed);
  if constexpr (kQueryRank > 0) {
    float* rank = to.rank_TQ + (long)begin * kRankRow;
    block.query_down.forward(rows, normed, kHiddenRow, rank, kRankRow);
    block.query_norm.forward(rows, rank, kRankRow, to.rank_normed_TQ + (long)begin * kRankRow);
  }
  constexpr int kInputRow = Projected::kQueryInputRow;
  block.query_up.forward(rows, to.query_input() + (long)begin * kInputRow, kInputRow, queries, kQueriesRow);
  block.latent_down.forward(rows, normed, kHiddenRow, down, kDownRow);
  block.latent_norm.forward(rows, down, kDownRow, latent);
  block.latent_up.forward(rows, latent, kLatentRow, to.up_TU + (long)begin * kUpRow, kUpRow);
  for (int t = 0; t < rows; ++t) {
    const float *cos = block.cos + (begin + t) * (kRope / 2), *sin = block.sin + (begin + t) * (kRope / 2);
    rotate(down + t * kDownRow + kLatent, cos, sin);
    for (int h = 0; h < kHeads; ++h) rotate(queries + t * kQueriesRow + h * kQueryWidth + kNope, cos, sin);
  }
}

// A head's keys [T][kQueryRow], each its own part followed by the rotary part that all heads share, and its values
// [T][kValueRow].
void gather_head(int tokens, int head, const Projected& from, float* keys_TQ, float* values_TV) {
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

HeadRows queries_of(int head, const Projected& from) { return {from.queries_TQ + head * kQueryWidth, kQueriesRow}; }
HeadRows heads_of(int head, float* heads_TH) { return {heads_TH + head * kValue, kHeadsRow}; }

void forward_sequence(const Block& block, int tokens, const int32_t* starts_T, const float* hidden_TD,
                      float* result_TD, float* heads_TH, float* lambda_HT, const Team& team) {
  Scratch scratch;
  const Projected projected(tokens, scratch);
  team.blocks(tokens, kBlock, [&](int begin, int end, int) { project(block, hidden_TD, begin, end, projected); });
  team.each(kHeads, [&](int head, int) {
    Scratch own;
    float* keys_TQ = own.take((size_t)tokens * kQueryRow);
    float* values_TV = own.take((size_t)tokens * kValueRow);
    gather_head(tokens, head, projected, keys_TQ, values_TV);
    attend(tokens, starts_T, queries_of(head, projected), keys_TQ, values_TV, heads_of(head, heads_TH),
           lambda_HT + (long)head * tokens);
  });
  team.blocks(tokens, kBlock, [&](int begin, int end, int) {
    Scratch own;
    float* out = own.take(kBlock * kHiddenRow);
    float* heads = heads_TH + (long)begin * kHeadsRow;
    for (int t = 0; t < end - begin; ++t) {
      for (int i = kHeadsWidth; i < kHeadsRow; ++i) heads[t * kHeadsRow + i] = 0;
    }
    block.output.forward(end - begin, heads, kHeadsRow, out, kHiddenRow);
    add_rows(end - begin, hidden_TD + (long)begin * kHidden, out, result_TD + (long)begin * kHidden);
  });
}

void backward_sequence(const Block& block, int tokens, const int32_t* starts_T, const float* hidden_TD,
                       float* heads_TH, const float* lambda_HT, const float* dresult_TD, float* dhidden_TD,
                       float* const* gradients, const Team& team) {
  Scratch scratch;
  const Projected projected(tokens, scratch);
  float* dheads_TH = scratch.take((size_t)tokens * kHeadsRow);
  float* dqueries_TQ = scratch.take_zeros((size_t)tokens * kQueriesRow);
  float* dup_TU = scratch.take_zeros((size_t)tokens * kUpRow);
  float* drotary_HTP = scratch.take((size_t)kHeads * tokens * kRope);
  team.blocks(tokens, kBlock, [&](int begin, int end, int thread) {
    project(block, hidden_TD, begin, end, projected);
    Scratch own;
    const int rows = end - begin;
    float* dout = own.take(kBlock * kHiddenRow);
    pad_rows(rows, dresult_TD + (long)begin * kHidden, dout);
    block.output.backward_input(rows, dout, kHiddenRow, dheads_TH + (long)begin * kHeadsRow, kHeadsRow);
    Output::backward_weight(rows, dout, kHiddenRow, heads_TH + (long)begin * kHeadsRow, kHeadsRow,
                            gradients[thread] + kOutputAt);
  });
  team.each(kHeads, [&](int head, int) {
    Scratch own;
    float* keys_TQ = own.take((size_t)tokens * kQueryRow);
    float* values_TV = own.take((size_t)tokens * kValueRow);
    float* dkeys_TQ = own.take((size_t)tokens * kQueryRow);
    float* dvalues_TV = own.take((size_t)tokens * kValueRow);
    gather_head(tokens, head, projected, keys_TQ, values_TV);
    attend_backward(tokens, starts_T, queries_of(head, projected), keys_TQ, values_TV, heads_of(head, heads_TH),
                    lambda_HT + (long)head * tokens, heads_of(head, dheads_TH),
                    {dqueries_TQ + head * kQueryWidth, kQueriesRow}, dkeys_TQ, dvalues_TV);
    for (int t = 0; t < tokens; ++t) {
      float* dup = dup_TU + (long)t * kUpRow + head * kHeadUp;
      const float* dkey = dkeys_TQ + (long)t * kQueryRow;
      for (int d = 0; d < kNope; ++d) dup[d] = dkey[d];
      for (int d = 0; d < kValue; ++d) dup[kNope + d] = dvalues_TV[(long)t * kValueRow + d];
      for (int d = 0; d < kRope; ++d) drotary_HTP[((long)head * tokens + t) * kRope + d] = dkey[kNope + d];
    }
  });
  team.blocks(tokens, kBlock, [&](int begin, int end, int thread) {
    Scratch own;
    const int rows = end - begin;
    float* mine = gradients[thread];
    float* dqueries = dqueries_TQ + (long)begin * kQueriesRow;
    float* dup = dup_TU + (long)begin * kUpRow;
    float* ddown = own.take_zeros(kBlock * kDownRow);
    for (int t = 0; t < rows; ++t) {
      const float *cos = block.cos + (begin + t) * (kRope / 2), *sin = block.sin + (begin + t) * (kRope / 2);
      for (int h = 0; h < kHeads; ++h) rotate<true>(dqueries + t * kQueriesRow + h * kQueryWidth + kNope, cos, sin);
      float* drotary = ddown + t * kDownRow + kLatent;
      for (int h = 0; h < kHeads; ++h) {
        for (int d = 0; d < kRope; ++d) drotary[d] += drotary_HTP[((long)h * tokens + begin + t) * kRope + d];
      }
      rotate<true>(drotary, cos, sin);
    }
    const float* normed = projected.normed_TD + (long)begin * kHiddenRow;
    float* dnormed = own.take(kBlock * kHiddenRow);

    constexpr int kInputRow = Projected::kQueryInputRow;
    float* dinput = kQueryRank ? own.take(kBlock * kInputRow) : dnormed;
    block.query_up.backward_input(rows, dqueries, kQueriesRow, dinput, kInputRow);
    QueryUp::backward_weight(rows, dqueries, kQueriesRow, projected.query_input() + (long)begin * kInputRow, kInputRow,
                             mine + kQueryUpAt);
    if constexpr (kQueryRank > 0) {
      float* drank = own.take_zeros(kBlock * kRankRow);
      block.query_norm.backward(rows, projected.rank_TQ + (long)begin * kRankRow, kRankRow, dinput, nullptr, drank,
                                kRankRow, mine + kQueryGainAt);
      block.query_down.backward_input(rows, drank, kRankRow, dnormed, kHiddenRow);
      QueryDown::backward_weight(rows, drank, kRankRow, normed, kHiddenRow, mine + kQueryDownAt);
    }

    const float* latent = projected.latent_TR + (long)begin * kLatentRow;
    float* dlatent = own.take(kBlock * kLatentRow);
    block.latent_up.backward_input(rows, dup, kUpRow, dlatent, kLatentRow);
    LatentUp::backward_weight(rows, dup, kUpRow, latent, kLatentRow, mine + kLatentUpAt);
    block.latent_norm.backward(rows, projected.down_TR + (long)begin * kDownRow, kDownRow, dlatent, nullptr, ddown,
                               kDownRow, mine + kLatentGainAt);
    block.latent_down.backward_input<true>(rows, ddown, kDownRow, dnormed, kHiddenRow);
    LatentDown::backward_weight(rows, ddown, kDownRow, normed, kHiddenRow, mine + kLatentDownAt);

    const long at = (long)begin * kHidden;
    block.norm.backward(rows, hidden_TD + at, kHidden, dnormed, dresult_TD + at, dhidden_TD + at, kHidden,
                        mine + kNormGainAt);
  });
}

}  // namespace
}  // namespace axion

// Sizes of what the forward pass saves: the number of heads, and the row length of their outputs.
extern "C" int axion_heads() { return kHeads; }
extern "C" int axion_heads_row() { return axion::kHeadsRow; }

// hidden, result: [B][T][kHidden]; heads: [B][T][heads_row]; lambda: [B][kHeads][T]; cos, sin: [T][kRope / 2]; starts:
// [B][T] as in attention.h, or null.
extern "C" void axion_attention_forward(const axion::Parameters* parameters, const float* cos, const float* sin,
                                        const int32_t* starts, int batch, int tokens, const float* hidden,
                                        float* result, float* heads, float* lambda, int threads) {
  using namespace axion;
  const Team team{threads};
  Scratch scratch;
  const Block block(*parameters, cos, sin, scratch);
  team.each_whole(batch, [&](int b, const Team& team) {
    forward_sequence(block, tokens, starts ? starts + (long)b * tokens : nullptr, hidden + (long)b * tokens * kHidden,
                     result + (long)b * tokens * kHidden, heads + (long)b * tokens * kHeadsRow,
                     lambda + (long)b * kHeads * tokens, team);
  });
}

// dresult, dhidden: [B][T][kHidden]; `gradients`: a pointer for each parameter, in the parameter's shape.
extern "C" void axion_attention_backward(const axion::Parameters* parameters, const float* cos, const float* sin,
                                         const int32_t* starts, int batch, int tokens, const float* hidden,
                                         float* heads, const float* lambda, const float* dresult, float* dhidden,
                                         const axion::Parameters* gradients, int threads) {
  using namespace axion;
  const Team team{threads};
  Scratch scratch;
  Block block(*parameters, cos, sin, scratch);
  block.pack_backward(*parameters, scratch);
  std::vector<float*> thread_gradients(threads);
  for (float*& mine : thread_gradients) mine = scratch.take_zeros(kGradients);
  team.each_whole(batch, [&](int b, const Team& team) {
    backward_sequence(block, tokens, starts ? starts + (long)b * tokens : nullptr, hidden + (long)b * tokens * kHidden,
                      heads + (long)b * tokens * kHeadsRow, lambda + (long)b * kHeads * tokens,
                      dresult + (long)b * tokens * kHidden, dhidden + (long)b * tokens * kHidden,
                      thread_gradients.data(), team);
  });
  const auto sum = [&](size_t at, int out, int in, float* to) {
    sum_gradients(thread_gradients.data(), at, threads, out, in, to, Team{});  // too small to divide among threads
  };
  sum(kNormGainAt, 1, kHidden, gradients->norm_gain);
  if (kQueryRank > 0) {
    sum(kQueryDownAt, kQueryRank, kHidden, gradients->query_down);
    sum(kQueryGainAt, 1, kQueryRank, gradients->query_gain);
  }
  sum(kQueryUpAt, kQueriesWidth, kQueryInput, gradients->query_up);
  sum(kLatentDownAt, kDownWidth, kHidden, gradients->latent_down);
  sum(kLatentGainAt, 1, kLatent, gradients->latent_gain);
  sum(kLatentUpAt, kUpWidth, kLatent, gradients->latent_up);
  sum(kOutputAt, kHidden, kHeadsWidth, gradients->output);
}
