// The segments of visitd that exist on this machine, of whichever instance, found by what stands in them. Everything in
// them may be wrong.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/os/runtime_directory.hpp"
#include "common/shm/shared_segment.hpp"

namespace visitd {

struct FoundSegment {
  SegmentNote note;
  SegmentStatus status;  ///< of before it was looked into
  bool is_ring = false;
  std::uint64_t ring = 0;             ///< its own id, or of a cache the id of the ring that it serves
  std::optional<bool> ring_is_there;  ///< of a cache; nullopt: it is a ring
  std::uint64_t instance = 0;         ///< see instance_of; 0: not known
  std::string directory;              ///< the runtime directory, which may be gone; empty: not known
  bool is_noted = false;              ///< the runtime directory is there, and names it
  /// Visits in a ring that no spool is known to hold, in bytes; nullopt: it cannot be read. 0 of a cache.
  std::optional<std::uint64_t> undurable_bytes = 0;
  std::string fault;  ///< why it cannot be read
};

struct FoundSegments {
  std::vector<FoundSegment> segments;  ///< rings first
  /// Of others that this user may not look into, so that nobody can say whether they are visitd's.
  std::size_t unseen = 0;
};

/// In this IPC namespace.
[[nodiscard]] FoundSegments find_segments();

/// Why `clean` leaves a segment; empty: nobody uses it, and nothing is lost with it. A cache goes with its ring: it
/// says how much of the ring is durable.
[[nodiscard]] std::string why_kept(const FoundSegment& segment, const FoundSegments& all);

}  // namespace visitd
