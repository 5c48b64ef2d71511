// Whether the servers to which buckets would move have the memory for them. Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "flusher/counting/layout.hpp"
#include "flusher/counting/shard_protocol.hpp"

namespace visitd {

/// Which server has too little memory, and how much is missed; empty: none has. `servers`: what the servers last said,
/// by shards_of_life(layout, cluster); nullopt: nothing. A server that says no limit, or none of its own, has room.
/// What comes from a shard is the part of its memory that its buckets that move are of all of its: pages are spread
/// evenly over buckets.
[[nodiscard]] std::string why_no_room(const Layout& layout, const std::optional<ClusterMap>& cluster,
                                      const std::vector<std::optional<Facts>>& servers);

}  // namespace visitd
