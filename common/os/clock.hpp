// The two clocks: monotonic for progress and deadlines, wall for what people read.
#pragma once

#include <time.h>

#include <cstdint>

namespace visitd {

/// Nanoseconds of CLOCK_MONOTONIC: one clock for all processes of the host.
[[nodiscard]] inline std::uint64_t monotonic_ns() noexcept {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(now.tv_nsec);
}

/// Milliseconds of CLOCK_MONOTONIC.
[[nodiscard]] inline std::uint64_t monotonic_ms() noexcept {
  return monotonic_ns() / 1'000'000U;
}

/// Unix time in seconds, to label records with; never used to decide anything.
[[nodiscard]] inline std::uint32_t unix_seconds() noexcept {
  timespec now{};
  clock_gettime(CLOCK_REALTIME_COARSE, &now);
  return static_cast<std::uint32_t>(now.tv_sec);
}

/// Unix time in milliseconds.
[[nodiscard]] inline std::uint64_t unix_ms() noexcept {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1000U + static_cast<std::uint64_t>(now.tv_nsec) / 1'000'000U;
}

/// Unix time that goes on evenly, whatever is done to the wall clock meanwhile: it is looked at once.
class EvenUnixTime {
 public:
  [[nodiscard]] std::uint64_t seconds() const noexcept { return (monotonic_ms() + ahead_ms_) / 1000; }
  /// Milliseconds that it is ahead of the monotonic clock; the same at any time.
  [[nodiscard]] std::uint64_t ahead_ms() const noexcept { return ahead_ms_; }
  /// How far the wall clock is ahead of it by now; negative: behind.
  [[nodiscard]] std::int64_t wall_ahead_s() const noexcept {
    return static_cast<std::int64_t>(unix_seconds()) - static_cast<std::int64_t>(seconds());
  }

 private:
  std::uint64_t ahead_ms_ = unix_ms() - monotonic_ms();
};

/// Both clocks, read at once: times in shared memory are monotonic, people are told Unix time.
struct Clocks {
  std::uint64_t monotonic_ns = 0;
  std::uint64_t unix_s = 0;
};
[[nodiscard]] inline Clocks read_clocks() noexcept {
  return {monotonic_ns(), unix_seconds()};
}

}  // namespace visitd
