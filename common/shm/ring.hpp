// The ring segment, typed: made by a frontend, attached by everybody.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "common/os/file_lease.hpp"
#include "common/os/invariant.hpp"
#include "common/os/runtime_directory.hpp"
#include "common/shm/ring_layout.hpp"
#include "common/shm/shared_segment.hpp"
#include "common/shm/text_slot.hpp"

namespace visitd {

/// Why a segment is not the ring (or cache) that was looked for.
enum class AttachFault {
  gone,           ///< there is no such segment
  not_ready,      ///< its maker has not finished, or died over it
  foreign,        ///< its magic or id is another's: the kernel gave the id to somebody else
  other_version,  ///< made by another version of visitd
  corrupt,        ///< its header contradicts its size
};
[[nodiscard]] std::string_view describe(AttachFault fault) noexcept;

/// Whose segments are taken: of this version's layout alone, or of every layout that this version can read.
enum class Layouts { own, readable };

class Ring {
 public:
  /// A new ring, of which `locks[n]` is the identity of lane n's lock file.
  [[nodiscard]] static Ring make(const RingShape& shape, std::span<const FileIdentity> locks,
                                 std::uint64_t instance = 0);
  /// Checks magic, version, id, shape and where things lie. Of a readable one of another layout lanes, records and
  /// requests are what they seem; a lane's statistics are not.
  [[nodiscard]] static std::variant<Ring, AttachFault> attach(const SegmentNote& note, SharedSegment::Access access,
                                                              Layouts layouts = Layouts::own);

  [[nodiscard]] const RingShape& shape() const noexcept { return shape_; }
  /// False: made by another version, with another layout.
  [[nodiscard]] bool has_own_layout() const noexcept {
    return header().layout_version.load(std::memory_order_acquire) == ring_layout_version;
  }
  [[nodiscard]] std::uint64_t id() const noexcept { return note_.id; }
  [[nodiscard]] const SegmentNote& note() const noexcept { return note_; }
  [[nodiscard]] std::uint64_t hash_seed() const noexcept { return hash_seed_; }
  [[nodiscard]] RingHeader& header() const noexcept { return *reinterpret_cast<RingHeader*>(segment_.data()); }
  [[nodiscard]] LaneHeader& lane(std::uint32_t n) const noexcept {
    return *reinterpret_cast<LaneHeader*>(segment_.data() + places_.lane_headers +
                                          checked(n) * places_.lane_header_bytes);
  }
  [[nodiscard]] LaneState lane_state(std::uint32_t n) const noexcept {
    return static_cast<LaneState>(lane(n).about.state.load(std::memory_order_acquire));
  }
  [[nodiscard]] FileIdentity lane_lock(std::uint32_t n) const noexcept;
  [[nodiscard]] std::span<Word> records(std::uint32_t n) const noexcept {
    return {reinterpret_cast<Word*>(segment_.data() + records_offset(n)), shape_.lane_bytes / 8};
  }
  [[nodiscard]] std::span<Word> requests(std::uint32_t n) const noexcept {
    return {reinterpret_cast<Word*>(segment_.data() + places_.requests + checked(n) * places_.request_bytes),
            places_.request_bytes / 8};
  }
  /// What the owner of lane n asks the flusher for. Only of a ring of this version's layout.
  [[nodiscard]] TextSlot question(std::uint32_t n) const noexcept {
    must_hold(has_own_layout(), "a ring of another layout has no questions");
    return TextSlot(
        {reinterpret_cast<Word*>(segment_.data() + shape_.question_offset(static_cast<std::uint32_t>(checked(n)))),
         question_slot_bytes / 8});
  }
  [[nodiscard]] SharedSegment& segment() noexcept { return segment_; }
  [[nodiscard]] const SharedSegment& segment() const noexcept { return segment_; }

  /// Notes the runtime directory that names this ring, so that people find out what a segment belongs to.
  void note_directory(const RuntimeDirectory& directory) const noexcept;
  /// What was noted; empty: another version made the ring, or nobody noted it.
  [[nodiscard]] std::string noted_directory() const;

  /// There is a newer ring from now on; before its first visit.
  void supersede() noexcept { header().superseded.store(1, std::memory_order_seq_cst); }
  [[nodiscard]] bool is_superseded() const noexcept { return header().superseded.load(std::memory_order_acquire) != 0; }

  /// Gives back the memory of lane n that holds neither a record not yet durable nor one about to be written. The
  /// owner's, now and then.
  void release_free_memory(std::uint32_t n, std::uint64_t head, std::uint64_t tail) const noexcept;

 private:
  /// As the header says.
  struct Places {
    std::uint64_t lane_headers = 0;
    std::uint64_t lane_header_bytes = 0;
    std::uint64_t requests = 0;
    std::uint64_t request_bytes = 0;
    std::uint64_t records = 0;
  };
  Ring(SharedSegment segment, SegmentNote note, const RingShape& shape, const Places& places,
       std::uint64_t hash_seed) noexcept
      : segment_(std::move(segment)), note_(note), shape_(shape), places_(places), hash_seed_(hash_seed) {}
  [[nodiscard]] static bool fit(const Places& places, const RingShape& shape, std::size_t bytes) noexcept;
  /// The lane, which is one of the ring's.
  [[nodiscard]] std::uint64_t checked(std::uint32_t n) const noexcept {
    must_hold(n < shape_.lanes, "a lane is one of the ring's");
    return n;
  }
  [[nodiscard]] std::size_t records_offset(std::uint32_t n) const noexcept {
    return places_.records + checked(n) * shape_.lane_bytes;
  }

  SharedSegment segment_;
  SegmentNote note_;
  RingShape shape_;
  Places places_;
  std::uint64_t hash_seed_;
};

/// Names an instance on this host, so that its rings are found also when the runtime directory was removed: XXH3 of
/// that path.
[[nodiscard]] std::uint64_t instance_of(const RuntimeDirectory& directory) noexcept;

/// The rings of an instance that exist on this host, oldest first, whether the runtime directory names them or not. Of
/// those that this process may attach read-write.
[[nodiscard]] std::vector<SegmentNote> rings_of(std::uint64_t instance);

/// A random 64-bit number that is not 0.
[[nodiscard]] std::uint64_t random_id();

}  // namespace visitd
