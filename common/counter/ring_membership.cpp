#include "common/counter/ring_membership.hpp"

#include <unistd.h>

#include <chrono>
#include <thread>

#include "common/counter/heartbeat.hpp"
#include "common/os/clock.hpp"
#include "common/os/errors.hpp"
#include "common/os/file_lease.hpp"
#include "common/os/held_locks.hpp"
#include "common/os/invariant.hpp"
#include "common/os/log.hpp"
#include "common/os/other_owner.hpp"

namespace visitd {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds prepare_pause{20};

std::optional<Cache> cache_of(const Ring& ring, const RuntimeDirectory& directory) {
  const auto note = directory.cache();
  if (!note) return std::nullopt;
  auto attached = Cache::attach(*note, SharedSegment::Access::read_only);
  auto* cache = std::get_if<Cache>(&attached);
  const bool fits = cache != nullptr && cache->shape().lanes == ring.shape().lanes && serves(*cache, ring);
  return fits ? std::optional(std::move(*cache)) : std::nullopt;
}

}  // namespace

RingMembership::RingMembership(const Settings& settings, Task task, const RingPatience& patience)
    : directory_(settings.paths.runtime_directory), registry_(directory_), task_(task), patience_(patience) {
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
  records_.emplace(lane_header().tail.word, ring_->records(lane()), nullptr, &lane_header().about.freed);
  requests_.emplace(lane_header().requests_tail.word, ring_->requests(lane()), nullptr);
  own_bell_ = Doorbell::open(directory_.lane_bell(lane()));
  flusher_bell_ = Doorbell::open(directory_.flusher_bell());
  follow_cache();
}

RingMembership::~RingMembership() {
  if (records_) records_->look_at_head();  // the last note of what is freed, for a flusher that loses spool and cache
}

void prepare_ring(const Settings& settings) {
  refuse_root_where_another_owns(RuntimeDirectory(settings.paths.runtime_directory).ring_lock());
  const RingMembership made(settings, RingMembership::Task::make, {.prepare = milliseconds{0}});
  // This process only makes the doorbells. The processes that ring or listen open them again.
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
  if (auto found = registry_.newest()) {
    const int segment = directory_.rings().back().segment;
    if (auto* ring = std::get_if<Ring>(&*found)) {
      if (use_ring(std::move(*ring), wanted)) return true;
    } else if (const AttachFault fault = std::get<AttachFault>(*found); fault == AttachFault::other_version) {
      throw error(
          "ring segment {}: {}, whose records this one cannot read; run that version until its flusher has drained the "
          "ring, then remove it (ipcrm -m {})",
          segment, describe(fault), segment);
    } else if (fault != AttachFault::gone && task_ != Task::join) {
      log::warning("ring segment {}: {}; making another one", segment, describe(fault));
    }
  }
  if (task_ == Task::join) return false;
  ring_ = registry_.make(wanted);
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
  if (task_ != Task::join && (ring.shape() != wanted || !own_layout) &&
      registry_.replace(ring, wanted, patience_.leave)) {
    return false;
  }
  if (!own_layout) {
    if (task_ == Task::join) return false;  // --prepare replaces it
    throw error(
        "ring segment {} was made by another version of visitd and holds visits that no flusher has taken yet: "
        "start the flusher, of either version",
        ring.note().segment);
  }
  ring_ = std::move(ring);
  if (task_ != Task::make && take_lane()) return true;
  if (is_closed(*ring_)) return false;
  if (task_ == Task::make) return true;  // whether a lane is free is for each frontend to see
  std::string holders;
  for (std::uint32_t n = 0; n < ring_->shape().lanes; ++n) {
    holders += fmt::format("\n  lane {}: {}", n,
                           ring_->lane_state(n) == LaneState::closed ? "closed" : lock_holder(directory_.lane_lock(n)));
  }
  throw error("all {} lanes of the ring are taken: start fewer frontends, or raise ring.lanes and restart them{}",
              ring_->shape().lanes, holders);
}

bool RingMembership::take_lane() {
  lease_ = LaneLease::take(*ring_, directory_);
  return lease_.has_value();
}

void RingMembership::follow_cache() {
  const auto note = directory_.cache();
  const bool is_current =
      cache_ && note && cache_->note() == *note && cache_->header().retired.word.load(std::memory_order_acquire) == 0;
  if (is_current) return;
  auto next = cache_of(*ring_, directory_);
  if (!next) return;  // the former one, where there is one, stays: what it says stays right until it is retired
  if (!cache_) registry_.remove_former(*ring_);
  cache_ = std::move(next);
  ++cache_changes_;
  records_->attach_head(&at_index(cache_->header().head, lane()).word);
  requests_->attach_head(&at_index(cache_->header().requests_read, lane()));
}

std::string RingMembership::check() {
  Heartbeat::beat(lane_header().about.heartbeat_ns, monotonic_ns());
  follow_cache();
  records_->look_at_head();
  ring_->release_free_memory(lane(), records_->head(), records_->tail());
  if (ring_->segment().status().removed) return fmt::format("ring segment {} was removed", ring_->note().segment);
  return lease_->why_lost();
}

void RingMembership::close_lane() noexcept {
  lane_header().about.state.store(static_cast<std::uint64_t>(LaneState::closed), std::memory_order_release);
}

bool RingMembership::is_durable() const noexcept {
  return cache_ && at_index(cache_->header().head, lane()).word.load(std::memory_order_acquire) == records_->tail();
}

}  // namespace visitd
