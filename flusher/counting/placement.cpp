#include "flusher/counting/placement.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/shm/hash.hpp"

namespace visitd {

Placement::Placement(std::vector<std::uint32_t> shard_of_bucket, std::uint32_t shards, std::vector<std::uint32_t> next,
                     std::uint32_t nodes_from)
    : shard_of_bucket_(std::move(shard_of_bucket)),
      next_(std::move(next)),
      nodes_from_(nodes_from),
      buckets_on_(shards) {
  if (!next_.empty()) first_ = shard_of_bucket_;
  for (std::uint32_t bucket = 0; bucket < shard_of_bucket_.size(); ++bucket) {
    buckets_on_[shard_of_bucket_[bucket]].push_back(bucket);
  }
}

void Placement::move(std::uint32_t bucket, std::uint32_t shard) {
  std::vector<std::uint32_t>& from = buckets_on_[shard_of_bucket_[bucket]];
  std::vector<std::uint32_t>& to = buckets_on_[shard];
  from.erase(std::ranges::lower_bound(from, bucket));
  to.insert(std::ranges::lower_bound(to, bucket), bucket);
  shard_of_bucket_[bucket] = shard;
}

std::vector<std::uint32_t> place_on_circle(std::span<const std::string> shards, std::uint32_t virtual_nodes,
                                           std::uint32_t buckets) {
  std::vector<std::pair<std::uint64_t, std::uint32_t>> circle;
  circle.reserve(shards.size() * virtual_nodes);
  for (std::uint32_t shard = 0; shard < shards.size(); ++shard) {
    for (std::uint32_t i = 0; i < virtual_nodes; ++i)
      circle.emplace_back(hash_bytes(fmt::format("{}#{}", shards[shard], i)), shard);
  }
  // Two nodes on one spot: the order of names decides, not the order of settings.
  std::ranges::sort(circle, [&](const auto& a, const auto& b) {
    return a.first != b.first ? a.first < b.first : shards[a.second] < shards[b.second];
  });
  std::vector<std::uint32_t> placed(buckets);
  for (std::uint32_t b = 0; b < buckets; ++b) {
    const std::uint64_t spot = hash_bytes(fmt::format("bucket:{}", b));
    const auto next = std::ranges::lower_bound(circle, spot, {}, [](const auto& node) { return node.first; });
    placed[b] = (next == circle.end() ? circle.front() : *next).second;
  }
  return placed;
}

}  // namespace visitd
