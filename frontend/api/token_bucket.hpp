// A token bucket as one number: the moment at which it is full again. Tokens may be taken beyond what is left, which is
// paid for by waiting. Times are nanoseconds of the monotonic clock.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

namespace visitd {

inline constexpr std::uint64_t ns_per_s = 1'000'000'000;
inline constexpr std::uint64_t ns_per_ms = 1'000'000;

struct TokenRate {
  std::uint64_t interval_ns = 0;  ///< in which one token comes
  std::uint64_t burst = 0;        ///< tokens of a full bucket

  /// `tokens`: a minute, at least 1.
  [[nodiscard]] static constexpr TokenRate per_minute(std::uint64_t tokens, std::uint64_t burst) noexcept {
    return {60 * ns_per_s / tokens, burst};
  }

  [[nodiscard]] constexpr std::uint64_t left(std::uint64_t full_at, std::uint64_t now) const noexcept {
    const std::uint64_t missing = full_at <= now ? 0 : (full_at - now + interval_ns - 1) / interval_ns;
    return missing >= burst ? 0 : burst - missing;
  }
  /// When it is full again after so many were taken.
  [[nodiscard]] constexpr std::uint64_t taken(std::uint64_t full_at, std::uint64_t now,
                                              std::uint64_t tokens) const noexcept {
    const std::uint64_t most = std::numeric_limits<std::uint64_t>::max() / 4 / interval_ns;
    const std::uint64_t from = std::min(std::max(full_at, now), std::numeric_limits<std::uint64_t>::max() / 2);
    return from + std::min(tokens, most) * interval_ns;
  }
  /// Whole seconds until it is full.
  [[nodiscard]] static constexpr std::uint64_t full_in_s(std::uint64_t full_at, std::uint64_t now) noexcept {
    return full_at <= now ? 0 : (full_at - now + ns_per_s - 1) / ns_per_s;
  }
  /// Whole seconds until so many are left, which are no more than a full bucket has.
  [[nodiscard]] constexpr std::uint64_t left_in_s(std::uint64_t tokens, std::uint64_t full_at,
                                                  std::uint64_t now) const noexcept {
    return full_in_s(full_at, now + (burst - tokens) * interval_ns);
  }
};

}  // namespace visitd
