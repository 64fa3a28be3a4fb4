// The norm without its gain:  y = x / √(mean(x²) + ε)
#pragma once

#include <cmath>

#include "lanes.h"
#include "common/vector.h"

namespace axion::decoding {

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

// With its gain, where none is multiplied into the weights that read y.
template <int Size>
inline void normalise(const float* x, float epsilon, const float* gain, float* y) {
  normalise<Size>(x, epsilon, y);
  for (int i = 0; i < Size; ++i) y[i] *= gain[i];
}

}  // namespace axion::decoding
