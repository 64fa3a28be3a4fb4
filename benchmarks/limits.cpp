// The processor's limits: `limits THREADS BYTES…` prints the floating-point operations per second that all threads reach
// with fused multiply-adds, and the bytes per second that they read from a working set of each size.
#include <omp.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "common/vector.h"

using namespace axion;

constexpr int kAccumulators = 12;  // enough to hide a multiply-add's latency, few enough to stay in registers
constexpr double kSeconds = 0.3;   // per measurement
constexpr int kMeasurements = 3;   // the best one counts

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// One thread's work. Returning the result keeps the compiler from removing the loop.
float multiply_add(long rounds) {
  Vector accumulators[kAccumulators], factor = splat(0.999f), term = splat(1e-3f);
  for (Vector& accumulator : accumulators) accumulator = splat(1.0f / rounds);  // not a compile-time constant
  for (long round = 0; round < rounds; ++round)
    for (Vector& accumulator : accumulators) accumulator = accumulator * factor + term;
  Vector total{};
  for (Vector accumulator : accumulators) total += accumulator;
  return sum(total);
}

float read_all(const float* from, long vectors, long rounds) {
  Vector totals[8] = {};
  for (long round = 0; round < rounds; ++round) {
    for (long index = 0; index + 8 <= vectors; index += 8)
      for (int lane = 0; lane < 8; ++lane) totals[lane] += load(from + (index + lane) * kLanes);
    asm volatile("" ::: "memory");  // memory is read again in every round
  }
  Vector total{};
  for (Vector one : totals) total += one;
  return sum(total);
}

// Rounds per second, limited by the slowest thread.
template <typename Work>
double rounds_per_second(int threads, Work work) {
  double best = 0;
  long rounds = 1;
  volatile float kept = 0;
  for (int measured = 0; measured < kMeasurements;) {
    double start = seconds();
#pragma omp parallel num_threads(threads)
    {
      float result = work(omp_get_thread_num(), rounds);
#pragma omp critical
      kept = kept + result;
    }
    double spent = seconds() - start;
    if (spent < kSeconds) {
      rounds *= 2;
      continue;
    }
    best = rounds / spent > best ? rounds / spent : best;
    ++measured;
  }
  return best;
}

int main(int count, char** arguments) {
  int threads = std::atoi(arguments[1]);
  double rounds = rounds_per_second(threads, [](int, long n) { return multiply_add(n); });
  std::printf("{\"operations\": %.6g, \"read\": {", rounds * kAccumulators * kLanes * 2 * threads);
  for (int argument = 2; argument < count; ++argument) {
    long bytes = std::atol(arguments[argument]);
    long vectors = bytes / (4 * kLanes * threads) / 8 * 8;  // per thread
    std::vector<std::vector<float>> sets(threads);
#pragma omp parallel num_threads(threads)
    sets[omp_get_thread_num()].assign(vectors * kLanes, 1.0f);  // allocated by the thread that reads it, for NUMA
    double reads = rounds_per_second(
        threads, [&](int thread, long n) { return read_all(sets[thread].data(), vectors, n); });
    std::printf("%s\"%ld\": %.6g", argument > 2 ? ", " : "", bytes, reads * vectors * kLanes * 4 * threads);
  }
  std::printf("}}\n");
}
