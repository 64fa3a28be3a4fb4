// Threads that share the iterations of a loop.
#pragma once

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <new>

#include "denormals.h"

namespace axion {

// `count` threads; the caller is number `first`.
//
// A loop over whole sequences keeps every thread's memory in its own cache, so it is preferred where there are enough
// sequences: each is then processed by a team of one. Fewer sequences are each shared by the whole team.
struct Team {
  int count = 1;
  int first = 0;

  // work(i, thread) for every i < n. A thread always gets the same i, so that sums are reproducible. Throws
  // std::bad_alloc after the loop if any of it did: an exception that leaves a parallel loop would end the process.
  template <class Work>
  void each(int n, Work work) const {
    if (count == 1 || n == 1) {
      [[maybe_unused]] const FlushDenormals flush;
      for (int i = 0; i < n; ++i) work(i, first);
      return;
    }
    std::atomic<bool> lacks_memory = false;
#pragma omp parallel num_threads(std::min(count, n))
    {
      [[maybe_unused]] const FlushDenormals flush;
#pragma omp for schedule(static)
      for (int i = 0; i < n; ++i) {
        try {
          work(i, omp_get_thread_num());
        } catch (const std::bad_alloc&) {
          lacks_memory = true;
        }
      }
    }
    if (lacks_memory) throw std::bad_alloc();
  }

  // work(i, team) for every i < n; either the loop or the work inside it is shared.
  template <class Work>
  void each_whole(int n, Work work) const {
    if (n < count) {
      for (int i = 0; i < n; ++i) work(i, *this);
    } else {
      each(n, [&](int i, int thread) { work(i, Team{1, thread}); });
    }
  }

  // work(begin, end, thread) for blocks of at most `block` of the numbers below n.
  template <class Work>
  void blocks(int n, int block, Work work) const {
    each((n + block - 1) / block, [&](int i, int thread) { work(i * block, std::min((i + 1) * block, n), thread); });
  }
};

}  // namespace axion
