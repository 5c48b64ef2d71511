// What a count may be.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "common/os/text.hpp"

namespace visitd {

/// The largest count: Redis holds signed 64-bit integers.
inline constexpr std::uint64_t count_limit = (std::uint64_t{1} << 63U) - 1;

/// A count in decimal digits; nullopt: the text is something else, or more than the largest count.
[[nodiscard]] inline std::optional<std::uint64_t> to_count(std::string_view text) noexcept {
  std::uint64_t count = 0;
  return parse_decimal(text, count) && count <= count_limit ? std::optional(count) : std::nullopt;
}

}  // namespace visitd
