// Dropout without a stored mask: whether a number is kept follows from two keys and its place alone.
//
//   keep(i)  =  mix(mix(i ⊕ first) ⊕ second) ≥ rate · 2^32        y_i = keep(i) ? x_i / (1 − rate) : 0
//
// mix is a hash of 32 bits in which every bit of the input changes about half of the output's (Chris Wellons' lowbias32,
// github.com/skeeto/hash-prospector). The keys differ from pass to pass and from block to block; i counts the numbers
// of all tokens. So the backward pass computes the same mask again, and neither threads nor vectors matter.
#pragma once

#include <cstdint>

namespace axion {

struct Dropout {
  uint32_t first, second, threshold;  // rate · 2^32
  float scale;                        // 1 / (1 − rate)

  static uint32_t mix(uint32_t x) {
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return x ^ (x >> 16);
  }

  float factor(uint32_t i) const { return mix(mix(i ^ first) ^ second) < threshold ? 0.0f : scale; }
};

}  // namespace axion
