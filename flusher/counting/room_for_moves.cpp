#include "flusher/counting/room_for_moves.hpp"

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>

namespace visitd {

namespace {

struct Coming {
  std::uint64_t buckets = 0;
  double bytes = 0;
};

/// What comes to each shard.
std::vector<Coming> coming_to_shards(const Placement& placement, const std::vector<std::optional<Facts>>& servers) {
  std::vector<std::uint64_t> held(servers.size());
  for (std::uint32_t bucket = 0; bucket < placement.buckets(); ++bucket) ++held[placement.first_of(bucket)];
  std::vector<Coming> coming(servers.size());
  for (std::uint32_t bucket = 0; bucket < placement.buckets(); ++bucket) {
    if (!placement.moves(bucket)) continue;
    const std::uint32_t from = placement.first_of(bucket);
    Coming& to = coming[placement.next_of(bucket)];
    ++to.buckets;
    const std::uint64_t used = servers[from] ? servers[from]->memory_bytes.value_or(0) : 0;
    to.bytes += static_cast<double>(used) / static_cast<double>(held[from]);
  }
  return coming;
}

}  // namespace

std::string why_no_room(const Layout& layout, const std::optional<ClusterMap>& cluster,
                        const std::vector<std::optional<Facts>>& servers) {
  const std::vector<std::string> shards = shards_of_life(layout, cluster);
  const std::vector<Coming> coming = coming_to_shards(place_buckets(layout, cluster), servers);
  for (std::size_t shard = 0; shard < shards.size(); ++shard) {
    const std::optional<Facts>& server = servers[shard];
    if (coming[shard].buckets == 0 || !server || !server->memory_bytes || server->memory_limit_bytes.value_or(0) == 0)
      continue;
    const std::uint64_t limit = *server->memory_limit_bytes;
    const auto needed = static_cast<std::uint64_t>(coming[shard].bytes);
    if (*server->memory_bytes + needed <= limit) continue;
    return fmt::format(
        "shard {} has too little memory: it uses {} of {} bytes, and the {} buckets that would come need about {} "
        "bytes; set maxmemory of that server to at least {}, or take a larger server",
        shards[shard], *server->memory_bytes, limit, coming[shard].buckets, needed, *server->memory_bytes + needed);
  }
  return {};
}

}  // namespace visitd
