// The threads that work together, seen from one of them.
#pragma once

#if defined(_OPENMP)
#include <omp.h>
#endif

namespace axion::decoding {

struct Crew {
  int thread = 0;
  int count = 1;

  void wait() const {
    if (count > 1) {
#pragma omp barrier
    }
  }

  // This thread's share of `units`: from first() to last().
  int first(int units) const { return units * thread / count; }
  int last(int units) const { return units * (thread + 1) / count; }
};

template <class Work>
inline void with_crew(int threads, Work work) {
#if defined(_OPENMP)
  if (threads > 1) {
#pragma omp parallel num_threads(threads)
    work(Crew{omp_get_thread_num(), omp_get_num_threads()});
    return;
  }
#endif
  work(Crew{});
}

}  // namespace axion::decoding
