// How wide this build's vectors are.
#include "vector.h"

extern "C" int axion_vector_lanes() { return axion::kLanes; }
