// The feed-forward block of a layer without experts, y = x + dropout(swiglu(norm(x))), and its gradients.
#include "common/norm.h"
#include "swiglu.h"

namespace axion {
namespace {

constexpr int kChunk = 256;  // tokens

using Dense = Swiglu<kDenseWidth>;

// The parameters, or pointers to their gradients in the same order.
struct Parameters {
  float* norm_gain;
  SwigluParameters dense;
};

constexpr size_t kNormGainAt = 0;
constexpr size_t kDenseAt = kNormGainAt + kHiddenRow;
constexpr size_t kGradients = kDenseAt + Dense::kGradients;

void forward_chunk(const Norm<kHidden>& norm, const Dense& dense, int tokens, const float* hidden_TD, float* result_TD,
                   float* saved, const Dropout* dropout, long first) {
  Scratch scratch;
  float* normed_TD = scratch.take(kChunk * kHiddenRow);
  float* output_TD = scratch.take(kChunk * kHiddenRow);
  norm.forward(tokens, hidden_TD, kHidden, normed_TD);
  dense.forward(tokens, normed_TD, saved, output_TD);
  add_rows(tokens, hidden_TD, output_TD, result_TD, dropout, first);
}

void backward_chunk(const Norm<kHidden>& norm, const Dense& dense, int tokens, const float* hidden_TD,
                    const float* saved, const float* dresult_TD, float* dhidden_TD, float* gradients,
                    const Dropout* dropout, long first) {
  Scratch scratch;
  float* normed_TD = scratch.take(kChunk * kHiddenRow);
  float* dnormed_TD = scratch.take(kChunk * kHiddenRow);
  float* doutput_TD = scratch.take(kChunk * kHiddenRow);
  norm.forward(tokens, hidden_TD, kHidden, normed_TD);
  pad_rows(tokens, dresult_TD, doutput_TD, dropout, first);
  dense.backward(tokens, normed_TD, saved, doutput_TD, nullptr, dnormed_TD, nullptr, gradients + kDenseAt);
  norm.backward(tokens, hidden_TD, kHidden, dnormed_TD, dresult_TD, dhidden_TD, kHidden, gradients + kNormGainAt);
}

}  // namespace
}  // namespace axion

// Row length of what the forward pass saves.
extern "C" int axion_dense_row() { return axion::Dense::kSavedRow; }

// hidden, result: [T][kHidden]; saved: [T][dense_row], filled; dropout: or null.
extern "C" int axion_dense_forward(const axion::Parameters* parameters, int tokens, const float* hidden, float* result,
                                   float* saved, const axion::Dropout* dropout, int threads) {
  using namespace axion;
  return has_memory_for([&] {
    const Team team{threads};
    Scratch scratch;
    const Norm<kHidden> norm{parameters->norm_gain, kNormEpsilon};
    Dense dense;
    dense.pack_forward(parameters->dense, scratch.take(Dense::kForwardSpace));
    team.blocks(tokens, kChunk, [&](int begin, int end, int) {
      forward_chunk(norm, dense, end - begin, hidden + (long)begin * kHidden, result + (long)begin * kHidden,
                    saved + (long)begin * Dense::kSavedRow, dropout, begin);
    });
  });
}

// dresult, dhidden: [T][kHidden]; `gradients`: a pointer for each parameter.
extern "C" int axion_dense_backward(const axion::Parameters* parameters, int tokens, const float* hidden,
                                    const float* saved, const float* dresult, float* dhidden,
                                    const axion::Parameters* gradients, const axion::Dropout* dropout, int threads) {
  using namespace axion;
  return has_memory_for([&] {
    const Team team{threads};
    Scratch scratch;
    const Norm<kHidden> norm{parameters->norm_gain, kNormEpsilon};
    Dense dense;
    dense.pack_backward(parameters->dense, scratch.take(Dense::kBackwardSpace));
    std::vector<float*> thread_gradients(threads);
    for (float*& mine : thread_gradients) mine = scratch.take_zeros(kGradients);
    team.blocks(tokens, kChunk, [&](int begin, int end, int thread) {
      backward_chunk(norm, dense, end - begin, hidden + (long)begin * kHidden, saved + (long)begin * Dense::kSavedRow,
                     dresult + (long)begin * kHidden, dhidden + (long)begin * kHidden, thread_gradients[thread],
                     dropout, begin);
    });
    sum_gradients(thread_gradients.data(), kNormGainAt, threads, 1, kHidden, gradients->norm_gain, team);
    Dense::sum_threads(thread_gradients.data(), kDenseAt, threads, gradients->dense, team);
  });
}
