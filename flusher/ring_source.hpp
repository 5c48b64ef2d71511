// Which ring the flusher drains: the oldest that is not finished, by the spool's notes and the runtime directory's.
#pragma once

#include <optional>
#include <vector>

#include "common/os/runtime_directory.hpp"
#include "common/shm/ring.hpp"
#include "flusher/counting/spool_state.hpp"

namespace visitd {

/// The order in which rings are drained: those that the spool has taken from and not finished, then the others of the
/// runtime directory's notes, oldest first.
[[nodiscard]] std::vector<SegmentNote> rings_to_drain(const SpoolState& spool, const std::vector<SegmentNote>& noted);

/// The ring to drain now, attached read-only; nullopt: there is none yet. `gone`: notes of the spool whose ring no
/// longer exists, with what had been taken from it. Throws Error where a ring is of another version.
[[nodiscard]] std::optional<Ring> find_ring(const RuntimeDirectory& directory, const SpoolState& spool,
                                            std::vector<RingNote>& gone);

}  // namespace visitd
