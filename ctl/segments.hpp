// The segments of an instance as visitctl finds them: attached read-only, whoever lives or does not. Everything in them
// may be wrong.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/os/runtime_directory.hpp"
#include "common/shm/cache.hpp"
#include "common/shm/ring.hpp"

namespace visitd {

/// A ring that the runtime directory names.
struct NotedRing {
  SegmentNote note;
  bool in_use = false;       ///< the newest
  std::optional<Ring> ring;  ///< nullopt: `fault` says why
  std::string fault;
};

struct Segments {
  /// Oldest first; those before the newest that are gone are left out. Empty: no frontend ever ran here.
  std::vector<NotedRing> rings;
  std::optional<SegmentNote> cache_note;  ///< nullopt: no flusher ever ran here
  std::optional<Cache> cache;             ///< nullopt: `cache_fault` says why
  std::string cache_fault;

  /// Why the counts' view and the heads of a ring are not to be had; empty: they are.
  [[nodiscard]] std::string why_no_view(const Ring& ring) const;
  /// The cache whose view of this ring is shown; nullptr: there is none, why_no_view() says why.
  [[nodiscard]] const Cache* view_of(const Ring& ring) const;
  /// The cache, whatever it serves; nullptr: `cache_fault` says why there is none.
  [[nodiscard]] const Cache* any_cache() const noexcept { return cache ? &*cache : nullptr; }
  /// The newest ring; nullptr: ring_error() says why.
  [[nodiscard]] const Ring* ring_in_use() const noexcept;
  /// The newest ring's fault as a sentence; empty: it is attached.
  [[nodiscard]] std::string ring_error(const RuntimeDirectory& directory) const;
};

/// Attaches what the runtime directory names. Throws only where the directory itself cannot be looked at.
[[nodiscard]] Segments attach_segments(const RuntimeDirectory& directory);

/// How far the ends of a lane are, of one moment.
struct LanePositions {
  std::uint64_t tail = 0;
  std::optional<std::uint64_t> applied;  ///< nullopt: not known (no view)
  std::optional<std::uint64_t> head;
  std::string fault;  ///< the positions contradict each other: nothing in the lane can be trusted
};
[[nodiscard]] LanePositions lane_positions(const Segments& segments, const Ring& ring, std::uint32_t lane);

/// Contradictions among positions as a sentence; empty: there are none.
[[nodiscard]] std::string positions_fault(std::uint64_t head, std::uint64_t applied, std::uint64_t tail,
                                          std::uint64_t capacity);

}  // namespace visitd
