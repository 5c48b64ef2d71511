// The body of a request that sets a count.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace visitd {

/// N of {"count":N}, a whole number from 0 to 2^63-1; nullopt: it is something else.
[[nodiscard]] std::optional<std::uint64_t> count_in(std::string_view body);

}  // namespace visitd
