// Memory that belongs to one object.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace axion::decoding {

// Zero-initialised floats, aligned to cache lines. The system provides memory only for the pages that are touched.
class Floats {
 public:
  explicit Floats(int64_t count) {
    const uint64_t bytes = (static_cast<uint64_t>(count) + 16) * sizeof(float);
    if (bytes <= SIZE_MAX) all_.reset(static_cast<float*>(std::calloc(1, static_cast<size_t>(bytes))));
    if (!all_) throw std::bad_alloc();
  }
  float* data() const { return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(all_.get()) + 63) / 64 * 64); }
  operator float*() const { return data(); }

 private:
  struct Free {
    void operator()(float* numbers) const { std::free(numbers); }
  };
  std::unique_ptr<float, Free> all_;
};

}  // namespace axion::decoding
