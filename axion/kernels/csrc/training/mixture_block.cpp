// The feed-forward block of a layer with experts, y = x + dropout(shared(n) + Σ_chosen w_e·expert_e(n)), n = norm(x),
// and its gradients. router.h has the choice, swiglu.h the computation of an expert.
//
// Tokens are processed in chunks. Within a chunk the (token, expert) pairs are sorted by expert, so that every expert
// reads its tokens as one matrix. A chunk stays in the cache, and threads do not wait for each other.
#include "common/norm.h"
#include "common/router.h"
#include "swiglu.h"

namespace axion {
namespace {

constexpr int kChunk = 256;  // tokens

using Router = Linear<kHidden, kExperts>;
using Expert = Swiglu<kExpertWidth>;
using Shared = Swiglu<kSharedWidth>;

// The parameters, or pointers to their gradients in the same order. gate_up: [E][gate, up][width][hidden]; down:
// [E][hidden][width].
struct Parameters {
  float *norm_gain, *router, *gate_up, *down;
  SwigluParameters shared;

  SwigluParameters expert(int e) const {
    constexpr long kMatrix = (long)kExpertWidth * kHidden;
    return {gate_up + 2 * e * kMatrix, gate_up + (2 * e + 1) * kMatrix, down + e * kMatrix};
  }
};

// Layout of the gradients of one thread.
constexpr size_t kNormGainAt = 0;
constexpr size_t kRouterAt = kNormGainAt + kHiddenRow;
constexpr size_t kSharedAt = kRouterAt + Router::kGradientSize;
constexpr size_t kExpertsAt = kSharedAt + Shared::kGradients;
constexpr size_t kGradients = kExpertsAt + kExperts * Expert::kGradients;

// What the forward pass saves for the backward pass.
struct Saved {
  float* logits_TE;     // [T][kExperts]
  int32_t* experts_TK;  // [T][kChosen]
  float* routed;        // [T·kChosen][Expert::kSavedRow], within a chunk sorted by expert
  float* shared;        // [T][Shared::kSavedRow]
};

struct Block {
  Norm<kHidden> norm;
  const float* bias_E;
  Router router;
  Shared shared;
  Expert experts[kExperts];

  Block(const Parameters& p, const float* bias_E) : norm{p.norm_gain, kNormEpsilon}, bias_E(bias_E) {}

  void pack_forward(const Parameters& p, Scratch& scratch, const Team& team) {
    router.pack_forward(p.router, scratch.take(Router::kForwardSpace));
    shared.pack_forward(p.shared, scratch.take(Shared::kForwardSpace));
    float* space = scratch.take(kExperts * Expert::kForwardSpace);
    team.each(kExperts, [&](int e, int) { experts[e].pack_forward(p.expert(e), space + e * Expert::kForwardSpace); });
  }

  void pack_backward(const Parameters& p, Scratch& scratch, const Team& team) {
    router.pack_backward(p.router, scratch.take(Router::kBackwardSpace));
    shared.pack_backward(p.shared, scratch.take(Shared::kBackwardSpace));
    float* space = scratch.take(kExperts * Expert::kBackwardSpace);
    team.each(kExperts, [&](int e, int) { experts[e].pack_backward(p.expert(e), space + e * Expert::kBackwardSpace); });
  }
};

// A chunk's (token, choice) pairs sorted by expert: those of expert e are pairs[start[e]] to pairs[start[e + 1]].
struct Sorted {
  int start[kExperts + 1] = {};
  int pairs[kChunk * kChosen];  // token · kChosen + choice

  Sorted(int tokens, const int32_t* experts_TK) {
    for (int i = 0; i < tokens * kChosen; ++i) ++start[experts_TK[i] + 1];
    for (int e = 0; e < kExperts; ++e) start[e + 1] += start[e];
    int next[kExperts];
    for (int e = 0; e < kExperts; ++e) next[e] = start[e];
    for (int i = 0; i < tokens * kChosen; ++i) pairs[next[experts_TK[i]]++] = i;
  }
};

// Copies the rows of the chunk [T][kHiddenRow] that an expert reads into one matrix.
void gather(int rows, const int* pairs, const float* from_TD, float* to) {
  for (int i = 0; i < rows; ++i) {
    const float* row = from_TD + (long)(pairs[i] / kChosen) * kHiddenRow;
    for (int d = 0; d < kHiddenRow; ++d) to[(long)i * kHiddenRow + d] = row[d];
  }
}

// Adds weights[i] · from[i] to the row of the token of pair i.
void scatter(int rows, const int* pairs, const float* from, const float* weights_TK, float* to_TD) {
  for (int i = 0; i < rows; ++i) {
    float* row = to_TD + (long)(pairs[i] / kChosen) * kHiddenRow;
    const float weight = weights_TK ? weights_TK[pairs[i]] : 1;
    for (int d = 0; d < kHiddenRow; ++d) row[d] += weight * from[(long)i * kHiddenRow + d];
  }
}

void forward_chunk(const Block& block, int tokens, const float* hidden_TD, float* result_TD, const Saved& saved,
                   const Dropout* dropout, long first) {
  Scratch scratch;
  float* normed_TD = scratch.take(kChunk * kHiddenRow);
  float* logits_TE = scratch.take(kChunk * kExpertsRow);
  float* weights_TK = scratch.take(kChunk * kChosen);
  float* output_TD = scratch.take(kChunk * kHiddenRow);
  block.norm.forward(tokens, hidden_TD, kHidden, normed_TD);
  block.router.forward(tokens, normed_TD, kHiddenRow, logits_TE, kExpertsRow);
  for (int t = 0; t < tokens; ++t) {
    float scores_E[kExpertsRow];
    affinities(logits_TE + t * kExpertsRow, scores_E);
    choose(scores_E, block.bias_E, saved.experts_TK + t * kChosen);
    weigh(scores_E, saved.experts_TK + t * kChosen, weights_TK + t * kChosen);
    for (int e = 0; e < kExperts; ++e) saved.logits_TE[t * kExperts + e] = logits_TE[t * kExpertsRow + e];
  }

  block.shared.forward(tokens, normed_TD, saved.shared, output_TD);
  const Sorted sorted(tokens, saved.experts_TK);
  float* inputs = scratch.take(kChunk * kHiddenRow);
  float* outputs = scratch.take(kChunk * kHiddenRow);
  for (int e = 0; e < kExperts; ++e) {
    const int rows = sorted.start[e + 1] - sorted.start[e];
    const int* pairs = sorted.pairs + sorted.start[e];
    gather(rows, pairs, normed_TD, inputs);
    block.experts[e].forward(rows, inputs, saved.routed + (long)sorted.start[e] * Expert::kSavedRow, outputs);
    scatter(rows, pairs, outputs, weights_TK, output_TD);
  }
  add_rows(tokens, hidden_TD, output_TD, result_TD, dropout, first);
}

void backward_chunk(const Block& block, int tokens, const float* hidden_TD, const Saved& saved, const float* dresult_TD,
                    const float* dlogits_TE, float* dhidden_TD, float* gradients, const Dropout* dropout, long first) {
  Scratch scratch;
  float* normed_TD = scratch.take(kChunk * kHiddenRow);
  float* dnormed_TD = scratch.take(kChunk * kHiddenRow);
  float* doutput_TD = scratch.take(kChunk * kHiddenRow);
  float* scores_TE = scratch.take(kChunk * kExpertsRow);
  float* weights_TK = scratch.take(kChunk * kChosen);
  float* dweights_TK = scratch.take(kChunk * kChosen);
  block.norm.forward(tokens, hidden_TD, kHidden, normed_TD);
  for (int t = 0; t < tokens; ++t) {
    float logits_E[kExpertsRow] = {};
    for (int e = 0; e < kExperts; ++e) logits_E[e] = saved.logits_TE[t * kExperts + e];
    affinities(logits_E, scores_TE + t * kExpertsRow);
    weigh(scores_TE + t * kExpertsRow, saved.experts_TK + t * kChosen, weights_TK + t * kChosen);
  }
  pad_rows(tokens, dresult_TD, doutput_TD, dropout, first);
  block.shared.backward(tokens, normed_TD, saved.shared, doutput_TD, nullptr, dnormed_TD, nullptr,
                        gradients + kSharedAt);

  const Sorted sorted(tokens, saved.experts_TK);
  float* inputs = scratch.take(kChunk * kHiddenRow);
  float* dinputs = scratch.take(kChunk * kHiddenRow);
  float* doutputs = scratch.take(kChunk * kHiddenRow);
  float* weights = scratch.take(kChunk);
  float* dweights = scratch.take(kChunk);
  for (int e = 0; e < kExperts; ++e) {
    const int rows = sorted.start[e + 1] - sorted.start[e];
    const int* pairs = sorted.pairs + sorted.start[e];
    gather(rows, pairs, normed_TD, inputs);
    gather(rows, pairs, doutput_TD, doutputs);
    for (int i = 0; i < rows; ++i) weights[i] = weights_TK[pairs[i]];
    block.experts[e].backward(rows, inputs, saved.routed + (long)sorted.start[e] * Expert::kSavedRow, doutputs, weights,
                              dinputs, dweights, gradients + kExpertsAt + e * Expert::kGradients);
    for (int i = 0; i < rows; ++i) dweights_TK[pairs[i]] = dweights[i];
    scatter(rows, pairs, dinputs, nullptr, dnormed_TD);
  }

  float* dlogits = scratch.take_zeros(kChunk * kExpertsRow);
  for (int t = 0; t < tokens; ++t) {
    if (dlogits_TE) {
      for (int e = 0; e < kExperts; ++e) dlogits[t * kExpertsRow + e] = dlogits_TE[t * kExperts + e];
    }
    weigh_backward(scores_TE + t * kExpertsRow, saved.experts_TK + t * kChosen, dweights_TK + t * kChosen,
                   dlogits + t * kExpertsRow);
  }
  block.router.backward_input<true>(tokens, dlogits, kExpertsRow, dnormed_TD, kHiddenRow);
  Router::backward_weight(tokens, dlogits, kExpertsRow, normed_TD, kHiddenRow, gradients + kRouterAt);

  block.norm.backward(tokens, hidden_TD, kHidden, dnormed_TD, dresult_TD, dhidden_TD, kHidden, gradients + kNormGainAt);
}

Saved from_token(const Saved& saved, long token) {
  return {saved.logits_TE + token * kExperts, saved.experts_TK + token * kChosen,
          saved.routed + token * kChosen * Expert::kSavedRow, saved.shared + token * Shared::kSavedRow};
}

}  // namespace
}  // namespace axion

// Row lengths of what the forward pass saves of the routed and the shared experts.
extern "C" int axion_routed_row() { return axion::Expert::kSavedRow; }
extern "C" int axion_shared_row() { return axion::Shared::kSavedRow; }

// hidden, result: [T][kHidden]; bias: [kExperts]; `saved` is filled; dropout: or null.
extern "C" int axion_mixture_forward(const axion::Parameters* parameters, const float* bias, int tokens,
                                     const float* hidden, float* result, const axion::Saved* saved,
                                     const axion::Dropout* dropout, int threads) {
  using namespace axion;
  return has_memory_for([&] {
    const Team team{threads};
    Scratch scratch;
    Block block(*parameters, bias);
    block.pack_forward(*parameters, scratch, team);
    team.blocks(tokens, kChunk, [&](int begin, int end, int) {
      forward_chunk(block, end - begin, hidden + (long)begin * kHidden, result + (long)begin * kHidden,
                    from_token(*saved, begin), dropout, begin);
    });
  });
}

// dresult, dhidden: [T][kHidden]; dlogits: [T][kExperts] or null; `gradients`: a pointer for each parameter.
extern "C" int axion_mixture_backward(const axion::Parameters* parameters, const float* bias, int tokens,
                                      const float* hidden, const axion::Saved* saved, const float* dresult,
                                      const float* dlogits, float* dhidden, const axion::Parameters* gradients,
                                      const axion::Dropout* dropout, int threads) {
  using namespace axion;
  return has_memory_for([&] {
    const Team team{threads};
    Scratch scratch;
    Block block(*parameters, bias);
    block.pack_backward(*parameters, scratch, team);
    std::vector<float*> thread_gradients(threads);
    for (float*& mine : thread_gradients) mine = scratch.take_zeros(kGradients);
    team.blocks(tokens, kChunk, [&](int begin, int end, int thread) {
      backward_chunk(block, end - begin, hidden + (long)begin * kHidden, from_token(*saved, begin),
                     dresult + (long)begin * kHidden, dlogits ? dlogits + (long)begin * kExperts : nullptr,
                     dhidden + (long)begin * kHidden, thread_gradients[thread], dropout, begin);
    });
    const Team alone{};
    sum_gradients(thread_gradients.data(), kNormGainAt, threads, 1, kHidden, gradients->norm_gain, alone);
    sum_gradients(thread_gradients.data(), kRouterAt, threads, kExperts, kHidden, gradients->router, alone);
    Shared::sum_threads(thread_gradients.data(), kSharedAt, threads, gradients->shared, alone);
    team.each(kExperts, [&](int e, int) {
      const size_t at = kExpertsAt + e * Expert::kGradients;
      Expert::sum_threads(thread_gradients.data(), at, threads, gradients->expert(e), alone);
    });
  });
}
