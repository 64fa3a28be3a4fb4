// What the reader of a text changes about its model; axion/inference/tampering.py says what each change means.
#pragma once

#include "dimensions.h"

namespace axion::decoding {

// Of every layer of the decoder, but not of multi-token prediction, which only drafts.
struct Tampering {
  int32_t chosen;         // experts per token
  const float* bias_LE;   // [kLayers, kExperts], in place of the routers' own
  const float* scale_LE;  // [kLayers, kExperts], factors on the gates
  const float* scale_LH;  // [kLayers, kHeads], factors on the heads' outputs
};

// How a layer chooses its experts and weighs them.
struct Rule {
  const float* bias_E;
  const float* scale_E;  // factors on the gates; null where there are none
};

}  // namespace axion::decoding
