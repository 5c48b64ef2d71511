// What a client is told of each reason for which its request is refused.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "common/shm/refusal_kinds.hpp"

namespace visitd {

struct RefusalText {
  std::uint16_t status;  ///< as RefusalKind has them
  std::string_view name;
  std::string_view parameter;  ///< what is at fault, where that is always the same
  std::string_view detail;     ///< a sentence, where that is always the same; empty: whoever refuses says it
};
[[nodiscard]] RefusalText describe(Refusal refusal) noexcept;

/// How often each was answered.
using RefusalCounts = std::array<std::uint64_t, refusal_count>;

/// A refusal as one client is told of it, as a problem (RFC 9457).
struct Problem {
  Refusal refusal = Refusal::internal_error;
  std::string_view detail{};     ///< empty: the table's
  std::string_view parameter{};  ///< empty: the table's
  std::string_view member{};     ///< the name of a number that this kind of problem bears; empty: none
  std::uint64_t value = 0;       ///< that number
};

}  // namespace visitd
