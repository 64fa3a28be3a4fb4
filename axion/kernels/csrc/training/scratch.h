// Temporary memory for kernels. Each thread keeps its own, so that a training step allocates nothing.
#pragma once

#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

namespace axion {

// Hands out pieces of this thread's memory, aligned to cache lines. All are released with the object.
class Scratch {
 public:
  Scratch() : block_before_(memory().block), used_before_(memory().used) {}
  ~Scratch() {
    memory().block = block_before_;
    memory().used = used_before_;
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  float* take(size_t floats) {
    floats = (floats + 15) / 16 * 16;
    Memory& mine = memory();
    while (mine.block < mine.blocks.size() && mine.used + floats > mine.blocks[mine.block].floats) {
      ++mine.block;
      mine.used = 0;
    }
    if (mine.block == mine.blocks.size()) mine.blocks.emplace_back(floats > kMinimum ? floats : kMinimum);
    float* piece = mine.blocks[mine.block].data.get() + mine.used;
    mine.used += floats;
    return piece;
  }

  float* take_zeros(size_t floats) {
    float* piece = take(floats);
    for (size_t i = 0; i < floats; ++i) piece[i] = 0;
    return piece;
  }

 private:
  static constexpr size_t kMinimum = 1 << 18;

  struct Free {
    void operator()(float* data) const { std::free(data); }
  };
  struct Block {
    explicit Block(size_t floats) : floats(floats), data((float*)std::aligned_alloc(64, floats * sizeof(float))) {
      if (!data) throw std::bad_alloc();
    }
    size_t floats;
    std::unique_ptr<float, Free> data;
  };
  struct Memory {
    std::vector<Block> blocks;
    size_t block = 0, used = 0;  // the first free float
  };
  static Memory& memory() {
    static thread_local Memory mine;
    return mine;
  }

  size_t block_before_, used_before_;
};

// Does the work of a function that Python calls, which returns 0 where there was not enough memory.
template <class Work>
bool has_memory_for(Work work) {
  try {
    work();
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }
}

}  // namespace axion
