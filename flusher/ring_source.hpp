// Which ring the flusher drains: the oldest that is not finished, by the spool's notes and the runtime directory's.
#pragma once

#include <optional>
#include <vector>

#include "common/os/file_lease.hpp"
#include "common/os/runtime_directory.hpp"
#include "common/shm/ring.hpp"
#include "flusher/counting/spool_state.hpp"

namespace visitd {

/// The ring to drain now, attached read-only; nullopt: there is none yet. `gone`: notes of the spool whose ring no
/// longer exists, with what had been taken from it. Throws Error where a ring is of another version.
[[nodiscard]] std::optional<Ring> find_ring(const RuntimeDirectory& directory, const SpoolState& spool,
                                            std::vector<RingNote>& gone);

/// Tells when a ring can be left for the next one.
class RingLeaving {
 public:
  RingLeaving(const Ring& ring, const RuntimeDirectory& directory);
  /// The ring was removed, or another one is in use: nobody new comes to it.
  [[nodiscard]] bool must_leave() const;
  /// Nobody can add to it any more: every lane is closed or without an owner, or nobody but this process has it
  /// attached.
  [[nodiscard]] bool is_deserted() const;

 private:
  const Ring& ring_;
  const RuntimeDirectory& directory_;
  std::vector<LockWatch> owners_;
};

}  // namespace visitd
