// The whole model in one call: reading a prompt, scoring a text, drawing a token and reading it, and verifying a draft.
//
// The tokens of a prompt are divided among the threads (read_rows.h). A single token is read by all of them together
// (read_token.h).
#include <algorithm>
#include <cmath>
#include <new>

#include "decoder_state.h"
#include "draw.h"
#include "pack.h"
#include "prediction.h"
#include "read_rows.h"
#include "read_token.h"
#include "several.h"

namespace axion::decoding {

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
  const Floats after(static_cast<int64_t>(count) * kPaddedVocabulary);  // logits after each drafted token
  with_crew(state.threads, [&](Crew crew) { find_next_logits(state, weights, crew); });
  read_prompt(state, weights, draft, count, true);
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
  if (kept > 0) std::copy(logits, logits + kPaddedVocabulary, state.logits.data());
  state.logits_ready = true;
  return kept;
}

// Reads tokens and finds how likely each but the first was after those before it: log_probabilities[i] and, unless it is
// null, drawn[i] belong to tokens[i + 1].
template <class Number>
void score(State& state, const Weights<Number>& weights, const int32_t* tokens, int count, float* log_probabilities,
           Drawn* drawn) {
  const int start = state.length;
  read_prompt(state, weights, tokens, count, true);
  const Floats logits(static_cast<int64_t>(std::min(count, kRowsAtOnce)) * kPaddedVocabulary);
  with_crew(state.threads, [&](Crew crew) {
    for (int first = 0; first < count - 1; first += kRowsAtOnce) {
      const int rows = std::min(count - 1 - first, kRowsAtOnce);
      find_logits(state, weights, crew, start + first, rows, logits.data());
      crew.wait();
      for (int i = first + crew.first(rows); i < first + crew.last(rows); ++i) {
        const float* logits_V = logits.data() + static_cast<size_t>(i - first) * kPaddedVocabulary;
        const float total = drawn ? top_tokens(logits_V, drawn[i].tokens_A, drawn[i].probabilities_A)
                                  : log_total(logits_V);
        log_probabilities[i] = logits_V[tokens[i + 1]] - total;
        if (drawn) drawn[i].probability = std::exp(log_probabilities[i]);
      }
      crew.wait();
    }
  });
}

}  // namespace axion::decoding

// --- Called from Python ---

using namespace axion::decoding;

extern "C" {

#if defined(AXION_ANY_MODEL)

// The names of all dimensions, each after a space.
const char* axion_decoder_dimension_names() {
#define AXION_NAME(name) " " #name
  return AXION_DIMENSIONS(AXION_NAME);
}

// Sets the dimensions, in the order of their names. All that is made before is of no use afterwards.
void axion_decoder_set_dimensions(const double* values) {
#define AXION_SET(name) name = static_cast<decltype(name)>(*values++);
  AXION_DIMENSIONS(AXION_SET)
}

#endif

// Memory for a model's weights, with or without its layer of multi-token prediction. Null if there is not enough.
Weights<Stored>* axion_decoder_weights_new(int with_prediction) {
  try {
    return new Weights<Stored>(with_prediction != 0);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

void axion_decoder_weights_free(Weights<Stored>* weights) { delete weights; }

// How many parts axion_decoder_pack fills.
int axion_decoder_parts(const Weights<Stored>* weights) { return part_count(*weights); }

// Fills a part from its tensors, which pack.h describes. Returns 0 if they do not have this model's sizes.
int axion_decoder_pack(Weights<Stored>* weights, int part, const float* const* tensors, const int64_t* sizes,
                       int count) {
  return pack_part(*weights, part, Tensors(tensors, sizes, count));
}

// All pointers must stay valid until axion_decoder_free. `tampering` is null where the model is read as it is. Returns
// null if there is not enough memory.
State* axion_decoder_new(const Weights<Stored>* weights, int threads, int positions, int loops, const float* cos_TP,
                         const float* sin_TP, int32_t* experts_T2LK, float* weights_T2LK, Drawn* drawn,
                         const Tampering* tampering) {
  try {
    const std::vector<Pass> passes = passes_of(loops);
    const int chosen = tampering ? tampering->chosen : kChosen;
    const Traces traces{experts_T2LK, weights_T2LK, trace_rows(passes), chosen};
    return new State{*weights, threads, positions, cos_TP, sin_TP, passes, traces, tampering, drawn};
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

void axion_decoder_free(State* state) { delete state; }

void axion_decoder_sampling(State* state, const Sampling* sampling) { state->sampling = *sampling; }

// Reads tokens after those read before. Returns 0 if there is not enough memory.
int axion_decoder_read(State* state, const int32_t* tokens, int count) {
  try {
    read_prompt(*state, state->weights, tokens, count, false);
    return 1;
  } catch (const std::bad_alloc&) {
    return 0;
  }
}

// Reads tokens as axion_decoder_read and writes count − 1 log probabilities. Returns 0 if there is not enough memory.
int axion_decoder_score(State* state, const int32_t* tokens, int count, float* log_probabilities, Drawn* drawn) {
  try {
    score(*state, state->weights, tokens, count, log_probabilities, drawn);
    return 1;
  } catch (const std::bad_alloc&) {
    return 0;
  }
}

// What to keep of the token at `position` when it is read; −1 watches none. The pointers must stay valid until then.
void axion_decoder_watch(State* state, int position, float* attention_PHT, float* affinities_LE) {
  state->traces.watch = {position, attention_PHT, affinities_LE};
}

// Truncates to the first `length` tokens.
void axion_decoder_rewind(State* state, int length) { state->rewind(length); }

// The functions below require that at least one token has been read.

int axion_decoder_choose(State* state, double uniform) {
  return choose(*state, state->weights, uniform);
}

int axion_decoder_step(State* state, double uniform, int forced) {
  return step(*state, state->weights, uniform, forced);
}

// Draws and reads a token of each of up to 96 texts, which share their weights and settings of axion_decoder_new. The
// first one's threads do the work. Returns 0 if there is not enough memory.
int axion_decoder_step_several(State* const* states, int count, const double* uniforms, int32_t* tokens) {
  try {
    step_several(states, count, states[0]->weights, uniforms, tokens);
    return 1;
  } catch (const std::bad_alloc&) {
    return 0;
  }
}

// Needs a model with its layer of multi-token prediction. Returns −2 if there is not enough memory.
int axion_decoder_guess(State* state, int token, double uniform) {
  try {
    return guess(*state, state->weights, token, uniform);
  } catch (const std::bad_alloc&) {
    return -2;
  }
}

// Returns how many tokens of the draft were kept, or −1 if there is not enough memory.
int axion_decoder_verify(State* state, const int32_t* draft, int count, const double* uniforms, Drawn* drawn) {
  try {
    return verify(*state, state->weights, draft, count, uniforms, drawn);
  } catch (const std::bad_alloc&) {
    return -1;
  }
}

// The logits [kVocabulary] of the next token.
void axion_decoder_logits(State* state, float* logits_V) {
  with_crew(state->threads, [&](Crew crew) { find_next_logits(*state, state->weights, crew); });
  std::copy(state->logits.data(), state->logits + kVocabulary, logits_V);
}

}  // extern "C"
