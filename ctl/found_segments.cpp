#include "ctl/found_segments.hpp"

#include <algorithm>
#include <variant>

#include "common/counter/ring_registry.hpp"
#include "common/os/errors.hpp"
#include "common/shm/cache.hpp"
#include "common/shm/ring.hpp"

namespace visitd {

namespace {

/// What every version writes into the first words of either segment.
struct Beginning {
  std::uint64_t magic = 0;
  std::uint64_t id = 0;
};

/// nullopt: it is not visitd's, or gone. Throws where it may not be looked into.
std::optional<Beginning> beginning_of(int segment) {
  const auto attached = SharedSegment::attach(segment, SharedSegment::Access::read_only);
  if (!attached || attached->size() < sizeof(RingHeader)) return std::nullopt;
  static_assert(offsetof(RingHeader, magic) == offsetof(CacheHeader, magic) &&
                offsetof(RingHeader, id) == offsetof(CacheHeader, id));
  const auto& header = *reinterpret_cast<const RingHeader*>(attached->data());
  const Beginning beginning{value_of(header.magic), value_of(header.id)};
  const bool ours = beginning.magic == ring_magic || beginning.magic == cache_magic;
  return ours ? std::optional(beginning) : std::nullopt;
}

bool is_noted(const FoundSegment& segment) {
  if (segment.directory.empty()) return false;
  const RuntimeDirectory directory(segment.directory);
  const std::vector<SegmentNote> rings = directory.rings();
  return std::ranges::find(rings, segment.note) != rings.end() || directory.cache() == segment.note;
}

void look_into_ring(FoundSegment& segment, const std::vector<CacheFront>& caches) {
  const auto attached = Ring::attach(segment.note, SharedSegment::Access::read_only, Layouts::readable);
  if (const auto* ring = std::get_if<Ring>(&attached)) {
    segment.instance = value_of(ring->header().instance);
    segment.directory = ring->noted_directory();
    segment.undurable_bytes = undurable_bytes(*ring, caches);
  } else {
    segment.fault = describe(std::get<AttachFault>(attached));
    segment.undurable_bytes.reset();
  }
}

/// A cache belongs to its ring's instance.
void place_cache(FoundSegment& segment, const std::vector<FoundSegment>& segments) {
  const auto ring = std::ranges::find_if(
      segments, [&](const FoundSegment& other) { return other.is_ring && other.ring == segment.ring; });
  segment.ring_is_there = ring != segments.end();
  if (ring == segments.end()) return;
  segment.instance = ring->instance;
  segment.directory = ring->directory;
}

}  // namespace

FoundSegments find_segments() {
  FoundSegments found;
  std::vector<CacheFront> caches;
  for (const int id : all_segments()) {
    try {
      const auto status = segment_status(id);
      const auto beginning = status ? beginning_of(id) : std::nullopt;
      if (!beginning) continue;
      FoundSegment segment;
      segment.note = {beginning->id, id};
      segment.status = *status;
      segment.is_ring = beginning->magic == ring_magic;
      segment.ring = beginning->id;
      if (!segment.is_ring) {
        auto cache = CacheFront::attach(segment.note, SharedSegment::Access::read_only);
        if (!cache) continue;
        segment.ring = cache->ring_id();
        caches.push_back(std::move(*cache));
      }
      found.segments.push_back(std::move(segment));
    } catch (const std::exception&) {
      ++found.unseen;
    }
  }
  std::ranges::sort(found.segments, [](const FoundSegment& a, const FoundSegment& b) {
    return std::pair(!a.is_ring, a.note.segment) < std::pair(!b.is_ring, b.note.segment);
  });
  for (FoundSegment& segment : found.segments) {
    if (segment.is_ring) look_into_ring(segment, caches);
  }
  for (FoundSegment& segment : found.segments) {
    if (!segment.is_ring) place_cache(segment, found.segments);
  }
  for (FoundSegment& segment : found.segments) segment.is_noted = is_noted(segment);
  return found;
}

std::string why_kept(const FoundSegment& segment, const FoundSegments& all) {
  if (segment.status.attached > 0) return fmt::format("it is in use: attached {} times", segment.status.attached);
  if (!segment.undurable_bytes) return fmt::format("{}, so it may hold visits", segment.fault);
  if (*segment.undurable_bytes > 0) {
    return fmt::format("it holds {} bytes of visits that no spool is known to hold: start the flusher{}",
                       *segment.undurable_bytes,
                       segment.directory.empty() ? "" : fmt::format(" of {} once", segment.directory));
  }
  if (segment.is_noted) {
    return fmt::format("its instance has stopped: visitctl remove --instance {} ends it", segment.directory);
  }
  if (!segment.is_ring) {
    for (const FoundSegment& ring : all.segments) {
      if (ring.is_ring && ring.ring == segment.ring && !why_kept(ring, all).empty()) return "its ring is kept";
    }
  }
  return {};
}

}  // namespace visitd
