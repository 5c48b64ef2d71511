// The head of a request, from its first byte to its last.
#pragma once

#include <string_view>

#include "frontend/http/refusals.hpp"
#include "frontend/http/request_head.hpp"

namespace visitd {

/// `bytes`: all that has come of the head, and maybe more. complete: `head` holds it. refused: `refusal` says why, and
/// `head` holds what was read until there.
[[nodiscard]] ReadOutcome parse_head(std::string_view bytes, const ReaderLimits& limits, RequestHead& head,
                                     Refusal& refusal) noexcept;

}  // namespace visitd
