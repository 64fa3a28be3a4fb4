// The state of one text: its cache, its activations, and where results go.
#pragma once

#include <memory>
#include <vector>

#include "decoder_weights.h"
#include "dimensions.h"
#include "floats.h"
#include "sampling.h"
#include "trace.h"

namespace axion::decoding {

// One thread's activations while several tokens are read; allocated when a prompt is first read.
struct Rows {
  Floats all{static_cast<int64_t>(kRowsAtOnce) *
             (5 * kHiddenRow + kCompressedRow + kQueryInputRow + kQueryRow + kContextRow + kRouterRow + 2 * kWidestRow +
              kPredictionLayers * kJoinedRow)};
  float* hidden = all.data();
  float* before_loops = hidden + kRowsAtOnce * kHiddenRow;
  float* normed = before_loops + kRowsAtOnce * kHiddenRow;
  float* gathered = normed + kRowsAtOnce * kHiddenRow;
  float* result = gathered + kRowsAtOnce * kHiddenRow;
  float* compressed = result + kRowsAtOnce * kHiddenRow;
  float* query_input = compressed + kRowsAtOnce * kCompressedRow;
  float* query = query_input + kRowsAtOnce * kQueryInputRow;
  float* context = query + kRowsAtOnce * kQueryRow;
  float* router_logits = context + kRowsAtOnce * kContextRow;
  float* gate = router_logits + kRowsAtOnce * kRouterRow;
  float* up = gate + kRowsAtOnce * kWidestRow;
  float* joined = up + kRowsAtOnce * kWidestRow;
};

// One pass of a token through a layer. A looped layer has several, each with its own cache.
struct Pass {
  int layer;
  int loop;
  int trace;  // the row of the traces that it fills, if the layer has experts

  bool starts_loop() const { return kSharedLayers > 0 && layer == kEntryLayers; }
};

// All passes with so many loops, in order.
inline std::vector<Pass> passes_of(int loops) {
  std::vector<Pass> passes;
  int traces = 0;
  auto add = [&](int layer, int loop) { passes.push_back({layer, loop, layer < kDenseLayers ? -1 : traces++}); };
  for (int layer = 0; layer < kEntryLayers; ++layer) add(layer, 0);
  for (int loop = 0; loop < loops; ++loop) {
    for (int layer = kEntryLayers; layer < kEntryLayers + kSharedLayers; ++layer) add(layer, loop);
  }
  for (int layer = kEntryLayers + kSharedLayers; layer < kLayers; ++layer) add(layer, 0);
  return passes;
}

inline int trace_rows(const std::vector<Pass>& passes) {
  int rows = 0;
  for (const Pass& pass : passes) rows += pass.trace >= 0;
  return rows;
}

// A token that is looked at more closely while it is read: where its attention weights go, [passes, kHeads, position + 1],
// and its affinities to all experts, [L, kExperts].
struct Watch {
  int position = -1;  // of no token
  float* attention_PHT = nullptr;
  float* affinities_LE = nullptr;
};

// Arrays with a row for each position, [2, L, K], where L counts the passes through layers with experts: experts and
// displaced experts in one, gates and affinities in the other.
struct Traces {
  int32_t* experts_T2LK;
  float* weights_T2LK;
  int rows;
  int chosen;  // K
  Watch watch{};

  Trace at(int position, int row) const {
    const size_t half = static_cast<size_t>(rows) * chosen;
    const size_t first = 2 * half * position + static_cast<size_t>(row) * chosen;
    const size_t second = first + half;
    float* affinities_E = position == watch.position ? watch.affinities_LE + row * kExperts : nullptr;
    int32_t* displaced_K = experts_T2LK + second;
    return {experts_T2LK + first, weights_T2LK + first, weights_T2LK + second, displaced_K, chosen, affinities_E};
  }
};

// The probabilities at one draw.
struct Drawn {
  float probability;  // the drawn token's
  int32_t tokens_A[kAlternatives];
  float probabilities_A[kAlternatives];
};

struct State {
  const Weights<Stored>& weights;
  int threads;
  int positions;
  const float* cos_TP;  // [positions, kRope / 2]
  const float* sin_TP;
  std::vector<Pass> passes;
  Traces traces;  // the caller's
  const Tampering* tampering;  // null where the model is read as it is
  Drawn* drawn;
  Sampling sampling{};

  int length = 0;  // tokens read
  std::vector<int32_t> tokens_T = std::vector<int32_t>(positions);
  std::vector<int32_t> seen_V = std::vector<int32_t>(kVocabulary);  // how often each token was read
  // The last layer's output at each position, from which the next token's logits follow after any rewind.
  Floats outputs_TD{static_cast<int64_t>(positions) * kHiddenRow};
  std::vector<char> finished_T = std::vector<char>(positions);  // whether it has its feed-forward part; see read_rows.h
  int score_row = (positions + kTilesAtOnce * kLanes - 1) / (kTilesAtOnce * kLanes) * kTilesAtOnce * kLanes;
  // Attention may read a few rows past the last tile.
  int64_t pass_size = static_cast<int64_t>(score_row * cached_bytes<Stored>() / sizeof(float)) + kValuesAtOnce * kLanes;
  Floats cache{static_cast<int64_t>(passes.size() + kPredictionLayers) * pass_size};
  Floats scores{static_cast<int64_t>(threads > 1 ? threads : 1) * kHeads * score_row};  // of each thread

  // Activations of the single token being read, shared by the threads.
  Floats hidden{kHiddenRow};
  Floats before_loops{kHiddenRow};
  Floats compressed{kCompressedRow};
  Floats query{kQueryRow};
  Floats context{kContextRow};
  Floats activations{static_cast<int64_t>(traces.chosen + 1) * kWidestRow};
  Floats logits{kPaddedVocabulary};  // of the next token, once logits_ready
  bool logits_ready = false;
  Floats candidates{kPaddedVocabulary};
  Floats chances{kPaddedVocabulary};

  std::vector<std::unique_ptr<Rows>> rows = std::vector<std::unique_ptr<Rows>>(threads);

  // Of multi-token prediction: how many positions it has read, and the token that followed the last of them.
  int predicted = 0;
  int32_t predicted_with = -1;
  std::vector<int32_t> prediction_experts = std::vector<int32_t>(2 * kChosen * kPredictionLayers * positions);
  std::vector<float> prediction_weights = std::vector<float>(2 * kChosen * kPredictionLayers * positions);

  // The activations of a dense layer or of the shared expert, 0, and of the chosen experts from 1 on.
  float* activated(int part) const { return activations.data() + static_cast<size_t>(part) * kWidestRow; }
  float* output(int position) const { return outputs_TD.data() + static_cast<size_t>(position) * kHiddenRow; }

  // Counts a token as read, after its latents and its output have been stored.
  void append(int32_t token) {
    tokens_T[length++] = token;
    ++seen_V[token];
    logits_ready = false;
  }

  // Truncates to the first `kept` tokens. What is stored for the others is overwritten by the next ones.
  void rewind(int kept) {
    if (predicted > kept) {
      predicted = kept;
      predicted_with = tokens_T[kept];
    }
    while (length > kept) --seen_V[tokens_T[--length]];
    logits_ready = false;
  }

  // How a layer routes; `bias_E` is its own.
  Rule rule(int layer, const float* bias_E) const {
    if (!tampering) return {bias_E, nullptr};
    return {tampering->bias_LE + layer * kExperts, tampering->scale_LE + layer * kExperts};
  }

  // Scales the outputs of heads `begin` to `end` in a pass, whose heads are all in `context`.
  void scale_heads(size_t pass, int begin, int end, float* context) const {
    if (!tampering || pass >= passes.size()) return;
    const float* scale_H = tampering->scale_LH + passes[pass].layer * kHeads;
    for (int i = begin * kContextHead; i < end * kContextHead; ++i) {
      context[i] *= scale_H[i / kContextHead];
    }
  }

  // The cache of a pass; that of multi-token prediction comes after the last one's.
  LayerCache pass_cache(int pass) const { return {cache.data() + pass * pass_size, cos_TP, sin_TP, score_row}; }
  float* thread_scores(int thread) const { return scores.data() + static_cast<size_t>(thread) * kHeads * score_row; }
};

// Keeps the attention weights of heads `begin` to `end` at a watched position. `scores` is what `attend` leaves: a row for
// each head, not divided by its sum.
inline void keep_attention(const State& state, int position, int pass, int begin, int end, const float* scores) {
  const Watch& watch = state.traces.watch;
  if (position != watch.position) return;
  for (int head = begin; head < end; ++head) {
    const float* weights_T = scores + static_cast<size_t>(head) * state.score_row;
    float total = 0;
    for (int t = 0; t <= position; ++t) total += weights_T[t];
    float* kept_T = watch.attention_PHT + (static_cast<size_t>(pass) * kHeads + head) * (position + 1);
    for (int t = 0; t <= position; ++t) kept_T[t] = weights_T[t] / total;
  }
}

// Makes room for reading several tokens at once.
inline void need_rows(State& state) {
  for (auto& rows : state.rows) {
    if (!rows) rows = std::make_unique<Rows>();
  }
}

}  // namespace axion::decoding
