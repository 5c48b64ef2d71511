#include "common/counter/ring_membership.hpp"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "common/counter/heartbeat.hpp"
#include "common/os/clock.hpp"
#include "common/os/errors.hpp"
#include "common/os/held_locks.hpp"
#include "common/os/invariant.hpp"
#include "common/os/log.hpp"
#include "common/os/other_owner.hpp"

namespace visitd {

namespace {

using std::chrono::milliseconds;

// A look at a lane's lock by another process holds it for an instant: a lane that seems taken is tried again.
constexpr int lane_rounds = 20;
constexpr milliseconds lane_round_pause{10};
constexpr milliseconds leaving_pause{20};
constexpr milliseconds prepare_pause{20};
constexpr int flusher_pauses = 75;
constexpr int leaving_pauses_a_line = 250;

std::uint64_t tail_of(const Ring& ring, std::uint32_t lane) {
  return ring.lane(lane).tail.word.load(std::memory_order_acquire);
}

/// `cache`: of this version (Cache) or of any (CacheFront).
template <typename AnyCache>
bool serves(const AnyCache& cache, const Ring& ring) noexcept {
  return cache.ring_id() == ring.id() && cache.header().retired.word.load(std::memory_order_acquire) == 0;
}

std::optional<Cache> cache_of(const Ring& ring, const RuntimeDirectory& directory) {
  const auto note = directory.cache();
  if (!note) return std::nullopt;
  auto attached = Cache::attach(*note, SharedSegment::Access::read_only);
  auto* cache = std::get_if<Cache>(&attached);
  const bool fits = cache != nullptr && cache->shape().lanes == ring.shape().lanes && serves(*cache, ring);
  return fits ? std::optional(std::move(*cache)) : std::nullopt;
}

/// The same of a cache of any version.
std::optional<CacheFront> cache_front_of(const Ring& ring, const RuntimeDirectory& directory) {
  const auto note = directory.cache();
  auto front = note ? CacheFront::attach(*note, SharedSegment::Access::read_only) : std::nullopt;
  return front && serves(*front, ring) ? std::move(front) : std::nullopt;
}

/// Every lane is in the spool up to its tail.
bool is_drained(const Ring& ring, const std::optional<CacheFront>& cache) {
  for (std::uint32_t n = 0; n < ring.shape().lanes; ++n) {
    const std::uint64_t head = cache ? at_index(cache->header().head, n).word.load(std::memory_order_acquire) : 0;
    if (tail_of(ring, n) != head) return false;
  }
  return true;
}

bool is_locked_as_made(const Ring& ring, const RuntimeDirectory& directory) {
  for (std::uint32_t n = 0; n < ring.shape().lanes; ++n) {
    if (file_identity(directory.lane_lock(n)) != ring.lane_lock(n)) return false;
  }
  return true;
}

}  // namespace

RingMembership::RingMembership(const Settings& settings, Task task, const RingPatience& patience)
    : directory_(settings.paths.runtime_directory), task_(task), patience_(patience) {
  if (task_ != Task::join) directory_.ensure();
  for (milliseconds waited{0}; !open_ring(settings); waited += prepare_pause) {
    if (waited >= patience_.prepare) {
      throw error(
          "{} names no ring that can be used, and this frontend makes none (--prepared): run visit-frontend --prepare "
          "as its user; under systemd, visitd-ring.service does",
          directory_.path());
    }
    std::this_thread::sleep_for(prepare_pause);
  }
}

RingMembership::RingMembership(const Settings& settings, RingMaker maker, const RingPatience& patience)
    : RingMembership(settings, maker == RingMaker::prepared ? Task::join : Task::make_and_join, patience) {
  lane_header().about.owner.store(static_cast<std::uint64_t>(getpid()), std::memory_order_release);
  lane_header().about.owners.store(lane_header().about.owners.load(std::memory_order_relaxed) + 1,
                                   std::memory_order_release);
  lane_header().about.state.store(static_cast<std::uint64_t>(LaneState::open), std::memory_order_release);
  Heartbeat::beat(lane_header().about.heartbeat_ns, monotonic_ns());
  records_.emplace(lane_header().tail.word, ring_->records(lane_), nullptr, &lane_header().about.freed);
  requests_.emplace(lane_header().requests_tail.word, ring_->requests(lane_), nullptr);
  own_bell_ = Doorbell::open(directory_.lane_bell(lane_));
  flusher_bell_ = Doorbell::open(directory_.flusher_bell());
  follow_cache();
}

RingMembership::~RingMembership() {
  if (records_) records_->look_at_head();  // the last note of what is freed, for a flusher that loses spool and cache
}

void prepare_ring(const Settings& settings) {
  refuse_root_where_another_owns(RuntimeDirectory(settings.paths.runtime_directory).ring_lock());
  const RingMembership made(settings, RingMembership::Task::make, {.prepare = milliseconds{0}});
  // Only to be made; whoever rings or listens opens it again.
  for (std::uint32_t n = 0; n < made.ring().shape().lanes; ++n)
    static_cast<void>(Doorbell::open(made.directory_.lane_bell(n)));
  static_cast<void>(Doorbell::open(made.directory_.flusher_bell()));
}

bool RingMembership::open_ring(const Settings& settings) {
  if (task_ == Task::join && !file_identity(directory_.ring_lock())) return false;
  const RingShape wanted{settings.ring.lanes, settings.ring.lane_bytes, settings.pages.page_id_limit_bytes};
  const auto making = FileLease::take(directory_.ring_lock(), patience_.make);
  if (!making) {
    throw error(
        "{} has held the lock {} for {} s, and only who holds it may make or leave a ring: look at what that process "
        "waits for, or end it; then start this one again",
        lock_holder(directory_.ring_lock()), directory_.ring_lock(), patience_.make.count() / 1000);
  }
  std::vector<SegmentNote> notes = directory_.rings();
  if (!notes.empty()) {
    auto attached = Ring::attach(notes.back(), SharedSegment::Access::read_write, Layouts::readable);
    if (auto* ring = std::get_if<Ring>(&attached)) {
      if (use_ring(std::move(*ring), wanted)) return true;
    } else if (const AttachFault fault = std::get<AttachFault>(attached); fault == AttachFault::other_version) {
      throw error(
          "ring segment {}: {}, whose records this one cannot read; run that version until its flusher has drained the "
          "ring, then remove it (ipcrm -m {})",
          notes.back().segment, describe(fault), notes.back().segment);
    } else if (fault != AttachFault::gone && task_ != Task::join) {
      log::warning("ring segment {}: {}; making another one", notes.back().segment, describe(fault));
    }
  }
  if (task_ == Task::join) return false;
  make_ring(wanted, std::move(notes));
  if (task_ != Task::make && !take_lane()) throw error("{}: no lane of a new ring can be taken", directory_.path());
  return true;
}

bool RingMembership::use_ring(Ring ring, const RingShape& wanted) {
  if (ring.segment().status().removed) {
    if (task_ != Task::join) log::info("ring segment {} was removed; making another one", ring.note().segment);
    return false;
  }
  if (!is_locked_as_made(ring, directory_)) {
    if (task_ != Task::join)
      log::warning("{}: the lock files are others than those of ring segment {}; making another ring",
                   directory_.path(), ring.note().segment);
    return false;
  }
  const bool own_layout = ring.has_own_layout();
  if (task_ != Task::join && (ring.shape() != wanted || !own_layout) && replace_ring(ring, wanted)) return false;
  if (!own_layout) {
    if (task_ == Task::join) return false;  // --prepare replaces it
    throw error(
        "ring segment {} was made by another version of visitd and holds visits that no flusher has taken yet: "
        "start the flusher, of either version",
        ring.note().segment);
  }
  ring_ = std::move(ring);
  if (task_ != Task::make && take_lane()) return true;
  bool all_closed = true;
  for (std::uint32_t n = 0; n < ring_->shape().lanes; ++n) all_closed &= ring_->lane_state(n) == LaneState::closed;
  if (all_closed) return false;
  if (task_ == Task::make) return true;  // whether a lane is free is for each frontend to see
  std::string holders;
  for (std::uint32_t n = 0; n < ring_->shape().lanes; ++n) {
    holders += fmt::format("\n  lane {}: {}", n,
                           ring_->lane_state(n) == LaneState::closed ? "closed" : lock_holder(directory_.lane_lock(n)));
  }
  throw error("all {} lanes of the ring are taken: start fewer frontends, or raise ring.lanes and restart them{}",
              ring_->shape().lanes, holders);
}

/// True: the ring of other settings or another layout holds nothing that could be lost, is marked removed, and may be
/// forgotten.
bool RingMembership::replace_ring(Ring& ring, const RingShape& wanted) {
  const auto describe_shape = [](const RingShape& shape) {
    return fmt::format("{} lanes of {} bytes, page ids up to {} bytes", shape.lanes, shape.lane_bytes,
                       shape.page_id_limit);
  };
  const std::string why = ring.has_own_layout() ? "the settings want" : "this version wants";
  std::optional<CacheFront> cache = cache_front_of(ring, directory_);
  const auto flusher_identity = file_identity(directory_.flusher_lock());
  const auto follow_flusher = [&] {
    // A flusher of another version makes a cache of its own, and does not retire the one that was there.
    if (cache && directory_.cache() == cache->note()) return;
    if (auto next = cache_front_of(ring, directory_)) cache = std::move(next);
  };
  const auto flusher_lives = [&] {
    follow_flusher();
    return cache && flusher_identity && !LockWatch(directory_.flusher_lock(), *flusher_identity).is_free() &&
           Heartbeat(cache->header().heartbeat_ns.word).is_within(recent_heartbeat_ms, monotonic_ms());
  };
  // One that is just being restarted is waited for.
  for (int pauses = 0; !is_drained(ring, cache) && !flusher_lives(); ++pauses) {
    if (pauses == flusher_pauses) {
      log::warning(
          "{} a ring of {}; the one in use ({}) holds visits that no flusher has taken yet, so it stays "
          "in use: start the flusher, then restart the frontends",
          why, describe_shape(wanted), describe_shape(ring.shape()));
      return false;
    }
    std::this_thread::sleep_for(leaving_pause);
  }
  log::info("{} a ring of {}: leaving the one of {}", why, describe_shape(wanted), describe_shape(ring.shape()));
  // It lives on while somebody has it attached: its frontends until they are drained, and we until all of it is.
  ring.segment().remove();
  std::vector<LockWatch> owners;
  owners.reserve(ring.shape().lanes);
  for (std::uint32_t n = 0; n < ring.shape().lanes; ++n)
    owners.emplace_back(directory_.lane_lock(n), ring.lane_lock(n));
  const auto is_left = [&] {
    for (std::uint32_t n = 0; n < ring.shape().lanes; ++n) {
      if (ring.lane_state(n) == LaneState::open && !owners[n].is_free()) return false;
    }
    return is_drained(ring, cache);
  };
  for (int pauses = 1; !is_left(); ++pauses) {
    if (pauses * leaving_pause > patience_.leave) throw error("{}", why_not_left(ring, cache));
    std::this_thread::sleep_for(leaving_pause);
    follow_flusher();
    if (pauses % leaving_pauses_a_line == 0)
      log::info("waiting until the flusher has drained the ring of the former settings");
  }
  return true;
}

std::string RingMembership::why_not_left(const Ring& ring, const std::optional<CacheFront>& cache) const {
  std::string lanes;
  for (std::uint32_t n = 0; n < ring.shape().lanes; ++n) {
    const std::uint64_t head = cache ? value_of(at_index(cache->header().head, n).word) : 0;
    const std::uint64_t tail = tail_of(ring, n);
    const bool owned =
        ring.lane_state(n) == LaneState::open && !LockWatch(directory_.lane_lock(n), ring.lane_lock(n)).is_free();
    if (owned) lanes += fmt::format("\n  lane {} is still used by {}", n, lock_holder(directory_.lane_lock(n)));
    if (head != tail)
      lanes += fmt::format("\n  lane {} holds {} bytes that the flusher has not made durable", n, tail - head);
  }
  return fmt::format(
      "ring segment {}, of former settings, was not left within {} s; see that the flusher runs and its disk is not "
      "full. Nothing in it is lost: the flusher takes it before the ring that the next start makes{}",
      ring.note().segment, patience_.leave.count() / 1000, lanes);
}

void RingMembership::make_ring(const RingShape& shape, std::vector<SegmentNote> notes) {
  std::vector<FileIdentity> locks;
  locks.reserve(shape.lanes);
  for (std::uint32_t n = 0; n < shape.lanes; ++n) locks.push_back(ensure_lock_file(directory_.lane_lock(n)));
  // Also those that the runtime directory does not name, because it was made anew: the flusher drains them first.
  for (const SegmentNote& found : rings_of(instance_of(directory_))) {
    if (std::ranges::find(notes, found) == notes.end()) notes.push_back(found);
  }
  std::erase_if(notes, [](const SegmentNote& note) { return !segment_status(note.segment); });
  for (const SegmentNote& note : notes) {
    auto former = Ring::attach(note, SharedSegment::Access::read_write, Layouts::readable);
    if (auto* ring = std::get_if<Ring>(&former)) ring->supersede();
  }
  ring_ = Ring::make(shape, locks, instance_of(directory_));
  ring_->note_directory(directory_);
  notes.push_back(ring_->note());
  try {
    directory_.note_rings(notes);
  } catch (...) {
    ring_->segment().remove();  // nobody will ever find it
    throw;
  }
  log::info("made ring segment {}: {} lanes of {} bytes", ring_->note().segment, shape.lanes, shape.lane_bytes);
}

bool RingMembership::take_lane() {
  for (int round = 0; round < lane_rounds; ++round) {
    if (round > 0) std::this_thread::sleep_for(lane_round_pause);
    for (std::uint32_t n = 0; n < ring_->shape().lanes; ++n) {
      if (ring_->lane_state(n) == LaneState::closed) continue;
      auto lease = FileLease::try_take(directory_.lane_lock(n));
      if (!lease || lease->identity() != ring_->lane_lock(n)) continue;
      lease_ = std::move(lease);
      lane_ = n;
      return true;
    }
  }
  return false;
}

void RingMembership::follow_cache() {
  const auto note = directory_.cache();
  const bool is_current =
      cache_ && note && cache_->note() == *note && cache_->header().retired.word.load(std::memory_order_acquire) == 0;
  if (is_current) return;
  auto next = cache_of(*ring_, directory_);
  if (!next) return;  // the former one, where there is one, stays: what it says stays right until it is retired
  if (!cache_) remove_former_rings();
  cache_ = std::move(next);
  ++cache_changes_;
  records_->attach_head(&at_index(cache_->header().head, lane_).word);
  requests_->attach_head(&at_index(cache_->header().requests_read, lane_));
}

/// A flusher serves this ring, so it has drained all that came before.
void RingMembership::remove_former_rings() {
  for (const SegmentNote& note : directory_.rings()) {
    if (note == ring_->note()) return;
    auto former = Ring::attach(note, SharedSegment::Access::read_write, Layouts::readable);
    if (auto* ring = std::get_if<Ring>(&former)) ring->segment().remove();
  }
}

std::string RingMembership::check() {
  Heartbeat::beat(lane_header().about.heartbeat_ns, monotonic_ns());
  follow_cache();
  records_->look_at_head();
  ring_->release_free_memory(lane_, records_->head(), records_->tail());
  if (ring_->segment().status().removed) return fmt::format("ring segment {} was removed", ring_->note().segment);
  if (!lease_->still_named()) return fmt::format("the lock file {} was replaced or removed", lease_->path());
  return {};
}

void RingMembership::close_lane() noexcept {
  lane_header().about.state.store(static_cast<std::uint64_t>(LaneState::closed), std::memory_order_release);
}

bool RingMembership::is_durable() const noexcept {
  return cache_ && at_index(cache_->header().head, lane_).word.load(std::memory_order_acquire) == records_->tail();
}

}  // namespace visitd
