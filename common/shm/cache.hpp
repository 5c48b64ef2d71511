// The cache segment, typed: made by the flusher, attached by everybody.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/os/invariant.hpp"
#include "common/shm/cache_layout.hpp"
#include "common/shm/ring.hpp"
#include "common/shm/text_slot.hpp"
#include "common/shm/view.hpp"

namespace visitd {

class Cache {
 public:
  /// A new cache of a ring; no view is shown yet.
  [[nodiscard]] static Cache make(const CacheShape& shape, std::uint64_t ring_id);
  /// Checks magic, version, id and shape.
  [[nodiscard]] static std::variant<Cache, AttachFault> attach(const SegmentNote& note, SharedSegment::Access access);

  [[nodiscard]] const CacheShape& shape() const noexcept { return shape_; }
  [[nodiscard]] std::uint64_t id() const noexcept { return note_.id; }
  [[nodiscard]] const SegmentNote& note() const noexcept { return note_; }
  [[nodiscard]] std::uint64_t ring_id() const noexcept { return header().ring_id.load(std::memory_order_acquire); }
  [[nodiscard]] CacheHeader& header() const noexcept { return *reinterpret_cast<CacheHeader*>(segment_.data()); }
  [[nodiscard]] ViewMemory view(std::uint64_t which) const noexcept {
    return {shape_, segment_.data() + shape_.view_offset(which & 1U)};
  }
  [[nodiscard]] std::array<ViewMemory, 2> views() const noexcept { return {view(0), view(1)}; }
  /// The shard on which a bucket is placed.
  [[nodiscard]] Word& shard_of_bucket(std::uint32_t bucket) const noexcept {
    must_hold(bucket < shape_.buckets, "a bucket is one of the cache's");
    return reinterpret_cast<Word*>(segment_.data() + shape_.buckets_offset())[bucket];
  }
  /// What the flusher answers to the question of lane n.
  [[nodiscard]] TextSlot answer(std::uint32_t n) const noexcept {
    must_hold(n < shape_.lanes, "a lane is one of the cache's");
    return TextSlot({reinterpret_cast<Word*>(segment_.data() + shape_.answer_offset(n)), answer_slot_bytes / 8});
  }
  [[nodiscard]] SharedSegment& segment() noexcept { return segment_; }
  [[nodiscard]] const SharedSegment& segment() const noexcept { return segment_; }

 private:
  Cache(SharedSegment segment, SegmentNote note, const CacheShape& shape) noexcept
      : segment_(std::move(segment)), note_(note), shape_(shape) {}

  SharedSegment segment_;
  SegmentNote note_;
  CacheShape shape_;
};

/// What can be said of a cache of any version: which ring it serves, and up to where that ring's lanes are durable.
class CacheFront {
 public:
  /// nullopt: there is none, or what is there is no cache.
  [[nodiscard]] static std::optional<CacheFront> attach(const SegmentNote& note, SharedSegment::Access access);

  /// Only what all versions share of it.
  [[nodiscard]] CacheHeader& header() const noexcept { return *reinterpret_cast<CacheHeader*>(segment_.data()); }
  [[nodiscard]] std::uint64_t ring_id() const noexcept { return header().ring_id.load(std::memory_order_acquire); }
  [[nodiscard]] const SegmentNote& note() const noexcept { return note_; }
  [[nodiscard]] SharedSegment& segment() noexcept { return segment_; }

 private:
  CacheFront(SharedSegment segment, SegmentNote note) noexcept : segment_(std::move(segment)), note_(note) {}
  SharedSegment segment_;
  SegmentNote note_;
};

/// The caches of a ring that exist on this host, of any version, whether the runtime directory names them or not: also
/// removed ones that somebody still has attached. Of those that this process' user made.
[[nodiscard]] std::vector<CacheFront> caches_of(std::uint64_t ring_id);

/// Bytes of lane n that the spool does not hold yet. `cache`: nullptr while there is none.
[[nodiscard]] inline std::uint64_t uncommitted_bytes(const Ring& ring, const Cache* cache, std::uint32_t n) noexcept {
  const std::uint64_t head = cache != nullptr ? value_of(at_index(cache->header().head, n).word) : 0;
  const std::uint64_t tail = value_of(ring.lane(n).tail.word);
  return tail > head ? tail - head : 0;
}

/// Sets a shard's state and why, cut with "…" where there is no room for all of it; only the flusher.
void set_shard_state(ShardSlot& slot, ShardState state, std::string_view why) noexcept;
/// Why a shard is in its state; empty while it is just being written.
[[nodiscard]] std::string shard_reason(const ShardSlot& slot);
[[nodiscard]] std::string_view name_of(ShardState state) noexcept;

}  // namespace visitd
