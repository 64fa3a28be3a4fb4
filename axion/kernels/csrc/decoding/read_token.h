// Reading one token: each thread computes some of the outputs of every matrix, and the threads synchronise after each.
#pragma once

#include <algorithm>

#include "crew.h"
#include "decoder_state.h"
#include "embedding.h"
#include "linear.h"
#include "normalise.h"

namespace axion::decoding {

inline Vector silu(Vector x) { return x * sigmoid(x); }

// Panels of weight·silu(gate)·up, one after the other.
template <class Layer>
class Activation {
 public:
  Activation(const Layer& layer, const float* x) : gate_(layer.gate, x), up_(layer.up, x) {}

  void panel(int index, float weight, float* activated) const {
    Local<float, kWidestRow> up;
    gate_.panel(index, activated);
    up_.panel(index, up);
    const int end = std::min((index + 1) * kPanelWidth, padded(Layer::width()));
    for (int i = index * kPanelWidth; i < end; i += kLanes) {
      store(activated + i, weight * silu(load(activated + i)) * load(up + i));
    }
  }

 private:
  Product<typename Layer::In> gate_, up_;
};

// hidden += the attention of one pass.
template <class Attention>
inline void read_token_attention(State& state, Crew crew, const Attention& attention, int pass) {
  Zeros<kHiddenRow> normed;
  Zeros<kQueryInputRow> query_input;
  const LayerCache cache = state.pass_cache(pass);
  normalise(kHidden, state.hidden, kNormEpsilon, normed);
  multiply_share(crew, attention.compress, normed, state.compressed);
  crew.wait();
  if (crew.thread == 0) attention.store(cache, state.length, state.compressed);
  if (kQueryRank > 0) attention.query_input(state.compressed, query_input);
  multiply_share(crew, attention.query, kQueryRank > 0 ? query_input.begin() : normed.begin(), state.query);
  crew.wait();
  attention.attend(cache, state.length, crew.first(kHeads), crew.last(kHeads), state.query, state.thread_scores(0),
                   state.context);
  state.scale_heads(pass, crew.first(kHeads), crew.last(kHeads), state.context);
  keep_attention(state, state.length, pass, crew.first(kHeads), crew.last(kHeads), state.thread_scores(0));
  crew.wait();
  multiply_share(crew, attention.output, state.context, state.hidden, true);
  crew.wait();
}

template <class Number>
inline void read_token_dense(State& state, Crew crew, const FeedForward<Number, kDenseWidth>& layer,
                             const float* normed) {
  const int panels = layer.gate.panels();
  const Activation<FeedForward<Number, kDenseWidth>> activation(layer, normed);
  for (int panel = crew.first(panels); panel < crew.last(panels); ++panel) {
    activation.panel(panel, 1, state.activated(0));
  }
  crew.wait();
  multiply_share(crew, layer.down, state.activated(0), state.hidden, true);
}

template <class Number>
inline void read_token_mixture(State& state, Crew crew, const Mixture<Number>& mixture, const Pass& at,
                               const float* normed) {
  // Every thread computes the routing itself, which is faster than waiting for one thread to do it.
  Local<float, kRouterRow> logits_E;
  multiply(mixture.router, normed, logits_E);
  Local<int32_t, kExperts> experts_K, displaced_K;
  Local<float, kExperts> gates_K, affinities_K;
  const int chosen = state.traces.chosen;
  const Trace own{experts_K, gates_K, affinities_K, displaced_K, chosen};
  const Trace kept = crew.thread == 0 ? state.traces.at(state.length, at.trace) : own;
  route(logits_E, state.rule(at.layer, mixture.bias_E), kept);

  using Shared = FeedForward<Number, kSharedWidth>;
  using Expert = FeedForward<Number, kExpertWidth>;
  const int shared_panels = Shared::In::panels(), expert_panels = Expert::In::panels();
  const int panels = shared_panels + chosen * expert_panels;
  for (int panel = crew.first(panels); panel < crew.last(panels); ++panel) {
    if (panel < shared_panels) {
      Activation<Shared>(mixture.shared, normed).panel(panel, 1, state.activated(0));
    } else {
      const int k = (panel - shared_panels) / expert_panels;
      const Activation<Expert> activation(mixture.experts[kept.experts_K[k]], normed);
      activation.panel((panel - shared_panels) % expert_panels, kept.gates_K[k], state.activated(k + 1));
    }
  }
  crew.wait();
  const int down_panels = Shared::Out::panels();
  for (int panel = crew.first(down_panels); panel < crew.last(down_panels); ++panel) {
    Product(mixture.shared.down, state.activated(0)).panel(panel, state.hidden, true);
    for (int k = 0; k < chosen; ++k) {
      Product(mixture.experts[kept.experts_K[k]].down, state.activated(k + 1)).panel(panel, state.hidden, true);
    }
  }
}

// At the start of a loop: keeps the state before the first one, and later blends it with the looped state.
inline void blend_loops(int loop, float share, float* hidden, float* before_loops) {
  for (int i = 0; i < padded(kHidden); i += kLanes) {
    const Vector now = load(hidden + i), before = load(before_loops + i);
    store((loop == 0 ? before_loops : hidden) + i, loop == 0 ? now : before + share * (now - before));
  }
}

// Takes a token through all layers. Stores what is cached, its routing in the traces and its last hidden state in the
// outputs.
template <class Number>
void read_token(State& state, const Weights<Number>& weights, Crew crew, int token) {
  if (crew.thread == 0) embed(weights, token, state.hidden);
  crew.wait();
  for (size_t pass = 0; pass < state.passes.size(); ++pass) {
    const Pass& at = state.passes[pass];
    if (at.starts_loop()) {
      if (crew.thread == 0) blend_loops(at.loop, weights.looped_share, state.hidden, state.before_loops);
      crew.wait();
    }
    read_token_attention(state, crew, weights.attention[at.layer], static_cast<int>(pass));
    Zeros<kHiddenRow> normed;
    normalise(kHidden, state.hidden, kNormEpsilon, normed);
    if (at.layer < kDenseLayers) {
      read_token_dense(state, crew, weights.dense[at.layer], normed);
    } else {
      read_token_mixture(state, crew, weights.mixtures[at.layer - kDenseLayers], at, normed);
    }
    crew.wait();
  }
  if (crew.thread == 0) {
    std::copy(state.hidden.data(), state.hidden + kHidden, state.output(state.length));
    state.finished_T[state.length] = true;
    state.append(token);
  }
}

}  // namespace axion::decoding
