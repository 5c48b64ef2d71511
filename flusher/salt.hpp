// Randomness that tells a machine's live copy from the original.
#pragma once

#include <cstdint>

namespace visitd {

/// The kernel's random numbers and, where it has them, the processor's. A copy of a running machine begins with a copy
/// of the kernel's state, until that is told or mixes in something new; what the processor gives is in no copy.
[[nodiscard]] std::uint64_t draw_salt();

}  // namespace visitd
