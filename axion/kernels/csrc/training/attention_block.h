// The attention block of a layer, y = x + dropout(W_o·[o_1 … o_kHeads]), and its gradients, for any kind of attention.
//
// A kind, LatentAttention or GroupedAttention, computes queries, keys and values from norm(x) for the tokens of one
// sequence. attention.h computes the heads' outputs o_h. kHeads queries share kKeyValueHeads keys and values, each of
// them a group of queries.
//
// Saved for the backward pass: the heads' outputs and the logarithms of their sums (attention.h). The rest is
// recomputed, which is faster than storing and loading it.
#pragma once

#include "attention.h"
#include "rows.h"
#include "team.h"

namespace axion {

constexpr int kQueriesWidth = kHeads * kQueryWidth, kQueriesRow = padded(kQueriesWidth);
constexpr int kHeadsWidth = kHeads * kValue, kHeadsRow = padded(kHeadsWidth);
constexpr int kGroup = kHeads / kKeyValueHeads;
constexpr int kBlock = 64;  // tokens that go through the projections together

// Several sequences of the same length.
struct Batch {
  int count, tokens;
  const float *cos, *sin;          // [T][kRope / 2]
  const int32_t* starts_BT;        // as in attention.h, or null
  const float* hidden_BTD;
  float *heads_BTH, *lambda_BHT;   // saved
  const Dropout* dropout;          // or null
};

// One sequence of a batch.
struct Sequence {
  int tokens;
  long first;  // number of its first token in the batch
  const int32_t* starts_T;
  const float* hidden_TD;
  float *heads_TH, *lambda_HT;
  const Dropout* dropout;

  Sequence(const Batch& batch, int b)
      : tokens(batch.tokens),
        first((long)b * batch.tokens),
        starts_T(batch.starts_BT ? batch.starts_BT + first : nullptr),
        hidden_TD(batch.hidden_BTD + first * kHidden),
        heads_TH(batch.heads_BTH + first * kHeadsRow),
        lambda_HT(batch.lambda_BHT + first * kHeads),
        dropout(batch.dropout) {}

  const float* hidden(int t) const { return hidden_TD + (long)t * kHidden; }
  float* heads(int t) const { return heads_TH + (long)t * kHeadsRow; }
  float* lambda(int head) const { return lambda_HT + (long)head * tokens; }
};

inline HeadRows query_rows(int head, float* queries_TQ) { return {queries_TQ + head * kQueryWidth, kQueriesRow}; }
inline HeadRows head_rows(int head, float* heads_TH) { return {heads_TH + head * kValue, kHeadsRow}; }

template <class Attention>
void forward_sequence(const Attention& attention, const Sequence& sequence, float* result_TD, const Team& team) {
  Scratch scratch;
  const int tokens = sequence.tokens;
  const typename Attention::Projected projected(tokens, scratch);
  team.blocks(tokens, kBlock, [&](int begin, int end, int) {
    attention.project(sequence.hidden(begin), begin, end, projected);
  });
  team.each(kKeyValueHeads, [&](int group, int) {
    Scratch own;
    float* keys_TQ = own.take((size_t)tokens * kQueryRow);
    float* values_TV = own.take((size_t)tokens * kValueRow);
    attention.gather(tokens, group, projected, keys_TQ, values_TV);
    for (int head = group * kGroup; head < (group + 1) * kGroup; ++head) {
      attend(tokens, sequence.starts_T, query_rows(head, projected.queries_TQ), keys_TQ, values_TV,
             head_rows(head, sequence.heads_TH), sequence.lambda(head));
    }
  });
  team.blocks(tokens, kBlock, [&](int begin, int end, int) {
    Scratch own;
    float* out = own.take(kBlock * kHiddenRow);
    float* heads = sequence.heads(begin);
    for (int t = 0; t < end - begin; ++t) {
      for (int i = kHeadsWidth; i < kHeadsRow; ++i) heads[t * kHeadsRow + i] = 0;
    }
    attention.output.forward(end - begin, heads, kHeadsRow, out, kHiddenRow);
    add_rows(end - begin, sequence.hidden(begin), out, result_TD + (long)begin * kHidden, sequence.dropout,
             sequence.first + begin);
  });
}

template <class Attention>
void backward_sequence(const Attention& attention, const Sequence& sequence, const float* dresult_TD, float* dhidden_TD,
                       float* const* gradients, const Team& team) {
  Scratch scratch;
  const int tokens = sequence.tokens;
  const typename Attention::Projected projected(tokens, scratch);
  const typename Attention::Gradients dprojected(tokens, scratch);
  float* dheads_TH = scratch.take((size_t)tokens * kHeadsRow);
  team.blocks(tokens, kBlock, [&](int begin, int end, int thread) {
    attention.project(sequence.hidden(begin), begin, end, projected);
    Scratch own;
    const int rows = end - begin;
    float* dout = own.take(kBlock * kHiddenRow);
    float* dbetween = own.take(kBlock * Attention::Output::kBetweenRow);
    pad_rows(rows, dresult_TD + (long)begin * kHidden, dout, sequence.dropout, sequence.first + begin);
    attention.output.backward_input(rows, dout, kHiddenRow, dheads_TH + (long)begin * kHeadsRow, kHeadsRow, dbetween);
    attention.output.backward_weight(rows, dout, kHiddenRow, sequence.heads(begin), kHeadsRow,
                                     gradients[thread] + Attention::kOutputAt, dbetween);
  });
  team.each(kKeyValueHeads, [&](int group, int) {
    Scratch own;
    float* keys_TQ = own.take((size_t)tokens * kQueryRow);
    float* values_TV = own.take((size_t)tokens * kValueRow);
    float* dkeys_TQ = own.take_zeros((size_t)tokens * kQueryRow);
    float* dvalues_TV = own.take_zeros((size_t)tokens * kValueRow);
    attention.gather(tokens, group, projected, keys_TQ, values_TV);
    for (int head = group * kGroup; head < (group + 1) * kGroup; ++head) {
      attend_backward(tokens, sequence.starts_T, query_rows(head, projected.queries_TQ), keys_TQ, values_TV,
                      head_rows(head, sequence.heads_TH), sequence.lambda(head), head_rows(head, dheads_TH),
                      query_rows(head, dprojected.queries_TQ), dkeys_TQ, dvalues_TV);
    }
    attention.scatter(tokens, group, dkeys_TQ, dvalues_TV, dprojected);
  });
  team.blocks(tokens, kBlock, [&](int begin, int end, int thread) {
    Scratch own;
    float* mine = gradients[thread];
    float* dnormed = own.take(kBlock * kHiddenRow);
    attention.project_backward(tokens, begin, end, projected, dprojected, dnormed, mine);
    const long at = (long)begin * kHidden;
    attention.norm.backward(end - begin, sequence.hidden(begin), kHidden, dnormed, dresult_TD + at, dhidden_TD + at,
                            kHidden, mine + Attention::kNormGainAt);
  });
}

// result: [B][T][kHidden].
template <class Attention>
void attention_forward(const typename Attention::Parameters& parameters, const Batch& batch, float* result,
                       int threads) {
  const Team team{threads};
  Scratch scratch;
  const Attention attention(parameters, batch.cos, batch.sin, scratch);
  team.each_whole(batch.count, [&](int b, const Team& team) {
    const Sequence sequence(batch, b);
    forward_sequence(attention, sequence, result + sequence.first * kHidden, team);
  });
}

// dresult, dhidden: [B][T][kHidden]; `gradients`: a pointer for each parameter, in the parameter's shape.
template <class Attention>
void attention_backward(const typename Attention::Parameters& parameters, const Batch& batch, const float* dresult,
                        float* dhidden, const typename Attention::Parameters& gradients, int threads) {
  const Team team{threads};
  Scratch scratch;
  Attention attention(parameters, batch.cos, batch.sin, scratch);
  attention.pack_backward(parameters, scratch);
  std::vector<float*> thread_gradients(threads);
  for (float*& mine : thread_gradients) mine = scratch.take_zeros(Attention::kGradients);
  team.each_whole(batch.count, [&](int b, const Team& team) {
    const Sequence sequence(batch, b);
    backward_sequence(attention, sequence, dresult + sequence.first * kHidden, dhidden + sequence.first * kHidden,
                      thread_gradients.data(), team);
  });
  Attention::sum_threads(thread_gradients.data(), threads, gradients);
}

}  // namespace axion
