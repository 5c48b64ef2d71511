#include "flusher/ring_source.hpp"

#include <algorithm>

#include "common/os/errors.hpp"
#include "common/os/log.hpp"

namespace visitd {

std::optional<Ring> find_ring(const RuntimeDirectory& directory, const SpoolState& spool, std::vector<RingNote>& gone) {
  const auto is_finished = [&](std::uint64_t id) {
    const auto note = std::ranges::find(spool.rings, id, &RingNote::id);
    return note != spool.rings.end() && note->finished;
  };
  std::vector<SegmentNote> candidates;
  for (const RingNote& note : spool.rings) {
    if (!note.finished) candidates.push_back({note.id, note.segment});
  }
  for (const SegmentNote& note : directory.rings()) {
    if (!is_finished(note.id) && std::ranges::find(candidates, note) == candidates.end()) candidates.push_back(note);
  }
  for (const SegmentNote& note : candidates) {
    auto attached = Ring::attach(note, SharedSegment::Access::read_only, Layouts::readable);
    if (auto* ring = std::get_if<Ring>(&attached)) return std::move(*ring);
    const AttachFault fault = std::get<AttachFault>(attached);
    if (fault == AttachFault::other_version) {
      throw error(
          "ring segment {}: {}, whose records this one cannot read; run that version until its ring is drained, then "
          "this one",
          note.segment, describe(fault));
    }
    if (fault != AttachFault::gone) log::warning("ring segment {}: {}", note.segment, describe(fault));
    const auto noted = std::ranges::find(spool.rings, note.id, &RingNote::id);
    if (noted != spool.rings.end()) gone.push_back(*noted);
  }
  return std::nullopt;
}

RingLeaving::RingLeaving(const Ring& ring, const RuntimeDirectory& directory) : ring_(ring), directory_(directory) {
  for (std::uint32_t n = 0; n < ring.shape().lanes; ++n)
    owners_.emplace_back(directory.lane_lock(n), ring.lane_lock(n));
}

bool RingLeaving::must_leave() const {
  if (ring_.segment().status().removed) return true;
  const auto rings = directory_.rings();
  return !rings.empty() && rings.back() != ring_.note();
}

bool RingLeaving::is_deserted() const {
  if (ring_.segment().status().attached == 1) return true;
  for (std::uint32_t n = 0; n < ring_.shape().lanes; ++n) {
    if (ring_.lane_state(n) != LaneState::closed && !owners_[n].is_free()) return false;
  }
  return true;
}

}  // namespace visitd
