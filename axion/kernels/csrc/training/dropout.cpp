// Dropout of the embeddings; the blocks drop out their own outputs.
#include "dropout.h"

#include "dimensions.h"
#include "team.h"

// y [T][kHidden] = dropout(x [T][kHidden]). Its gradient is the same function of the gradient of y.
extern "C" void axion_dropout(const axion::Dropout* dropout, int tokens, const float* x, float* y, int threads) {
  const axion::Dropout drop = *dropout;
  axion::Team{threads}.blocks(tokens, 64, [&](int begin, int end, int) {
#pragma omp simd
    for (long i = (long)begin * kHidden; i < (long)end * kHidden; ++i) y[i] = x[i] * drop.factor((uint32_t)i);
  });
}
