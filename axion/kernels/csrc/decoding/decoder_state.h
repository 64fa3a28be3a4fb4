// The state of one text: its cache, its activations, and where results go.
#pragma once

#include <omp.h>

#include <cstdlib>
#include <memory>
#include <vector>

#include "decoder_weights.h"
#include "dimensions.h"
#include "latent_attention.h"
#include "matvec.h"
#include "sampling.h"
#include "trace.h"

namespace axion::decoding {

constexpr int kRowsAtOnce = 96;  // tokens that one thread takes through all layers together
constexpr int kWidestExpert = kExpertWidth > kSharedWidth ? kExpertWidth : kSharedWidth;
constexpr int kWidest = kDenseLayers > 0 && kDenseWidth > kWidestExpert ? kDenseWidth : kWidestExpert;

// Distance from one token's row to the next, in floats.
constexpr int kHiddenRow = room(kHidden);
constexpr int kCompressedRow = room(kCompressed);
constexpr int kQueryInputRow = room(kQueryInput);
constexpr int kQueryRow = room(kHeads * kQueryHead);
constexpr int kContextRow = room(kHeads * kContextHead);
constexpr int kRouterRow = room(kExperts);
constexpr int kWidestRow = room(kWidest);

// Zero-initialised floats, aligned to cache lines. The system provides memory only for the pages that are touched.
class Floats {
 public:
  explicit Floats(size_t count) : all_(static_cast<float*>(std::calloc(count + 16, sizeof(float)))) {
    if (!all_) throw std::bad_alloc();
  }
  float* data() const { return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(all_.get()) + 63) / 64 * 64); }

 private:
  struct Free {
    void operator()(float* numbers) const { std::free(numbers); }
  };
  std::unique_ptr<float, Free> all_;
};

// One thread's activations while several tokens are read; allocated when a prompt is first read.
struct Rows {
  Floats all{static_cast<size_t>(kRowsAtOnce) * (4 * kHiddenRow + kCompressedRow + kQueryInputRow + kQueryRow +
                                                 kContextRow + kRouterRow + 2 * kWidestRow)};
  float* hidden = all.data();
  float* normed = hidden + kRowsAtOnce * kHiddenRow;
  float* gathered = normed + kRowsAtOnce * kHiddenRow;
  float* result = gathered + kRowsAtOnce * kHiddenRow;
  float* compressed = result + kRowsAtOnce * kHiddenRow;
  float* query_input = compressed + kRowsAtOnce * kCompressedRow;
  float* query = query_input + kRowsAtOnce * kQueryInputRow;
  float* context = query + kRowsAtOnce * kQueryRow;
  float* router_logits = context + kRowsAtOnce * kContextRow;
  float* gate = router_logits + kRowsAtOnce * kRouterRow;
  float* up = gate + kRowsAtOnce * kWidestRow;
};

// The caller's arrays with a row for each position, [2, mixture layers, K]: experts and displaced experts in one, gates
// and affinities in the other.
struct Traces {
  int32_t* experts_T2LK;
  float* weights_T2LK;

  Trace at(int position, int mixture) const {
    constexpr size_t kHalf = static_cast<size_t>(kMixtures) * kChosen;
    const size_t first = 2 * kHalf * position + mixture * kChosen;
    const size_t second = first + kHalf;
    return {experts_T2LK + first, weights_T2LK + first, weights_T2LK + second, experts_T2LK + second};
  }
};

// The probabilities at one draw.
struct Drawn {
  float probability;  // the drawn token's
  int32_t tokens_A[kAlternatives];
  float probabilities_A[kAlternatives];
};

struct State {
  const void* weights;
  bool bf16;
  int threads;
  int positions;
  const float* cos_TP;  // [positions, kRope / 2]
  const float* sin_TP;
  Traces traces;
  Drawn* drawn;
  Sampling sampling{};

  int length = 0;  // tokens read
  std::vector<int32_t> tokens_T = std::vector<int32_t>(positions);
  std::vector<int32_t> seen_V = std::vector<int32_t>(kVocabulary);  // how often each token was read
  // The last layer's output at each position, from which the next token's logits follow after any rewind.
  Floats outputs_TD{static_cast<size_t>(positions) * kHiddenRow};
  // Attention reads whole pairs of tiles.
  int score_row = (positions + kTilesAtOnce * kLanes - 1) / (kTilesAtOnce * kLanes) * kTilesAtOnce * kLanes;
  size_t layer_size = static_cast<size_t>(score_row) * kCached;
  Floats cache{kLayers * layer_size + kLatentsAtOnce * kLanes};
  Floats scores{static_cast<size_t>(threads > 1 ? threads : 1) * kHeads * score_row};  // of each thread

  // Activations of the single token being read, shared by the threads.
  alignas(64) float hidden[kHiddenRow] = {};
  alignas(64) float compressed[kCompressedRow] = {};
  alignas(64) float query[kQueryRow] = {};
  alignas(64) float context[kContextRow] = {};
  alignas(64) float activated[kChosen + 1][kWidestRow] = {};
  alignas(64) float logits[kPaddedVocabulary] = {};  // of the next token, once logits_ready
  bool logits_ready = false;
  alignas(64) float candidates[kPaddedVocabulary] = {};
  alignas(64) float chances[kPaddedVocabulary] = {};

  std::vector<std::unique_ptr<Rows>> rows = std::vector<std::unique_ptr<Rows>>(threads);

  float* output(int position) const { return outputs_TD.data() + static_cast<size_t>(position) * kHiddenRow; }

  // Counts a token as read, after its latents and its output have been stored.
  void append(int32_t token) {
    tokens_T[length++] = token;
    ++seen_V[token];
    logits_ready = false;
  }

  // Truncates to the first `kept` tokens. What is stored for the others is overwritten by the next ones.
  void rewind(int kept) {
    while (length > kept) --seen_V[tokens_T[--length]];
    logits_ready = false;
  }

  float* layer_cache(int layer) const { return cache.data() + layer * layer_size; }
  float* thread_scores(int thread) const { return scores.data() + static_cast<size_t>(thread) * kHeads * score_row; }
};

// The threads that work together, seen from one of them.
struct Crew {
  int thread = 0;
  int count = 1;

  void wait() const {
    if (count > 1) {
#pragma omp barrier
    }
  }

  // This thread's share of `units`: from first() to last().
  int first(int units) const { return units * thread / count; }
  int last(int units) const { return units * (thread + 1) / count; }
};

template <class Work>
inline void with_crew(int threads, Work work) {
  if (threads == 1) return work(Crew{});
#pragma omp parallel num_threads(threads)
  work(Crew{omp_get_thread_num(), omp_get_num_threads()});
}

}  // namespace axion::decoding
