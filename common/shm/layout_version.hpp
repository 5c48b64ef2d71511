// The numbers of the layouts of ring and cache, and what may change with them. tests/next_version/ has a file of this
// name, with which the build makes the programs that play the version after this one.
#pragma once

#include <cstddef>
#include <cstdint>

namespace visitd {

inline constexpr std::uint64_t ring_layout_version = 3;
inline constexpr std::size_t request_bytes = 65536;
inline constexpr std::uint64_t cache_layout_version = 4;

/// Words that nobody uses: in a lane's header and in the cache's before the statistics, and in a node.
inline constexpr std::size_t lane_gap_words = 0;
inline constexpr std::size_t cache_gap_words = 0;
inline constexpr std::size_t node_gap_words = 0;

}  // namespace visitd
