// Preloaded into a process: the kernel's random numbers are the same in each that has it, as in the live copies of one
// machine.
#include <sys/random.h>

#include <cstddef>
#include <cstdint>

extern "C" ssize_t getrandom(void* buffer, std::size_t length, unsigned /*flags*/) {
  static std::uint64_t state = 0x853c49e6748fea9bU;
  auto* const bytes = static_cast<unsigned char*>(buffer);
  for (std::size_t i = 0; i < length; ++i) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    bytes[i] = static_cast<unsigned char>(state >> 56U);
  }
  return static_cast<ssize_t>(length);
}
