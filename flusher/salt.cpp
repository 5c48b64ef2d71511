#include "flusher/salt.hpp"

#include "common/os/clock.hpp"
#include "common/shm/ring.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace visitd {

namespace {

#if defined(__x86_64__)
__attribute__((target("rdrnd"))) std::uint64_t processor_random() noexcept {
  if (__builtin_cpu_supports("rdrnd") == 0) return 0;
  unsigned long long number = 0;
  for (int tries = 0; tries < 10; ++tries) {
    if (_rdrand64_step(&number) == 1) return number;
  }
  return 0;
}
#else
std::uint64_t processor_random() noexcept {
  return 0;
}
#endif

}  // namespace

std::uint64_t draw_salt() {
  // The time makes two copies differ that run on the same processor without its random numbers, not surely but likely.
  return random_id() ^ processor_random() ^ monotonic_ns() * 0x9e3779b97f4a7c15U;
}

}  // namespace visitd
