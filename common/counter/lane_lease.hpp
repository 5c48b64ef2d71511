// Who owns a lane: the process that holds the lock of the lane's file. The ring knows which file that was when it was
// made. If the owner ends, the kernel frees the lock.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/os/file_lease.hpp"
#include "common/os/runtime_directory.hpp"
#include "common/shm/ring.hpp"

namespace visitd {

/// One lane of a ring, owned until it goes.
class LaneLease {
 public:
  /// Takes the first free lane that is not closed. nullopt: no lane is free.
  [[nodiscard]] static std::optional<LaneLease> take(const Ring& ring, const RuntimeDirectory& directory);

  [[nodiscard]] std::uint32_t lane() const noexcept { return lane_; }
  /// Why another process could take this lane too; empty: it cannot.
  [[nodiscard]] std::string why_lost() const;

 private:
  LaneLease(FileLease lock, std::uint32_t lane) noexcept : lock_(std::move(lock)), lane_(lane) {}
  FileLease lock_;
  std::uint32_t lane_;
};

/// Watches who owns the lanes of a ring, which outlives it.
class LaneOwners {
 public:
  LaneOwners(const Ring& ring, const RuntimeDirectory& directory);

  /// Somebody may add to the lane: it is not closed, and its lock is held or out of reach.
  [[nodiscard]] bool is_owned(std::uint32_t lane) const;
  /// Nobody can add to the ring any more: no lane is owned, or nobody but this process has the ring attached.
  [[nodiscard]] bool is_deserted() const;

 private:
  const Ring& ring_;
  std::vector<LockWatch> locks_;
};

/// Every lane's lock file is the one with which the ring was made: no lane can have two owners.
[[nodiscard]] bool is_locked_as_made(const Ring& ring, const RuntimeDirectory& directory);

/// Every lane was closed by its owner: the ring is for nobody any more.
[[nodiscard]] bool is_closed(const Ring& ring) noexcept;

}  // namespace visitd
