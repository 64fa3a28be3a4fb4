// The last norm, the language-model head and the loss, without storing the logits of all tokens.
//
//   z = W_head·norm(x)      loss = Σ_t  log Σ_v e^(z_tv) − z_t,target      dz = softmax(z) − [v = target]
//
// With smoothing ε, the target's weight is 1 − ε and every entry has another ε/kVocabulary, as in PyTorch:
//
//   loss = Σ_t  log Σ_v e^(z_tv) − (1 − ε)·z_t,target − ε·mean_v z_tv      dz = softmax(z) − (1 − ε)·[v = target] − ε/V
//
// The loss is a plain sum, so its gradients follow from the logits of a token alone: the forward pass computes them,
// and the backward pass only scales them. Tokens with a negative target are left out.
#include <algorithm>
#include <cmath>

#include "dimensions.h"
#include "linear.h"
#include "common/norm.h"
#include "rows.h"
#include "scratch.h"

namespace axion {
namespace {

constexpr int kVocabularyRow = padded(kVocabulary);
// Tokens whose logits are in memory at once. A head that is larger than the second-level cache is read less often with
// more of them, up to 4 MiB of logits; with a small one, the logits should stay in that cache.
constexpr int kMostLogits = (long)kVocabularyRow * kHidden < 1 << 20 ? 0 : 1 << 20;
constexpr int kBlock = std::min(std::max(kMostLogits / kVocabularyRow, 64), 256);

using Head = Linear<kHidden, kVocabulary>;

struct Parameters {
  float *norm_gain, *head;
};

constexpr size_t kNormGainAt = 0;
constexpr size_t kHeadAt = kNormGainAt + kHiddenRow;
constexpr size_t kGradients = kHeadAt + Head::kGradientSize;

// Sums of losses in nats, without and with smoothing.
struct Losses {
  double plain, smoothed;
};

// The losses of one token. With kGradient, its logits [kVocabularyRow], whose padding is zero, are overwritten
// by the gradient of the smoothed loss.
template <bool kGradient>
Losses token_losses(float* logits_V, int target, float smoothing) {
  Vector logits = {};
  if (smoothing > 0) {
    for (int v = 0; v < kVocabularyRow; v += kLanes) logits += load(logits_V + v);
  }
  const float mean = sum(logits) / kVocabulary;
  for (int v = kVocabulary; v < kVocabularyRow; ++v) logits_V[v] = -1e30f;
  Vector highest = load(logits_V);
  for (int v = kLanes; v < kVocabularyRow; v += kLanes) highest = max(highest, load(logits_V + v));
  const float top = largest(highest);
  const float of_target = logits_V[target];
  Vector total = {};
  for (int v = 0; v < kVocabularyRow; v += kLanes) {
    const Vector power = exp(load(logits_V + v) - top);
    total += power;
    if (kGradient) store(logits_V + v, power);
  }
  const float all = sum(total);
  if (kGradient) {
    const float scale = 1 / all, shared = smoothing / kVocabulary;
    for (int v = 0; v < kVocabularyRow; v += kLanes) store(logits_V + v, load(logits_V + v) * scale - shared);
    logits_V[target] -= 1 - smoothing;
  }
  const float of_all = top + std::log(all), plain = of_all - of_target;
  return {plain, (1 - smoothing) * plain + smoothing * (of_all - mean)};
}

// The sum of the losses of a block of tokens. dhidden and gradients may be null.
Losses block_losses(const Norm<kHidden>& norm, const Head& head, int tokens, const float* hidden_TD,
                    const int64_t* targets_T, float smoothing, float* dhidden_TD, float* gradients) {
  Scratch scratch;
  float* normed_TD = scratch.take(kBlock * kHiddenRow);
  float* logits_TV = scratch.take((size_t)kBlock * kVocabularyRow);
  norm.forward(tokens, hidden_TD, kHidden, normed_TD);
  head.forward(tokens, normed_TD, kHiddenRow, logits_TV, kVocabularyRow);
  Losses total = {};
  for (int t = 0; t < tokens; ++t) {
    float* logits_V = logits_TV + (long)t * kVocabularyRow;
    if (targets_T[t] < 0) {
      for (int v = 0; v < kVocabularyRow; ++v) logits_V[v] = 0;  // no loss, no gradient
    } else {
      const auto losses_of = gradients ? token_losses<true> : token_losses<false>;
      const Losses one = losses_of(logits_V, targets_T[t], smoothing);
      total.plain += one.plain;
      total.smoothed += one.smoothed;
    }
  }
  if (gradients) {
    float* dnormed_TD = scratch.take(kBlock * kHiddenRow);
    head.backward_input(tokens, logits_TV, kVocabularyRow, dnormed_TD, kHiddenRow);
    Head::backward_weight(tokens, logits_TV, kVocabularyRow, normed_TD, kHiddenRow, gradients + kHeadAt);
    norm.backward(tokens, hidden_TD, kHidden, dnormed_TD, nullptr, dhidden_TD, kHidden, gradients + kNormGainAt);
  }
  return total;
}

}  // namespace
}  // namespace axion

// hidden: [T][kHidden]; targets: [T], negative where nothing is predicted. Writes the sums of the losses and, unless
// `gradients` is null, the gradients of the smoothed one: dhidden [T][kHidden], and those of the parameters.
extern "C" int axion_head_losses(const axion::Parameters* parameters, int tokens, const float* hidden,
                                 const int64_t* targets, float smoothing, axion::Losses* total, float* dhidden,
                                 const axion::Parameters* gradients, int threads) {
  using namespace axion;
  return has_memory_for([&] {
    const Team team{threads};
    Scratch scratch;
    const Norm<kHidden> norm{parameters->norm_gain, kNormEpsilon};
    Head head;
    head.pack_forward(parameters->head, scratch.take(Head::kForwardSpace));
    if (gradients) head.pack_backward(parameters->head, scratch.take(Head::kBackwardSpace));
    std::vector<float*> thread_gradients(threads);
    if (gradients) {
      for (float*& mine : thread_gradients) mine = scratch.take_zeros(kGradients);
    }
    std::vector<Losses> losses((tokens + kBlock - 1) / kBlock);
    team.blocks(tokens, kBlock, [&](int begin, int end, int thread) {
      losses[begin / kBlock] =
          block_losses(norm, head, end - begin, hidden + (long)begin * kHidden, targets + begin, smoothing,
                       gradients ? dhidden + (long)begin * kHidden : nullptr, thread_gradients[thread]);
    });
    if (gradients) {
      sum_gradients(thread_gradients.data(), kNormGainAt, threads, 1, kHidden, gradients->norm_gain, team);
      sum_gradients(thread_gradients.data(), kHeadAt, threads, kVocabulary, kHidden, gradients->head, team);
    }
    *total = {};
    for (const Losses& of_block : losses) {
      total->plain += of_block.plain;
      total->smoothed += of_block.smoothed;
    }
  });
}

// logits: [T][kVocabulary].
extern "C" int axion_head_logits(const axion::Parameters* parameters, int tokens, const float* hidden, float* logits,
                                 int threads) {
  using namespace axion;
  return has_memory_for([&] {
    const Team team{threads};
    Scratch scratch;
    const Norm<kHidden> norm{parameters->norm_gain, kNormEpsilon};
    Head head;
    head.pack_forward(parameters->head, scratch.take(Head::kForwardSpace));
    team.blocks(tokens, kBlock, [&](int begin, int end, int) {
      Scratch own;
      float* normed_TD = own.take(kBlock * kHiddenRow);
      float* logits_TV = own.take((size_t)kBlock * kVocabularyRow);
      norm.forward(end - begin, hidden + (long)begin * kHidden, kHidden, normed_TD);
      head.forward(end - begin, normed_TD, kHiddenRow, logits_TV, kVocabularyRow);
      for (int t = begin; t < end; ++t) {
        for (int v = 0; v < kVocabulary; ++v) {
          logits[(long)t * kVocabulary + v] = logits_TV[(long)(t - begin) * kVocabularyRow + v];
        }
      }
    });
  });
}
