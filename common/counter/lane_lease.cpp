#include "common/counter/lane_lease.hpp"

#include <fmt/format.h>

#include <chrono>
#include <thread>

namespace visitd {

namespace {

// A look at a lane's lock by another process holds it for an instant: a lane that seems taken is tried again.
constexpr int lane_rounds = 20;
constexpr std::chrono::milliseconds lane_round_pause{10};

}  // namespace

std::optional<LaneLease> LaneLease::take(const Ring& ring, const RuntimeDirectory& directory) {
  for (int round = 0; round < lane_rounds; ++round) {
    if (round > 0) std::this_thread::sleep_for(lane_round_pause);
    for (std::uint32_t n = 0; n < ring.shape().lanes; ++n) {
      if (ring.lane_state(n) == LaneState::closed) continue;
      auto lock = FileLease::try_take(directory.lane_lock(n));
      if (lock && lock->identity() == ring.lane_lock(n)) return LaneLease(std::move(*lock), n);
    }
  }
  return std::nullopt;
}

std::string LaneLease::why_lost() const {
  return lock_.still_named() ? "" : fmt::format("the lock file {} was replaced or removed", lock_.path());
}

LaneOwners::LaneOwners(const Ring& ring, const RuntimeDirectory& directory) : ring_(ring) {
  for (std::uint32_t n = 0; n < ring.shape().lanes; ++n) locks_.emplace_back(directory.lane_lock(n), ring.lane_lock(n));
}

bool LaneOwners::is_owned(std::uint32_t lane) const {
  return ring_.lane_state(lane) != LaneState::closed && !locks_[lane].is_free();
}

bool LaneOwners::is_deserted() const {
  if (ring_.segment().status().attached == 1) return true;
  for (std::uint32_t n = 0; n < ring_.shape().lanes; ++n) {
    if (is_owned(n)) return false;
  }
  return true;
}

bool is_locked_as_made(const Ring& ring, const RuntimeDirectory& directory) {
  for (std::uint32_t n = 0; n < ring.shape().lanes; ++n) {
    if (file_identity(directory.lane_lock(n)) != ring.lane_lock(n)) return false;
  }
  return true;
}

bool is_closed(const Ring& ring) noexcept {
  for (std::uint32_t n = 0; n < ring.shape().lanes; ++n) {
    if (ring.lane_state(n) != LaneState::closed) return false;
  }
  return true;
}

}  // namespace visitd
