// The Cache-Status of an answer that tells counts (RFC 9211).
#pragma once

#include "frontend/api/answers.hpp"
#include "frontend/api/backend.hpp"

namespace visitd {

/// Of one count, or of the one that stands for many.
void note_cache_status(const CountAnswer& count, Answer& answer) noexcept;

}  // namespace visitd
