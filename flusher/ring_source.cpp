#include "flusher/ring_source.hpp"

#include <algorithm>

#include "common/os/errors.hpp"
#include "common/os/log.hpp"

namespace visitd {

std::vector<SegmentNote> rings_to_drain(const SpoolState& spool, const std::vector<SegmentNote>& noted) {
  std::vector<SegmentNote> rings;
  for (const RingNote& note : spool.rings) {
    if (!note.finished) rings.push_back({note.id, note.segment});
  }
  for (const SegmentNote& note : noted) {
    const auto known = std::ranges::find(spool.rings, note.id, &RingNote::id);
    const bool finished = known != spool.rings.end() && known->finished;
    if (!finished && std::ranges::find(rings, note) == rings.end()) rings.push_back(note);
  }
  return rings;
}

std::optional<Ring> find_ring(const RuntimeDirectory& directory, const SpoolState& spool, std::vector<RingNote>& gone) {
  for (const SegmentNote& note : rings_to_drain(spool, directory.rings())) {
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

}  // namespace visitd
