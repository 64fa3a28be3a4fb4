// Muon's update of a matrix W from its gradient g (axion/training/optim.py has the source):
//
//   m ← β·m + (1 − β)·g      x = β·m + (1 − β)·g      x ← x / |x|
//   repeated:    x ← a·x + x·(b·G + c·G²),  G = xᵀ·x         moves all singular values of x to about 1
//   W ← W·(1 − rate·decay) − rate·0.2·√(longest side)·x
//
// x is stored with its shorter side in the rows, so that G is as small as possible; xᵀ·x and x·(…) then need no
// transposition. One matrix is one piece of work, so that it stays in the cache of one core.
#include <cmath>

#include "dimensions.h"
#include "matrix.h"
#include "scratch.h"
#include "team.h"

namespace axion {
namespace {

struct Matrix {
  float* weight;  // [rows][columns], as are the other two
  const float* gradient;
  float* momentum;
  int32_t rows, columns;
};

// x: `tall` rows of padded(thin) numbers, the padding zeros.
void orthogonalise(int tall, int thin, float* x) {
  Scratch scratch;
  const int row = padded(thin);
  float* gram = scratch.take_zeros((size_t)thin * row);
  float* mixed = scratch.take_zeros((size_t)thin * row);
  float* next = scratch.take((size_t)tall * row);
  float squares = 0;
#pragma omp simd reduction(+ : squares)
  for (int i = 0; i < tall * row; ++i) squares += x[i] * x[i];
  const float scale = 1 / (std::sqrt(squares) + 1e-7f);
  for (int i = 0; i < tall * row; ++i) x[i] *= scale;
  for (int step = 0; step < kNewtonSchulzSteps; ++step) {
    multiply<false>(thin, row, tall, x, 1, row, x, row, gram, row);
    multiply<false>(thin, row, thin, gram, row, 1, gram, row, mixed, row);
    for (int i = 0; i < thin * row; ++i) mixed[i] = kNewtonSchulzB * gram[i] + kNewtonSchulzC * mixed[i];
    multiply<false>(tall, row, thin, x, row, 1, mixed, row, next, row);
    for (int i = 0; i < tall * row; ++i) x[i] = kNewtonSchulzA * x[i] + next[i];
  }
}

// kTurned: the matrix is wider than tall, so x is its transpose.
template <bool kTurned>
void update(const Matrix& matrix, float rate, float momentum, float decay) {
  Scratch scratch;
  const int tall = kTurned ? matrix.columns : matrix.rows, thin = kTurned ? matrix.rows : matrix.columns;
  const int row = padded(thin);
  float* x = scratch.take_zeros((size_t)tall * row);
  for (int r = 0; r < matrix.rows; ++r) {
    const float* gradient = matrix.gradient + r * matrix.columns;
    float* averaged = matrix.momentum + r * matrix.columns;
#pragma omp simd
    for (int c = 0; c < matrix.columns; ++c) {
      averaged[c] += (1 - momentum) * (gradient[c] - averaged[c]);
      x[kTurned ? c * row + r : r * row + c] = gradient[c] + momentum * (averaged[c] - gradient[c]);
    }
  }
  orthogonalise(tall, thin, x);
  const float kept = 1 - rate * decay, step = rate * 0.2f * std::sqrt((float)tall);
  for (int r = 0; r < matrix.rows; ++r) {
    float* weight = matrix.weight + r * matrix.columns;
#pragma omp simd
    for (int c = 0; c < matrix.columns; ++c) {
      weight[c] = weight[c] * kept - step * x[kTurned ? c * row + r : r * row + c];
    }
  }
}

}  // namespace
}  // namespace axion

extern "C" int axion_muon(const axion::Matrix* matrices, int count, float rate, float momentum, float decay,
                          int threads) {
  return axion::has_memory_for([&] {
    axion::Team{threads}.each(count, [&](int i, int) {
      const bool turned = matrices[i].rows < matrices[i].columns;
      (turned ? axion::update<true> : axion::update<false>)(matrices[i], rate, momentum, decay);
    });
  });
}
