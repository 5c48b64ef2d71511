// The layouts of the version after this one, as tests play it: they differ in all that may change. The build puts this
// file in the place of the one of its name in common/shm/.
#pragma once

#include <cstddef>
#include <cstdint>

namespace visitd {

inline constexpr std::uint64_t ring_layout_version = 4;
inline constexpr std::size_t request_bytes = 131072;
inline constexpr std::uint64_t cache_layout_version = 5;

/// Words that nobody uses: in a lane's header and in the cache's before the statistics, and in a node.
inline constexpr std::size_t lane_gap_words = 128;
inline constexpr std::size_t cache_gap_words = 32;
inline constexpr std::size_t node_gap_words = 8;

}  // namespace visitd
