// What only a bug can break, looked at in release builds too: a process that is wrong about itself ends, and the next
// one goes on from what is durable. What others wrote into shared memory, a file or a socket is no invariant: it is
// checked where it is read, and refused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <source_location>

namespace visitd {

/// `what` holds: in words, for whoever reads the core dump.
inline void must_hold(bool holds, const char* what,
                      const std::source_location& place = std::source_location::current()) noexcept {
  if (holds) [[likely]]
    return;
  std::fprintf(stderr, "%s:%u: this does not hold: %s; please report it\n", place.file_name(),
               static_cast<unsigned>(place.line()), what);
  std::abort();
}

/// The one way into an array in shared memory.
template <typename T, std::size_t N>
[[nodiscard]] constexpr T& at_index(T (&array)[N], std::uint64_t index,
                                    const std::source_location& place = std::source_location::current()) noexcept {
  must_hold(index < N, "an index into shared memory is below its bound", place);
  return array[index];
}

}  // namespace visitd
