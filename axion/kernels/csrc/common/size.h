// Sizes that follow from the model's dimensions, and local arrays of such sizes.
//
// dimensions.h has the dimensions themselves. Natively the kernels are compiled for one model and they are constants,
// so that the compiler unrolls loops and sums up addresses. The decoder is also compiled once for all models, with
// AXION_ANY_MODEL: then they are variables, set when a model is opened. The source is the same: it gives sizes to
// templates by reference, and asks for local arrays by the name of their size.
#pragma once

#include <cstddef>
#include <cstring>

#include "dimensions.h"
#include "vector.h"

namespace axion {

// An int that is computed where it is read: a constant where the dimensions are.
template <class Formula>
struct Size {
  Formula formula;
  constexpr operator int() const { return formula(); }
};

template <class Formula>
Size(Formula) -> Size<Formula>;

#if defined(AXION_ANY_MODEL)

constexpr size_t kLocalBytes = 4 << 20;
alignas(64) inline thread_local char local_memory[kLocalBytes];
inline thread_local char* local_top = local_memory;

// A local array, uninitialised. They are freed in the opposite order, as local variables are.
template <class Number, const auto& kCount>
class Local {
 public:
  Local() : numbers_(reinterpret_cast<Number*>(local_top)) {
    const size_t bytes = (static_cast<size_t>(kCount) * sizeof(Number) + 63) / 64 * 64;
    if (bytes > static_cast<size_t>(local_memory + kLocalBytes - local_top)) __builtin_trap();
    local_top += bytes;
  }
  ~Local() { local_top = reinterpret_cast<char*>(numbers_); }
  Local(const Local&) = delete;
  Local& operator=(const Local&) = delete;

  operator Number*() const { return numbers_; }
  Number* begin() const { return numbers_; }
  Number* end() const { return numbers_ + kCount; }

 private:
  Number* numbers_;
};

#else

template <class Number, const auto& kCount>
class Local {
 public:
  operator Number*() { return numbers_; }
  operator const Number*() const { return numbers_; }
  Number* begin() { return numbers_; }
  Number* end() { return numbers_ + kCount; }

 private:
  alignas(64) Number numbers_[kCount];
};

#endif

// Local floats, all zero.
template <const auto& kCount>
class Zeros : public Local<float, kCount> {
 public:
  Zeros() { std::memset(static_cast<float*>(*this), 0, static_cast<size_t>(kCount) * sizeof(float)); }
};

}  // namespace axion
