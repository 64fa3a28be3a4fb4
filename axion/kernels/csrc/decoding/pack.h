// Fills the packed weights from a model's tensors, part by part, so that no more than one part is needed in memory twice.
//
// Products that do not depend on the input are computed here, in fp64: each norm's gain goes into the weights that read
// its output, except that of the head, which multi-token prediction reads too; the scale of the scores, times log2 e
// because probabilities are computed as 2^x, into the query weights; the up-projections of latents into the weights of
// the queries and of the output, and factors of low rank into each other, where that saves operations.
//
// Tensors are fp32 and of the shapes of a PyTorch model: a weight is [out, in]. axion/kernels/pack.py names the parts
// and the tensors of each.
#pragma once

#include <cmath>

#include "decoder_weights.h"

namespace axion::decoding {

// Hands out the tensors of a part in order and checks that each has the expected number of elements.
class Tensors {
 public:
  Tensors(const float* const* tensors, const int64_t* sizes, int count)
      : tensors_(tensors), sizes_(sizes), count_(count) {}

  // Null if it has another size.
  const float* next(int64_t rows, int64_t columns = 1) {
    const float* tensor = at_ < count_ && sizes_[at_] == rows * columns ? tensors_[at_] : nullptr;
    fits_ = fits_ && tensor;
    ++at_;
    return tensor;
  }

  bool all_fit() const { return fits_ && at_ == count_; }

 private:
  const float* const* tensors_;
  const int64_t* sizes_;
  int count_;
  int at_ = 0;
  bool fits_ = true;
};

// The weight of a linear layer as the model has it: full, or b·a.
struct Projection {
  int in, out;
  const float* whole = nullptr;  // [out, in]
  const float* a = nullptr;      // [kProjectionRank, in]
  const float* b = nullptr;      // [out, kProjectionRank]
  const float* gain = nullptr;   // [in], of the norm before it
  double scale = 1;

  double scaled_gain(int i) const { return gain ? scale * gain[i] : scale; }

  // W[i, o] with the gain and the scale.
  double at(int i, int o) const {
    if (whole) return scaled_gain(i) * whole[static_cast<size_t>(o) * in + i];
    double sum = 0;
    for (int r = 0; r < kProjectionRank; ++r) sum += at_a(i, r) * at_b(r, o);
    return sum;
  }
  double at_a(int i, int r) const { return (gain ? gain[i] : 1.0) * a[static_cast<size_t>(r) * in + i]; }
  double at_b(int r, int o) const { return scale * b[static_cast<size_t>(o) * kProjectionRank + r]; }
};

// Full in any case: no model has factors there.
inline Projection next_whole(Tensors& tensors, int in, int out, const float* gain = nullptr, double scale = 1) {
  Projection projection{in, out};
  projection.whole = tensors.next(out, in);
  projection.gain = gain;
  projection.scale = scale;
  return projection;
}

inline Projection next_projection(Tensors& tensors, int in, int out, const float* gain = nullptr, double scale = 1) {
  if (kProjectionRank == 0) return next_whole(tensors, in, out, gain, scale);
  Projection projection{in, out};
  projection.a = tensors.next(kProjectionRank, in);
  projection.b = tensors.next(out, kProjectionRank);
  projection.gain = gain;
  projection.scale = scale;
  return projection;
}

template <class Number, const auto& kIn, const auto& kOut, const auto& kRank>
void pack(Linear<Number, kIn, kOut, kRank>& layer, const Projection& from) {
  if (layer.is_whole()) return pack(layer.whole, [&](int i, int o) { return from.at(i, o); });
  pack(layer.a, [&](int i, int r) { return from.at_a(i, r); });
  pack(layer.b, [&](int r, int o) { return from.at_b(r, o); });
}

template <class Number>
bool pack_grouped(Attention<Number>& layer, Tensors tensors) {
  const int keys = kKeyValueHeads * kHeadDim;
  const float* gain_D = tensors.next(kHidden);
  const Projection key = next_projection(tensors, kHidden, keys, gain_D);
  const Projection value = next_projection(tensors, kHidden, keys, gain_D);
  const Projection query = next_projection(tensors, kHidden, kQueryWidth, gain_D, kQueryScale);
  const Projection output = next_projection(tensors, kContextWidth, kHidden);
  if (!tensors.all_fit()) return false;
  pack(layer.query, query);
  pack(layer.output, output);
  if (layer.compress.is_whole()) {
    pack(layer.compress.whole, [&](int i, int o) { return o < keys ? key.at(i, o) : value.at(i, o - keys); });
  } else {  // factors side by side, and below each other where the outputs of one are no inputs of the other
    const int rank = kKeptRank;
    pack(layer.compress.a, [&](int i, int r) { return r < rank ? key.at_a(i, r) : value.at_a(i, r - rank); });
    pack(layer.compress.b, [&](int r, int o) {
      if ((r < rank) != (o < keys)) return 0.0;
      return r < rank ? key.at_b(r, o) : value.at_b(r - rank, o - keys);
    });
  }
  return true;
}

template <class Number>
bool pack_latent(Attention<Number>& layer, Tensors tensors) {
  const int cached = kLatent + kRope, made = kNope + kRope, expanded = kNope + kValue;
  const float* gain_D = tensors.next(kHidden);
  Projection query_down{}, query{};
  if (kQueryRank > 0) {
    query_down = next_whole(tensors, kHidden, kQueryRank, gain_D);
    const float* gain_Q = tensors.next(kQueryRank);
    query = next_whole(tensors, kQueryRank, kHeads * made, gain_Q, kQueryScale);
  } else {
    query = next_whole(tensors, kHidden, kHeads * made, gain_D, kQueryScale);
  }
  const Projection down = next_whole(tensors, kHidden, cached, gain_D);
  const float* gain_R = tensors.next(kLatent);
  const Projection up = next_whole(tensors, kLatent, kHeads * expanded, gain_R);  // each head's key, then its value
  const Projection output = next_whole(tensors, kHeads * kValue, kHidden);
  if (!tensors.all_fit()) return false;

  pack(layer.compress.whole,
       [&](int i, int o) { return o < kQueryRank ? query_down.at(i, o) : down.at(i, o - kQueryRank); });
  pack(layer.query.whole, [&](int i, int o) {
    const int head = o / kQueryHead, inside = o % kQueryHead, rest = kQueryHead - kRope;
    if (inside >= rest) return query.at(i, head * made + kNope + inside - rest);
    if (!kAbsorbKeys) return query.at(i, head * made + inside);
    double sum = 0;
    for (int n = 0; n < kNope; ++n) sum += query.at(i, head * made + n) * up.at(inside, head * expanded + n);
    return sum;
  });
  for (size_t head = 0; head < layer.key_up.size(); ++head) {
    pack(layer.key_up[head], [&](int n, int r) { return up.at(r, static_cast<int>(head) * expanded + n); });
  }
  for (size_t head = 0; head < layer.value_up.size(); ++head) {
    pack(layer.value_up[head], [&](int r, int v) { return up.at(r, static_cast<int>(head) * expanded + kNope + v); });
  }
  pack(layer.output.whole, [&](int i, int o) {
    if (!kAbsorbValues) return output.at(i, o);
    const int head = i / kLatent, latent = i % kLatent;
    double sum = 0;
    for (int v = 0; v < kValue; ++v) sum += up.at(latent, head * expanded + kNope + v) * output.at(head * kValue + v, o);
    return sum;
  });
  return true;
}

template <class Number>
bool pack_attention(Attention<Number>& layer, Tensors tensors) {
  return kGroupedQuery ? pack_grouped(layer, tensors) : pack_latent(layer, tensors);
}

template <class Number, const auto& kWidth>
bool pack_feed_forward(FeedForward<Number, kWidth>& layer, Tensors tensors) {
  const float* gain_D = tensors.next(kHidden);
  const Projection gate = next_projection(tensors, kHidden, kWidth, gain_D);
  const Projection up = next_projection(tensors, kHidden, kWidth, gain_D);
  const Projection down = next_projection(tensors, kWidth, kHidden);
  if (!tensors.all_fit()) return false;
  pack(layer.gate, gate);
  pack(layer.up, up);
  pack(layer.down, down);
  return true;
}

template <class Number>
bool pack_router(Mixture<Number>& layer, Tensors tensors) {
  const float* gain_D = tensors.next(kHidden);
  const Projection router = next_whole(tensors, kHidden, kExperts, gain_D);
  const float* bias_E = tensors.next(kExperts);
  if (!tensors.all_fit()) return false;
  pack(layer.router, [&](int i, int o) { return router.at(i, o); });
  std::copy(bias_E, bias_E + kExperts, layer.bias_E);
  return true;
}

// The parts of a layer: its attention, then its dense feed-forward part; or its router, shared experts and experts.
constexpr int kDenseParts = 2;
inline int mixture_parts() { return 3 + kExperts; }

template <class Number>
bool pack_mixture_part(Attention<Number>& attention, Mixture<Number>& mixture, int part, Tensors tensors) {
  switch (part) {
    case 0: return pack_attention(attention, tensors);
    case 1: return pack_router(mixture, tensors);
    case 2: return pack_feed_forward(mixture.shared, tensors);
    default: return pack_feed_forward(mixture.experts[part - 3], tensors);
  }
}

template <class Number>
bool pack_embedding(Weights<Number>& weights, Tensors tensors) {
  const float* embedding_VD = tensors.next(kVocabulary, kHidden);
  if (!tensors.all_fit()) return false;
  const size_t size = static_cast<size_t>(kVocabulary) * kHidden;
  for (size_t i = 0; i < size; ++i) put(weights.embedding_VD[i], embedding_VD[i]);
  return true;
}

// The gate of the loops, where there are some, the last norm and the head.
template <class Number>
bool pack_head(Weights<Number>& weights, Tensors tensors) {
  const float* loop_gate = kSharedLayers > 0 ? tensors.next(1) : nullptr;
  const float* norm_D = tensors.next(kHidden);
  const Projection head = next_whole(tensors, kHidden, kVocabulary);
  if (!tensors.all_fit()) return false;
  if (loop_gate) weights.looped_share = static_cast<float>(1 / (1 + std::exp(-static_cast<double>(*loop_gate))));
  std::copy(norm_D, norm_D + kHidden, weights.norm_D);
  pack(weights.head, [&](int i, int o) { return head.whole[static_cast<size_t>(o) * kHidden + i]; });
  return true;
}

template <class Number>
bool pack_join(Prediction<Number>& layer, Tensors tensors) {
  const float *embedding_gain_D = tensors.next(kHidden), *output_gain_D = tensors.next(kHidden);
  const float* join = tensors.next(kHidden, kJoined);
  const float* norm_D = tensors.next(kHidden);
  if (!tensors.all_fit()) return false;
  pack(layer.join, [&](int i, int o) {
    const double gain = i < kHidden ? embedding_gain_D[i] : output_gain_D[i - kHidden];
    return gain * join[static_cast<size_t>(o) * kJoined + i];
  });
  std::copy(norm_D, norm_D + kHidden, layer.norm_D);
  return true;
}

// How many parts the weights have: the embeddings, those of each layer, the head, and those of multi-token prediction.
template <class Number>
int part_count(const Weights<Number>& weights) {
  const int prediction = weights.prediction.empty() ? 0 : 1 + mixture_parts();
  return 2 + kDenseLayers * kDenseParts + kMixtures * mixture_parts() + prediction;
}

// Fills one part. Returns false if a tensor has another size, or there is no such part.
template <class Number>
bool pack_part(Weights<Number>& weights, int part, Tensors tensors) {
  if (part < 0 || part >= part_count(weights)) return false;
  if (part-- == 0) return pack_embedding(weights, tensors);
  if (part < kDenseLayers * kDenseParts) {
    const int layer = part / kDenseParts;
    return part % kDenseParts == 0 ? pack_attention(weights.attention[layer], tensors)
                                   : pack_feed_forward(weights.dense[layer], tensors);
  }
  part -= kDenseLayers * kDenseParts;
  if (part < kMixtures * mixture_parts()) {
    const int layer = part / mixture_parts();
    return pack_mixture_part(weights.attention[kDenseLayers + layer], weights.mixtures[layer], part % mixture_parts(),
                             tensors);
  }
  part -= kMixtures * mixture_parts();
  if (part-- == 0) return pack_head(weights, tensors);
  auto& prediction = weights.prediction[0];
  if (part-- == 0) return pack_join(prediction, tensors);
  return pack_mixture_part(prediction.attention, prediction.mixture, part, tensors);
}

}  // namespace axion::decoding
