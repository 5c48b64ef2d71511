// Which of the kept batches go first: the oldest, once they were kept for their time and, if replicas are waited for,
// replicas have them; those of a bucket that moves, once it was kept for its time after the move; sooner if there is no
// room.
// Decides; knows no clock, loop, socket or file.
//
// Batches are confirmed a shard at a time: each has a number, and what a shard confirms is all up to a number.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include "flusher/counting/placement.hpp"

namespace visitd {

struct KeptLimits {
  std::uint64_t keep_s = 0;
  std::uint64_t bytes = 0;
};

class KeptOrder {
 public:
  struct Entry {
    std::uint32_t bucket = 0;
    std::uint32_t bytes = 0;
    std::uint64_t seq = 0;
    std::uint64_t answered_at = 0;  ///< Unix seconds
    std::uint64_t number = 0;       ///< given by add()
  };

  explicit KeptOrder(const Placement& placement) : placement_(placement), shards_(placement.shards()) {}

  /// The newest of all. Those of one bucket come in the order of their seq.
  void add(Entry entry);
  /// From the spool, by bucket, then seq: before any add().
  void recover(Entry entry);
  /// After the last of them. They are kept for their full time from `unix_now` on.
  void recovered(std::uint64_t unix_now);
  /// There are other shards, or other buckets move: what is kept is kept for its full time from `unix_now` on.
  void keep_anew(std::uint64_t unix_now) noexcept;
  /// So many shards: the last ones come, or go. None of their buckets is on those that go.
  void set_shards(std::size_t count) { shards_.resize(count); }
  /// What need not be kept any more, the oldest first within each bucket.
  [[nodiscard]] std::vector<Entry> forget_old(const KeptLimits& limits, std::uint64_t unix_now);

  // -- replicas

  /// Whether a shard's batches are kept until they are confirmed.
  void set_waits(std::uint32_t shard, bool waits) noexcept;
  /// Whether the shard has batches that are not confirmed; also where nobody waits for that.
  [[nodiscard]] bool any_unconfirmed(std::uint32_t shard) const noexcept {
    return shards_[shard].newest > shards_[shard].confirmed;
  }
  /// The number of the newest batch: what the shard is asked for now can confirm all up to it.
  [[nodiscard]] std::uint64_t newest() const noexcept { return last_; }
  void confirm(std::uint32_t shard, std::uint64_t up_to) noexcept;
  /// What the shard has said holds no more: it may be another server, or have other buckets.
  void unconfirm(std::uint32_t shard) noexcept;

  [[nodiscard]] std::size_t size() const noexcept { return order_.size(); }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }
  /// How many were kept for their time, and wait for replicas, or for the end of a move.
  [[nodiscard]] std::size_t overdue() const noexcept { return overdue_; }
  /// How many of the shard's went for want of room before they were confirmed.
  [[nodiscard]] std::uint64_t dropped(std::uint32_t shard) const noexcept { return shards_[shard].dropped; }
  [[nodiscard]] std::uint64_t dropped() const noexcept;

 private:
  struct Shard {
    bool waits = false;
    std::uint64_t newest = 0;  ///< number of its newest batch; 0: none
    std::uint64_t confirmed = 0;
    std::uint64_t dropped = 0;
  };

  [[nodiscard]] bool waits(const Entry& entry) const noexcept;

  const Placement& placement_;
  std::vector<Shard> shards_;
  std::deque<Entry> order_;  ///< oldest first
  std::size_t overdue_ = 0;  ///< so many of the first ones were looked at: they wait
  std::uint64_t last_ = 0;   ///< number of the newest
  std::uint64_t bytes_ = 0;
};

}  // namespace visitd
