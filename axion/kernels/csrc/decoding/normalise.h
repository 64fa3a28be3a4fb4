// The norm without its gain:  y = x / √(mean(x²) + ε)
#pragma once

#include <cmath>

#include "lanes.h"
#include "common/vector.h"

namespace axion::decoding {

inline void normalise(int size, const float* x, float epsilon, float* y) {
  Vector squares = {};
  float rest = 0;
  const int whole = size / kLanes * kLanes;
  for (int i = 0; i < whole; i += kLanes) squares += load(x + i) * load(x + i);
  for (int i = whole; i < size; ++i) rest += x[i] * x[i];
  const float scale = 1.0f / std::sqrt((fast_sum(squares) + rest) / size + epsilon);
  for (int i = 0; i < whole; i += kLanes) store(y + i, load(x + i) * scale);
  for (int i = whole; i < size; ++i) y[i] = x[i] * scale;
}

// With its gain, where none is multiplied into the weights that read y.
inline void normalise(int size, const float* x, float epsilon, const float* gain, float* y) {
  normalise(size, x, epsilon, y);
  for (int i = 0; i < size; ++i) y[i] *= gain[i];
}

}  // namespace axion::decoding
