// Which shard a bucket is on, and while buckets move, which one it goes to.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace visitd {

/// Where each bucket is. One object, which all that asks refers to.
class Placement {
 public:
  /// `shard_of_bucket`: indexes below `shards`. `next`: where each bucket goes; empty: they stay. `nodes_from`: shards
  /// from this one on are nodes of a cluster.
  Placement(std::vector<std::uint32_t> shard_of_bucket, std::uint32_t shards, std::vector<std::uint32_t> next = {},
            std::uint32_t nodes_from = UINT32_MAX);

  [[nodiscard]] std::uint32_t shard_of(std::uint32_t bucket) const noexcept { return shard_of_bucket_[bucket]; }
  /// The shard of each bucket.
  [[nodiscard]] const std::vector<std::uint32_t>& shard_of_bucket() const noexcept { return shard_of_bucket_; }
  /// In order.
  [[nodiscard]] const std::vector<std::uint32_t>& buckets_on(std::uint32_t shard) const noexcept {
    return buckets_on_[shard];
  }
  [[nodiscard]] std::uint32_t buckets() const noexcept { return static_cast<std::uint32_t>(shard_of_bucket_.size()); }
  [[nodiscard]] std::uint32_t shards() const noexcept { return static_cast<std::uint32_t>(buckets_on_.size()); }

  /// Whether the bucket moves, or has moved, to another shard than it was on at first.
  [[nodiscard]] bool moves(std::uint32_t bucket) const noexcept {
    return !next_.empty() && next_[bucket] != first_[bucket];
  }
  /// Where it is at last.
  [[nodiscard]] std::uint32_t next_of(std::uint32_t bucket) const noexcept {
    return next_.empty() ? shard_of_bucket_[bucket] : next_[bucket];
  }
  /// Where it was at first.
  [[nodiscard]] std::uint32_t first_of(std::uint32_t bucket) const noexcept {
    return next_.empty() ? shard_of_bucket_[bucket] : first_[bucket];
  }
  /// The bucket is on that shard from now on.
  void move(std::uint32_t bucket, std::uint32_t shard);
  /// Whether the shard is a node of a cluster.
  [[nodiscard]] bool is_node(std::uint32_t shard) const noexcept { return shard >= nodes_from_; }
  /// That node of the cluster has the bucket's slot from now on: a bucket that moves goes there, or comes from there.
  void follow_slot(std::uint32_t bucket, std::uint32_t node) noexcept {
    if (!next_.empty()) (is_node(next_[bucket]) ? next_ : first_)[bucket] = node;
  }

 private:
  std::vector<std::uint32_t> shard_of_bucket_;
  std::vector<std::uint32_t> first_;  ///< where the buckets were; empty: they stay
  std::vector<std::uint32_t> next_;
  std::uint32_t nodes_from_;
  std::vector<std::vector<std::uint32_t>> buckets_on_;
};

/// The buckets that are on one shard, at each moment.
class ShardBuckets {
 public:
  ShardBuckets(const Placement& placement, std::uint32_t shard) noexcept : placement_(placement), shard_(shard) {}

  [[nodiscard]] std::uint32_t shard() const noexcept { return shard_; }
  /// In order.
  [[nodiscard]] const std::vector<std::uint32_t>& all() const noexcept { return placement_.buckets_on(shard_); }
  [[nodiscard]] bool has(std::uint32_t bucket) const noexcept { return placement_.shard_of(bucket) == shard_; }
  /// Whether the bucket is here only because it moved here: a copy that the shard lost comes again.
  [[nodiscard]] bool moves_here(std::uint32_t bucket) const noexcept {
    return placement_.moves(bucket) && placement_.next_of(bucket) == shard_;
  }
  /// Whether the bucket moves from here to somewhere else.
  [[nodiscard]] bool moves_away(std::uint32_t bucket) const noexcept {
    return placement_.moves(bucket) && placement_.first_of(bucket) == shard_;
  }

 private:
  const Placement& placement_;
  std::uint32_t shard_;
};

/// The shard of each bucket, by indexes. Each shard stands `virtual_nodes` times on a ring of 64-bit hashes (XXH3 of
/// "NAME#I"); a bucket (XXH3 of "bucket:B") belongs to the next one clockwise. Adding or removing one of n shards moves
/// about 1/n of the buckets. Names place, addresses do not.
[[nodiscard]] std::vector<std::uint32_t> place_on_circle(std::span<const std::string> shards,
                                                         std::uint32_t virtual_nodes, std::uint32_t buckets);

}  // namespace visitd
