// Waits that double from one try to the next.
#pragma once

#include <algorithm>
#include <cstdint>

namespace visitd {

class Backoff {
 public:
  static constexpr std::uint64_t longest_ms = 30'000;

  /// The next wait: `first_ms` after a reset, then twice the one before, at most longest_ms.
  [[nodiscard]] std::uint64_t next_ms(std::uint64_t first_ms) noexcept {
    wait_ms_ = wait_ms_ == 0 ? first_ms : std::min(std::max(longest_ms, first_ms), 2 * wait_ms_);
    return wait_ms_;
  }
  void reset() noexcept { wait_ms_ = 0; }

 private:
  std::uint64_t wait_ms_ = 0;
};

}  // namespace visitd
