// Which shard a bucket belongs to: consistent hashing with virtual nodes over shard names. Names place, addresses do
// not.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace visitd {

/// Shard index of each bucket. Each shard stands `virtual_nodes` times on a ring of 64-bit hashes (XXH3 of "NAME#I"); a
/// bucket (XXH3 of "bucket:B") belongs to the next one clockwise. Adding or removing one of n shards moves about 1/n of
/// the buckets.
[[nodiscard]] std::vector<std::uint32_t> place_buckets(std::span<const std::string> shards, std::uint32_t virtual_nodes,
                                                       std::uint32_t buckets);

}  // namespace visitd
