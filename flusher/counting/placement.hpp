// Which shard a bucket belongs to: consistent hashing with virtual nodes over shard names. Names place, addresses do
// not.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace visitd {

/// Where each bucket is. One object, which all that asks refers to.
class Placement {
 public:
  /// `shard_of_bucket`: indexes below `shards`.
  Placement(std::vector<std::uint32_t> shard_of_bucket, std::uint32_t shards);

  [[nodiscard]] std::uint32_t shard_of(std::uint32_t bucket) const noexcept { return shard_of_bucket_[bucket]; }
  /// The shard of each bucket.
  [[nodiscard]] const std::vector<std::uint32_t>& shard_of_bucket() const noexcept { return shard_of_bucket_; }
  [[nodiscard]] const std::vector<std::uint32_t>& buckets_on(std::uint32_t shard) const noexcept {
    return buckets_on_[shard];
  }
  [[nodiscard]] std::uint32_t buckets() const noexcept { return static_cast<std::uint32_t>(shard_of_bucket_.size()); }
  [[nodiscard]] std::uint32_t shards() const noexcept { return static_cast<std::uint32_t>(buckets_on_.size()); }

 private:
  std::vector<std::uint32_t> shard_of_bucket_;
  std::vector<std::vector<std::uint32_t>> buckets_on_;
};

/// Each shard stands `virtual_nodes` times on a ring of 64-bit hashes (XXH3 of "NAME#I"); a
/// bucket (XXH3 of "bucket:B") belongs to the next one clockwise. Adding or removing one of n shards moves about 1/n of
/// the buckets.
[[nodiscard]] Placement place_buckets(std::span<const std::string> shards, std::uint32_t virtual_nodes,
                                      std::uint32_t buckets);

}  // namespace visitd
