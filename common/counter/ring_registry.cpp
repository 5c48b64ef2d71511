#include "common/counter/ring_registry.hpp"

#include <algorithm>
#include <thread>

#include "common/counter/heartbeat.hpp"
#include "common/counter/lane_lease.hpp"
#include "common/os/clock.hpp"
#include "common/os/errors.hpp"
#include "common/os/held_locks.hpp"
#include "common/os/log.hpp"
#include "common/shm/lane.hpp"

namespace visitd {

namespace {

constexpr std::chrono::milliseconds pause{20};
constexpr int pauses_for_flusher = 75;
constexpr int pauses_a_line = 250;

std::uint64_t head_of(const CacheHeader* cache, std::uint32_t lane) noexcept {
  return cache != nullptr ? value_of(at_index(cache->head, lane).word) : 0;
}

std::string describe_shape(const RingShape& shape) {
  return fmt::format("{} lanes of {} bytes, page ids up to {} bytes", shape.lanes, shape.lane_bytes,
                     shape.page_id_limit);
}

}  // namespace

/// The flusher that may drain a ring, and the cache in which it says how far it is.
class RingRegistry::FlusherWatch {
 public:
  FlusherWatch(const Ring& ring, const RuntimeDirectory& directory)
      : ring_(ring), directory_(directory), lock_(file_identity(directory.flusher_lock())) {
    look();
  }
  [[nodiscard]] bool runs() {
    look();
    if (!cache_ || !lock_) return false;
    const bool holds_lock = !LockWatch(directory_.flusher_lock(), *lock_).is_free();
    const Heartbeat heartbeat(cache_->header().heartbeat_ns.word);
    return presence_of(holds_lock, false, heartbeat.is_within(recent_heartbeat_ms, monotonic_ms())) ==
           Presence::running;
  }
  /// A flusher of another version makes a cache of its own, and does not retire the one that was there.
  void look() {
    const auto note = directory_.cache();
    if (cache_ && note == cache_->note()) return;
    auto next = note ? CacheFront::attach(*note, SharedSegment::Access::read_only) : std::nullopt;
    if (next && serves(*next, ring_)) cache_ = std::move(next);
  }
  [[nodiscard]] const CacheHeader* cache() const noexcept { return cache_ ? &cache_->header() : nullptr; }

 private:
  const Ring& ring_;
  const RuntimeDirectory& directory_;
  std::optional<FileIdentity> lock_;
  std::optional<CacheFront> cache_;
};

std::optional<std::variant<Ring, AttachFault>> RingRegistry::newest() const {
  const std::vector<SegmentNote> notes = directory_.rings();
  if (notes.empty()) return std::nullopt;
  return Ring::attach(notes.back(), SharedSegment::Access::read_write, Layouts::readable);
}

bool RingRegistry::is_former(const Ring& ring) const {
  if (ring.segment().status().removed) return true;
  const std::vector<SegmentNote> notes = directory_.rings();
  return !notes.empty() && notes.back() != ring.note();
}

Ring RingRegistry::make(const RingShape& shape) const {
  std::vector<FileIdentity> locks;
  locks.reserve(shape.lanes);
  for (std::uint32_t n = 0; n < shape.lanes; ++n) locks.push_back(ensure_lock_file(directory_.lane_lock(n)));
  std::vector<SegmentNote> notes = directory_.rings();
  // If somebody made the runtime directory anew, it does not name the former rings. This loop names them again, so that
  // the flusher drains them first.
  for (const SegmentNote& found : rings_of(instance_of(directory_))) {
    if (std::ranges::find(notes, found) == notes.end()) notes.push_back(found);
  }
  std::erase_if(notes, [](const SegmentNote& note) { return !segment_status(note.segment); });
  for (const SegmentNote& note : notes) {
    auto former = Ring::attach(note, SharedSegment::Access::read_write, Layouts::readable);
    if (auto* ring = std::get_if<Ring>(&former)) ring->supersede();
  }
  Ring made = Ring::make(shape, locks, instance_of(directory_));
  made.note_directory(directory_);
  notes.push_back(made.note());
  try {
    directory_.note_rings(notes);
  } catch (...) {
    made.segment().remove();  // nobody will ever find it
    throw;
  }
  log::info("made ring segment {}: {} lanes of {} bytes", made.note().segment, shape.lanes, shape.lane_bytes);
  return made;
}

bool RingRegistry::replace(Ring& ring, const RingShape& wanted, std::chrono::milliseconds patience) const {
  const std::string why = ring.has_own_layout() ? "the settings want" : "this version wants";
  FlusherWatch flusher(ring, directory_);
  for (int pauses = 0;; ++pauses) {
    const bool drained = is_drained(ring, flusher.cache());
    const Replacement decision = decide_replacement(drained, !drained && flusher.runs(), pauses == pauses_for_flusher);
    if (decision == Replacement::leave) break;
    if (decision == Replacement::keep) {
      log::warning(
          "{} a ring of {}; the one in use ({}) holds visits that no flusher has taken yet, so it stays "
          "in use: start the flusher, then restart the frontends",
          why, describe_shape(wanted), describe_shape(ring.shape()));
      return false;
    }
    std::this_thread::sleep_for(pause);
  }
  log::info("{} a ring of {}: leaving the one of {}", why, describe_shape(wanted), describe_shape(ring.shape()));
  // It lives on while somebody has it attached: its frontends until they are drained, and we until all of it is.
  ring.segment().remove();
  const LaneOwners owners(ring, directory_);
  for (int pauses = 1; !owners.is_deserted() || !is_drained(ring, flusher.cache()); ++pauses) {
    if (pauses * pause > patience) throw error("{}", why_not_left(ring, flusher.cache(), patience));
    std::this_thread::sleep_for(pause);
    flusher.look();
    if (pauses % pauses_a_line == 0) log::info("waiting until the flusher has drained the ring of the former settings");
  }
  return true;
}

std::string RingRegistry::why_not_left(const Ring& ring, const CacheHeader* cache,
                                       std::chrono::milliseconds patience) const {
  const LaneOwners owners(ring, directory_);
  std::string lanes;
  for (std::uint32_t n = 0; n < ring.shape().lanes; ++n) {
    const std::uint64_t head = head_of(cache, n);
    const std::uint64_t tail = value_of(ring.lane(n).tail.word);
    if (owners.is_owned(n))
      lanes += fmt::format("\n  lane {} is still used by {}", n, lock_holder(directory_.lane_lock(n)));
    if (head != tail)
      lanes += fmt::format("\n  lane {} holds {} bytes that the flusher has not made durable", n, tail - head);
  }
  return fmt::format(
      "ring segment {}, of former settings, was not left within {} s; see that the flusher runs and its disk is not "
      "full. Nothing in it is lost: the flusher takes it before the ring that the next start makes{}",
      ring.note().segment, patience.count() / 1000, lanes);
}

void RingRegistry::remove_former(const Ring& ring) const {
  for (const SegmentNote& note : directory_.rings()) {
    if (note == ring.note()) return;
    auto former = Ring::attach(note, SharedSegment::Access::read_write, Layouts::readable);
    if (auto* found = std::get_if<Ring>(&former)) found->segment().remove();
  }
}

std::uint64_t freed_of(const Ring& ring, std::uint32_t n) noexcept {
  const LaneHeader& lane = ring.lane(n);
  const std::uint64_t freed = value_of(lane.about.freed);  // before the tail, which only grows
  return LaneProducer::known_freed(freed, value_of(lane.tail.word), ring.shape().lane_bytes);
}

bool is_drained(const Ring& ring, const CacheHeader* cache) noexcept {
  for (std::uint32_t n = 0; n < ring.shape().lanes; ++n) {
    if (value_of(ring.lane(n).tail.word) != head_of(cache, n)) return false;
  }
  return true;
}

std::uint64_t undurable_bytes(const Ring& ring, std::span<const CacheFront> caches) noexcept {
  std::uint64_t bytes = 0;
  for (std::uint32_t n = 0; n < ring.shape().lanes; ++n) {
    std::uint64_t durable = freed_of(ring, n);
    for (const CacheFront& cache : caches) {
      if (cache.ring_id() == ring.id()) durable = std::max(durable, head_of(&cache.header(), n));
    }
    const std::uint64_t tail = value_of(ring.lane(n).tail.word);
    if (tail > durable) bytes += tail - durable;
  }
  return bytes;
}

}  // namespace visitd
