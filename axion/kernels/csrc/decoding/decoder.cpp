// The whole model in one call: reading a prompt, drawing a token and reading it, and verifying a draft.
//
// The tokens of a prompt are divided among the threads. Each thread takes its tokens through all layers with products
// of whole matrices; the threads synchronise once per layer, when all latents are in the cache. For a single token,
// each thread computes some of the outputs of every matrix, and the threads synchronise after each matrix.
#include <new>

#include "decoder_state.h"
#include "common/norm.h"
#include "common/rotary.h"

namespace axion::decoding {

// --- Shared by one token and many ---

// y = x / √(mean(x²) + ε). The gain is already multiplied into the weights that read y.
template <int Size>
inline void normalise(const float* x, float epsilon, float* y) {
  Vector squares = {};
  float rest = 0;
  constexpr int kWhole = Size / kLanes * kLanes;
  for (int i = 0; i < kWhole; i += kLanes) squares += load(x + i) * load(x + i);
  for (int i = kWhole; i < Size; ++i) rest += x[i] * x[i];
  const float scale = 1.0f / std::sqrt((fast_sum(squares) + rest) / Size + epsilon);
  for (int i = 0; i < kWhole; i += kLanes) store(y + i, load(x + i) * scale);
  for (int i = kWhole; i < Size; ++i) y[i] = x[i] * scale;
}

inline float number(float stored) { return stored; }

inline float number(Bf16 stored) {
  const uint32_t bits = static_cast<uint32_t>(stored.upper_half) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

template <class Number>
inline void embed(const Weights<Number>& weights, int token, float* hidden) {
  for (int i = 0; i < kHidden; ++i) hidden[i] = number(weights.embedding_VD[token * kHidden + i]);
}

// Writes a token to the cache: its normed latent, and its rotary key, rotated by the position's angles.
inline void store_in_cache(const State& state, int layer, int position, const float* compressed) {
  float cached[kCached];
  normalise<kLatent>(compressed + kQueryRank, kLatentEpsilon, cached);
  std::copy(compressed + kQueryRank + kLatent, compressed + kCompressed, cached + kLatent);
  rotate(cached + kLatent, state.cos_TP + position * (kRope / 2), state.sin_TP + position * (kRope / 2));
  float* tile = state.layer_cache(layer) + position / kLanes * kCacheTile + position % kLanes;
  for (int c = 0; c < kCached; ++c) tile[c * kLanes] = cached[c];
}

// Attention of one token for heads `begin` to `end`: from the query projection's output to the output projection's
// input.
template <class Number>
inline void attend(const State& state, const Attention<Number>& weights, int layer, int position, int begin, int end,
                   const float* query, float* scores, float* context) {
  float queries_HC[kHeads * kCached] = {};
  float latents_HR[kHeads * kLatent];
  for (int head = begin; head < end; ++head) {
    const float* made = query + head * kQueryHead;
    float* full = queries_HC + head * kCached;
    if constexpr (kAbsorbKeys) {
      std::copy(made, made + kLatent, full);
    } else {
      alignas(64) float nope[room(kNope)] = {};
      alignas(64) float absorbed[room(kLatent)];
      std::copy(made, made + kNope, nope);
      for (int panel = 0; panel < Matrix<Number, kNope, kLatent>::kPanels; ++panel) {
        multiply_panel(weights.key_up[head], panel, nope, absorbed);
      }
      std::copy(absorbed, absorbed + kLatent, full);
    }
    std::copy(made + kQueryHead - kRope, made + kQueryHead, full + kLatent);
    rotate(full + kLatent, state.cos_TP + position * (kRope / 2), state.sin_TP + position * (kRope / 2));
  }
  float* results = kAbsorbValues ? context : latents_HR;
  attend(queries_HC, state.layer_cache(layer), position, begin, end, scores, state.score_row, results);
  if constexpr (!kAbsorbValues) {
    for (int head = begin; head < end; ++head) {
      alignas(64) float latent[room(kLatent)] = {};
      alignas(64) float value[room(kValue)];
      std::copy(latents_HR + head * kLatent, latents_HR + (head + 1) * kLatent, latent);
      for (int panel = 0; panel < Matrix<Number, kLatent, kValue>::kPanels; ++panel) {
        multiply_panel(weights.value_up[head], panel, latent, value);
      }
      std::copy(value, value + kValue, context + head * kValue);
    }
  }
}

inline Vector silu(Vector x) { return x * sigmoid(x); }

// --- One token ---

// This thread's panels of y = x·W, or of y += x·W if `add`.
template <class Number, int In, int Out>
inline void multiply_share(Crew crew, const Matrix<Number, In, Out>& weights, const float* x, float* y,
                           bool add = false) {
  constexpr int kPanels = Matrix<Number, In, Out>::kPanels;
  for (int panel = crew.first(kPanels); panel < crew.last(kPanels); ++panel) {
    multiply_panel(weights, panel, x, y, add);
  }
}

// One panel of weight·silu(gate)·up.
template <class Number, int Width>
inline void activate(const FeedForward<Number, Width>& layer, int panel, const float* x, float weight,
                     float* activated) {
  alignas(64) float up[padded(Width)];
  multiply_panel(layer.gate, panel, x, activated);
  multiply_panel(layer.up, panel, x, up);
  const int end = std::min((panel + 1) * kPanelWidth, padded(Width));
  for (int i = panel * kPanelWidth; i < end; i += kLanes) {
    store(activated + i, weight * silu(load(activated + i)) * load(up + i));
  }
}

template <class Number>
inline void read_token_dense(State& state, Crew crew, const FeedForward<Number, kDenseWidth>& layer,
                             const float* normed) {
  constexpr int kPanels = decltype(layer.gate)::kPanels;
  for (int panel = crew.first(kPanels); panel < crew.last(kPanels); ++panel) {
    activate(layer, panel, normed, 1, state.activated[0]);
  }
  crew.wait();
  multiply_share(crew, layer.down, state.activated[0], state.hidden, true);
}

template <class Number>
inline void read_token_mixture(State& state, Crew crew, const Mixture<Number>& mixture, int index,
                               const float* normed) {
  // Every thread computes the routing itself, which is faster than waiting for one thread to do it.
  alignas(64) float logits_E[room(kExperts)];
  for (int panel = 0; panel < decltype(mixture.router)::kPanels; ++panel) {
    multiply_panel(mixture.router, panel, normed, logits_E);
  }
  int32_t experts_K[kChosen], displaced_K[kChosen];
  float gates_K[kChosen], affinities_K[kChosen];
  const Trace own{experts_K, gates_K, affinities_K, displaced_K};
  const Trace kept = crew.thread == 0 ? state.traces.at(state.length, index) : own;
  route(logits_E, mixture.bias_E, kept);

  constexpr int kSharedPanels = decltype(mixture.shared.gate)::kPanels;
  constexpr int kExpertPanels = decltype(mixture.experts[0].gate)::kPanels;
  constexpr int kPanels = kSharedPanels + kChosen * kExpertPanels;
  for (int panel = crew.first(kPanels); panel < crew.last(kPanels); ++panel) {
    if (panel < kSharedPanels) {
      activate(mixture.shared, panel, normed, 1, state.activated[kChosen]);
    } else {
      const int k = (panel - kSharedPanels) / kExpertPanels;
      const auto& expert = mixture.experts[kept.experts_K[k]];
      activate(expert, (panel - kSharedPanels) % kExpertPanels, normed, kept.gates_K[k], state.activated[k]);
    }
  }
  crew.wait();
  constexpr int kDownPanels = decltype(mixture.shared.down)::kPanels;
  for (int panel = crew.first(kDownPanels); panel < crew.last(kDownPanels); ++panel) {
    multiply_panel(mixture.shared.down, panel, state.activated[kChosen], state.hidden, true);
    for (int k = 0; k < kChosen; ++k) {
      multiply_panel(mixture.experts[kept.experts_K[k]].down, panel, state.activated[k], state.hidden, true);
    }
  }
}

// Takes a token through all layers. Stores its latents in the cache, its routing in the traces and its last hidden
// state in the outputs.
template <class Number>
void read_token(State& state, const Weights<Number>& weights, Crew crew, int token) {
  alignas(64) float normed[kHiddenRow] = {};
  alignas(64) float query_latent[kQueryInputRow] = {};
  if (crew.thread == 0) embed(weights, token, state.hidden);
  crew.wait();
  for (int layer = 0; layer < kLayers; ++layer) {
    const Attention<Number>& attention = weights.attention[layer];
    normalise<kHidden>(state.hidden, kNormEpsilon, normed);
    multiply_share(crew, attention.compress, normed, state.compressed);
    crew.wait();
    if (crew.thread == 0) store_in_cache(state, layer, state.length, state.compressed);
    if constexpr (kQueryRank > 0) normalise<kQueryRank>(state.compressed, kLatentEpsilon, query_latent);
    multiply_share(crew, attention.query, kQueryRank > 0 ? query_latent : normed, state.query);
    crew.wait();
    attend(state, attention, layer, state.length, crew.first(kHeads), crew.last(kHeads), state.query,
           state.thread_scores(0), state.context);
    crew.wait();
    multiply_share(crew, attention.output, state.context, state.hidden, true);
    crew.wait();
    normalise<kHidden>(state.hidden, kNormEpsilon, normed);
    if (layer < kDenseLayers) {
      if constexpr (kDenseLayers > 0) read_token_dense(state, crew, weights.dense[layer], normed);
    } else {
      if constexpr (kMixtures > 0) {
        read_token_mixture(state, crew, weights.mixtures[layer - kDenseLayers], layer - kDenseLayers, normed);
      }
    }
    crew.wait();
  }
  if (crew.thread == 0) {
    std::copy(state.hidden, state.hidden + kHidden, state.output(state.length));
    state.append(token);
  }
}

// --- Many tokens ---

// hidden rows += down(weight·silu(gate(x))·up(x)). Row r of x is added to hidden row rows[r] with weights[r].
template <class Number, int Width>
inline void read_rows_feed_forward(const FeedForward<Number, Width>& layer, Rows& own, int count, const float* x,
                                   const int* rows, const float* weights) {
  multiply_rows(layer.gate, count, x, kHiddenRow, own.gate, kWidestRow);
  multiply_rows(layer.up, count, x, kHiddenRow, own.up, kWidestRow);
  for (int row = 0; row < count; ++row) {
    float* gate = own.gate + row * kWidestRow;
    for (int i = 0; i < padded(Width); i += kLanes) {
      store(gate + i, weights[row] * silu(load(gate + i)) * load(own.up + row * kWidestRow + i));
    }
  }
  multiply_rows(layer.down, count, own.gate, kWidestRow, own.result, kHiddenRow);
  for (int row = 0; row < count; ++row) {
    float* hidden = own.hidden + rows[row] * kHiddenRow;
    for (int i = 0; i < padded(kHidden); i += kLanes) {
      store(hidden + i, load(hidden + i) + load(own.result + row * kHiddenRow + i));
    }
  }
}

// `rows` and `weights` of a layer that reads every token with weight 1.
struct AllRows {
  int rows[kRowsAtOnce];
  float weights[kRowsAtOnce];
  AllRows() {
    for (int row = 0; row < kRowsAtOnce; ++row) rows[row] = row, weights[row] = 1;
  }
};
const AllRows kAllRows;

template <class Number>
inline void read_rows_mixture(State& state, const Mixture<Number>& mixture, int index, Rows& own, int first_position,
                              int count) {
  multiply_rows(mixture.router, count, own.normed, kHiddenRow, own.router_logits, kRouterRow);
  for (int row = 0; row < count; ++row) {
    route(own.router_logits + row * kRouterRow, mixture.bias_E, state.traces.at(first_position + row, index));
  }
  read_rows_feed_forward(mixture.shared, own, count, own.normed, kAllRows.rows, kAllRows.weights);
  for (int expert = 0; expert < kExperts; ++expert) {
    int rows[kRowsAtOnce], found = 0;
    float gates[kRowsAtOnce];
    for (int row = 0; row < count; ++row) {
      const Trace trace = state.traces.at(first_position + row, index);
      for (int k = 0; k < kChosen; ++k) {
        if (trace.experts_K[k] != expert) continue;
        std::copy(own.normed + row * kHiddenRow, own.normed + (row + 1) * kHiddenRow,
                  own.gathered + found * kHiddenRow);
        rows[found] = row;
        gates[found++] = trace.gates_K[k];
      }
    }
    if (found > 0) read_rows_feed_forward(mixture.experts[expert], own, found, own.gathered, rows, gates);
  }
}

// This thread's rows of a prompt: tokens[first] to tokens[first + count - 1], where tokens[0] follows what was read.
template <class Number>
void read_rows(State& state, const Weights<Number>& weights, Crew crew, const int32_t* tokens, int first, int count) {
  Rows& own = *state.rows[crew.thread];
  const int first_position = state.length + first;
  for (int row = 0; row < count; ++row) embed(weights, tokens[first + row], own.hidden + row * kHiddenRow);
  for (int layer = 0; layer < kLayers; ++layer) {
    const Attention<Number>& attention = weights.attention[layer];
    for (int row = 0; row < count; ++row) {
      normalise<kHidden>(own.hidden + row * kHiddenRow, kNormEpsilon, own.normed + row * kHiddenRow);
    }
    multiply_rows(attention.compress, count, own.normed, kHiddenRow, own.compressed, kCompressedRow);
    for (int row = 0; row < count; ++row) {
      const float* compressed = own.compressed + row * kCompressedRow;
      store_in_cache(state, layer, first_position + row, compressed);
      if constexpr (kQueryRank > 0) {
        normalise<kQueryRank>(compressed, kLatentEpsilon, own.query_input + row * kQueryInputRow);
      }
    }
    multiply_rows(attention.query, count, kQueryRank > 0 ? own.query_input : own.normed, kQueryInputRow, own.query,
                  kQueryRow);
    crew.wait();
    for (int row = 0; row < count; ++row) {
      attend(state, attention, layer, first_position + row, 0, kHeads, own.query + row * kQueryRow,
             state.thread_scores(crew.thread), own.context + row * kContextRow);
    }
    multiply_rows(attention.output, count, own.context, kContextRow, own.hidden, kHiddenRow, true);
    for (int row = 0; row < count; ++row) {
      normalise<kHidden>(own.hidden + row * kHiddenRow, kNormEpsilon, own.normed + row * kHiddenRow);
    }
    if (layer < kDenseLayers) {
      if constexpr (kDenseLayers > 0) {
        read_rows_feed_forward(weights.dense[layer], own, count, own.normed, kAllRows.rows, kAllRows.weights);
      }
    } else {
      if constexpr (kMixtures > 0) {
        const int index = layer - kDenseLayers;
        read_rows_mixture(state, weights.mixtures[index], index, own, first_position, count);
      }
    }
  }
  if (count > 0) std::copy(own.hidden, own.hidden + count * kHiddenRow, state.output(first_position));
}

template <class Number>
void read_prompt(State& state, const Weights<Number>& weights, const int32_t* tokens, int count) {
  for (auto& rows : state.rows) {
    if (!rows) rows = std::make_unique<Rows>();
  }
  with_crew(state.threads, [&](Crew crew) {
    for (int start = 0; start < count; start += crew.count * kRowsAtOnce) {
      const int together = std::min(count - start, crew.count * kRowsAtOnce);
      const int first = crew.first(together), last = crew.last(together);
      read_rows(state, weights, crew, tokens + start, first, last - first);
      crew.wait();
      if (crew.thread == 0) {
        for (int i = start; i < start + together; ++i) state.append(tokens[i]);
      }
      crew.wait();
    }
  });
}

// --- Logits and draws ---

// The logits [count][kPaddedVocabulary] after each of the tokens from position `first` on, −∞ beyond the vocabulary.
template <class Number>
void find_logits(State& state, const Weights<Number>& weights, Crew crew, int first, int count, float* logits_TV) {
  float* normed = state.rows[crew.thread]->normed;
  constexpr int kPanels = decltype(weights.head)::kPanels;
  for (int start = 0; start < count; start += kRowsAtOnce) {
    const int rows = std::min(count - start, kRowsAtOnce);
    for (int row = 0; row < rows; ++row) {
      normalise<kHidden>(state.output(first + start + row), kNormEpsilon, normed + row * kHiddenRow);
    }
    float* logits = logits_TV + static_cast<size_t>(start) * kPaddedVocabulary;
    for (int panel = crew.first(kPanels); panel < crew.last(kPanels); ++panel) {
      multiply_panel_rows(weights.head, panel, rows, normed, kHiddenRow, logits, kPaddedVocabulary);
    }
  }
  crew.wait();
  if (crew.thread == 0) {
    for (int row = 0; row < count; ++row) {
      float* logits = logits_TV + static_cast<size_t>(row) * kPaddedVocabulary;
      std::fill(logits + kVocabulary, logits + kPaddedVocabulary, -kInfinity);
    }
  }
}

// Makes state.logits those of the next token. Thread 0 may use them at once, the others after the next wait.
template <class Number>
void find_next_logits(State& state, const Weights<Number>& weights, Crew crew) {
  if (state.logits_ready) return;  // written below only after all threads have waited in find_logits
  find_logits(state, weights, crew, state.length - 1, 1, state.logits);
  if (crew.thread == 0) state.logits_ready = true;
}

// The next token, drawn from its logits unless `forced` is one, and the probabilities there.
inline int draw_token(State& state, const float* logits, double uniform, int forced, Drawn& drawn) {
  const float log_total = top_tokens(logits, drawn.tokens_A, drawn.probabilities_A);
  int token = forced;
  if (token < 0) {
    std::copy(logits, logits + kPaddedVocabulary, state.candidates);
    token = draw(state.sampling, state.seen_V.data(), state.length, uniform, state.candidates, state.chances);
  }
  drawn.probability = std::exp(logits[token] - log_total);
  return token;
}

// Returns the token that `step` would draw; −1 when it ends the text.
template <class Number>
int choose(State& state, const Weights<Number>& weights, double uniform) {
  with_crew(state.threads, [&](Crew crew) { find_next_logits(state, weights, crew); });
  Drawn drawn;
  const int token = draw_token(state, state.logits, uniform, -1, drawn);
  return state.sampling.is_end(token) ? -1 : token;
}

// Draws a token, reads it and returns it; returns −1 without reading it when it ends the text.
template <class Number>
int step(State& state, const Weights<Number>& weights, double uniform, int forced) {
  int token = -1;
  with_crew(state.threads, [&](Crew crew) {
    find_next_logits(state, weights, crew);
    if (crew.thread == 0) {
      token = draw_token(state, state.logits, uniform, forced, *state.drawn);
      if (state.sampling.is_end(token)) token = -1;
    }
    crew.wait();
    if (token >= 0) read_token(state, weights, crew, token);
  });
  return token;
}

// Reads a draft of `count` tokens together and keeps those before the first that `step` would not have drawn. Fills
// drawn[i] for each kept one and returns how many they are.
template <class Number>
int verify(State& state, const Weights<Number>& weights, const int32_t* draft, int count, const double* uniforms,
           Drawn* drawn) {
  const int start = state.length;
  const Floats after(static_cast<size_t>(count) * kPaddedVocabulary);  // logits after each drafted token
  with_crew(state.threads, [&](Crew crew) { find_next_logits(state, weights, crew); });
  read_prompt(state, weights, draft, count);
  with_crew(state.threads, [&](Crew crew) { find_logits(state, weights, crew, start, count, after.data()); });
  state.rewind(start);

  int kept = 0;
  const float* logits = state.logits;
  while (kept < count) {
    const int token = draw_token(state, logits, uniforms[kept], -1, drawn[kept]);
    if (token != draft[kept] || state.sampling.is_end(token)) break;
    state.append(token);
    logits = after.data() + static_cast<size_t>(kept++) * kPaddedVocabulary;
  }
  if (kept > 0) std::copy(logits, logits + kPaddedVocabulary, state.logits);
  state.logits_ready = true;
  return kept;
}

// Calls work(weights) with the weights in their actual type.
template <class Work>
auto with_weights(const State& state, Work work) {
  if (state.bf16) return work(*static_cast<const Weights<Bf16>*>(state.weights));
  return work(*static_cast<const Weights<float>*>(state.weights));
}

}  // namespace axion::decoding

// --- Called from Python ---

using namespace axion::decoding;

extern "C" {

int64_t axion_decoder_weights_size(int bf16) { return bf16 ? sizeof(Weights<Bf16>) : sizeof(Weights<float>); }

// Fills `weights`, which is 64-byte aligned. Returns 0 if the matrices do not have this model's sizes.
int axion_decoder_pack(void* weights, int bf16, const float* const* matrices, const int64_t* sizes, int count) {
  const Dense dense(matrices, sizes, count);
  return bf16 ? fill(*static_cast<Weights<Bf16>*>(weights), dense)
              : fill(*static_cast<Weights<float>*>(weights), dense);
}

// All pointers must stay valid until axion_decoder_free. Returns null if there is not enough memory.
State* axion_decoder_new(const void* weights, int bf16, int threads, int positions, const float* cos_TP,
                         const float* sin_TP, int32_t* experts_T2LK, float* weights_T2LK, Drawn* drawn) {
  try {
    return new State{weights, bf16 != 0, threads, positions, cos_TP, sin_TP, {experts_T2LK, weights_T2LK}, drawn};
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

void axion_decoder_free(State* state) { delete state; }

void axion_decoder_sampling(State* state, const Sampling* sampling) { state->sampling = *sampling; }

// Reads tokens after those read before. Returns 0 if there is not enough memory.
int axion_decoder_read(State* state, const int32_t* tokens, int count) {
  try {
    with_weights(*state, [&](const auto& weights) { read_prompt(*state, weights, tokens, count); });
    return 1;
  } catch (const std::bad_alloc&) {
    return 0;
  }
}

// Truncates to the first `length` tokens.
void axion_decoder_rewind(State* state, int length) { state->rewind(length); }

// The functions below require that at least one token has been read.

int axion_decoder_choose(State* state, double uniform) {
  return with_weights(*state, [&](const auto& weights) { return choose(*state, weights, uniform); });
}

int axion_decoder_step(State* state, double uniform, int forced) {
  return with_weights(*state, [&](const auto& weights) { return step(*state, weights, uniform, forced); });
}

// Returns how many tokens of the draft were kept, or −1 if there is not enough memory.
int axion_decoder_verify(State* state, const int32_t* draft, int count, const double* uniforms, Drawn* drawn) {
  try {
    return with_weights(
        *state, [&](const auto& weights) { return verify(*state, weights, draft, count, uniforms, drawn); });
  } catch (const std::bad_alloc&) {
    return -1;
  }
}

// The logits [kVocabulary] of the next token.
void axion_decoder_logits(State* state, float* logits_V) {
  with_weights(*state, [&](const auto& weights) {
    with_crew(state->threads, [&](Crew crew) { find_next_logits(*state, weights, crew); });
  });
  std::copy(state->logits, state->logits + kVocabulary, logits_V);
}

}  // extern "C"
