#include "ctl/segments.hpp"

#include "common/os/errors.hpp"
#include "common/os/invariant.hpp"

namespace visitd {

namespace {

constexpr int attach_tries = 5;
constexpr int position_tries = 1000;
constexpr std::size_t most_rings = 64;  // a corrupt file must not make us attach for ever

/// Attaches one; what went wrong is in `fault`.
template <typename Segment>
std::optional<Segment> attach(const SegmentNote& note, std::string& fault) {
  try {
    auto attached = Segment::attach(note, SharedSegment::Access::read_only);
    if (auto* segment = std::get_if<Segment>(&attached)) return std::move(*segment);
    fault = describe(std::get<AttachFault>(attached));
  } catch (const std::exception& refused) {
    fault = refused.what();
  }
  return std::nullopt;
}

Segments attach_once(const RuntimeDirectory& directory) {
  Segments segments;
  std::vector<SegmentNote> notes = directory.rings();
  if (notes.size() > most_rings) notes.erase(notes.begin(), notes.end() - most_rings);
  for (const SegmentNote& note : notes) {
    NotedRing noted;
    noted.note = note;
    noted.in_use = &note == &notes.back();
    noted.ring = attach<Ring>(note, noted.fault);
    const bool gone = !noted.ring && noted.fault == describe(AttachFault::gone);
    if (noted.in_use || !gone) segments.rings.push_back(std::move(noted));
  }
  segments.cache_note = directory.cache();
  if (segments.cache_note) {
    segments.cache = attach<Cache>(*segments.cache_note, segments.cache_fault);
  } else {
    segments.cache_fault = "no flusher has run with this runtime directory yet";
  }
  return segments;
}

bool is_current(const Segments& segments, const RuntimeDirectory& directory) {
  const std::vector<SegmentNote> rings = directory.rings();
  const bool same_ring =
      rings.empty() ? segments.rings.empty() : !segments.rings.empty() && segments.rings.back().note == rings.back();
  const bool retired = segments.cache && segments.cache->header().retired.word.load(std::memory_order_acquire) != 0;
  return same_ring && segments.cache_note == directory.cache() && !retired;
}

}  // namespace

std::string Segments::why_no_view(const Ring& ring) const {
  if (!cache) return cache_note ? fmt::format("cache segment {}: {}", cache_note->segment, cache_fault) : cache_fault;
  if (cache->ring_id() != ring.id()) return "the flusher's cache serves another ring";
  if (cache->shape().lanes != ring.shape().lanes) return "the cache has other lanes than the ring: one is corrupt";
  if (cache->header().retired.word.load(std::memory_order_acquire) != 0) {
    return "this cache is retired; the flusher makes another one";
  }
  if (cache->header().active.word.load(std::memory_order_acquire) == 0) return "the flusher has not shown a view yet";
  return {};
}

const Cache* Segments::view_of(const Ring& ring) const {
  return why_no_view(ring).empty() ? any_cache() : nullptr;
}

const Ring* Segments::ring_in_use() const noexcept {
  if (rings.empty()) return nullptr;
  const std::optional<Ring>& newest = rings.back().ring;
  return newest ? &*newest : nullptr;
}

std::string Segments::ring_error(const RuntimeDirectory& directory) const {
  if (rings.empty()) return fmt::format("no frontend has run with runtime directory {} yet", directory.path());
  if (!rings.back().ring) return fmt::format("ring segment {}: {}", rings.back().note.segment, rings.back().fault);
  return {};
}

Segments attach_segments(const RuntimeDirectory& directory) {
  directory.require_readable();
  Segments segments = attach_once(directory);
  // Frontends and flusher may just be changing to other segments.
  for (int tries = 1; tries < attach_tries && !is_current(segments, directory); ++tries) {
    segments = attach_once(directory);
  }
  return segments;
}

std::string positions_fault(std::uint64_t head, std::uint64_t applied, std::uint64_t tail, std::uint64_t capacity) {
  const bool aligned = head % 8 == 0 && applied % 8 == 0 && tail % 8 == 0;
  if (aligned && head <= applied && applied <= tail && tail - head <= capacity) return {};
  return fmt::format("its positions contradict each other (head {}, applied {}, tail {} of {} bytes): it is corrupt",
                     head, applied, tail, capacity);
}

LanePositions lane_positions(const Segments& segments, const Ring& ring, std::uint32_t lane) {
  const Word& tail = ring.lane(lane).tail.word;
  const std::uint64_t capacity = ring.shape().lane_bytes;
  LanePositions positions;
  if (!segments.cache_note) {
    // As the frontends take it while no flusher was ever there.
    positions.tail = tail.load(std::memory_order_acquire);
    positions.fault = positions_fault(0, 0, positions.tail, capacity);
    positions.head = positions.applied = 0;
    return positions;
  }
  const Cache* const cache = segments.view_of(ring);
  if (cache == nullptr) {
    positions.tail = tail.load(std::memory_order_acquire);
    if (positions.tail % 8 != 0) positions.fault = positions_fault(0, 0, positions.tail, capacity);
    return positions;
  }
  const CacheHeader& header = cache->header();
  const Word& head = at_index(header.head, lane).word;
  for (int tries = 0; tries < position_tries; ++tries) {
    const std::uint64_t active = header.active.word.load(std::memory_order_acquire);
    positions.head = head.load(std::memory_order_acquire);
    positions.applied = cache->view(active).applied(lane).load(std::memory_order_acquire);
    // After applied, which it is never behind; then the rest once more, so that all are of one moment.
    positions.tail = tail.load(std::memory_order_acquire);
    positions.fault = positions_fault(*positions.head, *positions.applied, positions.tail, capacity);
    if (positions.fault.empty() && head.load(std::memory_order_acquire) == *positions.head &&
        header.active.word.load(std::memory_order_acquire) == active) {
      break;
    }
  }
  return positions;
}

}  // namespace visitd
