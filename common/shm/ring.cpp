#include "common/shm/ring.hpp"

#include <sys/random.h>

#include <algorithm>
#include <bit>

#include "common/os/clock.hpp"
#include "common/os/errors.hpp"
#include "common/shm/page_id.hpp"
#include "common/shm/shared_text.hpp"

namespace visitd {

std::uint64_t random_id() {
  std::uint64_t id = 0;
  while (id == 0) {
    if (getrandom(&id, sizeof id, 0) != sizeof id) throw system_error("the kernel gives no random numbers");
  }
  return id;
}

std::string_view describe(AttachFault fault) noexcept {
  switch (fault) {
    case AttachFault::gone:
      return "there is no such segment any more";
    case AttachFault::not_ready:
      return "its maker has not finished it";
    case AttachFault::foreign:
      return "the segment of that id is somebody else's";
    case AttachFault::other_version:
      return "it was made by another version of visitd";
    case AttachFault::corrupt:
      return "its header contradicts its size: it is corrupt";
  }
  return "unknown fault";
}

Ring Ring::make(const RingShape& shape, std::span<const FileIdentity> locks, std::uint64_t instance) {
  SharedSegment segment = SharedSegment::make(shape.bytes());
  const Places places{shape.lane_header_offset(0), lane_header_bytes, shape.requests_offset(0), request_bytes,
                      shape.records_offset(0)};
  Ring ring(std::move(segment), {}, shape, places, random_id());
  ring.note_ = {random_id(), ring.segment_.id()};
  RingHeader& header = ring.header();
  header.layout_version.store(ring_layout_version, std::memory_order_release);
  header.id.store(ring.note_.id, std::memory_order_release);
  header.hash_seed.store(ring.hash_seed_, std::memory_order_release);
  header.lanes.store(shape.lanes, std::memory_order_release);
  header.lane_bytes.store(shape.lane_bytes, std::memory_order_release);
  header.page_id_limit.store(shape.page_id_limit, std::memory_order_release);
  header.made_at.store(unix_seconds(), std::memory_order_release);
  header.instance.store(instance, std::memory_order_release);
  header.record_format.store(record_format, std::memory_order_release);
  header.lane_headers_offset.store(places.lane_headers, std::memory_order_release);
  header.lane_header_bytes.store(places.lane_header_bytes, std::memory_order_release);
  header.requests_offset.store(places.requests, std::memory_order_release);
  header.request_bytes.store(places.request_bytes, std::memory_order_release);
  header.records_offset.store(places.records, std::memory_order_release);
  for (std::uint32_t n = 0; n < shape.lanes; ++n) {
    ring.lane(n).about.lock_device.store(locks[n].device, std::memory_order_release);
    ring.lane(n).about.lock_inode.store(locks[n].inode, std::memory_order_release);
  }
  header.magic.store(ring_magic, std::memory_order_release);  // partner: the load of magic in attach
  return ring;
}

bool Ring::fit(const Places& places, const RingShape& shape, std::size_t bytes) noexcept {
  const auto fits = [&](std::uint64_t offset, std::uint64_t each) {
    return offset % cache_line_bytes == 0 && each % cache_line_bytes == 0 && offset <= bytes &&
           each <= (bytes - offset) / shape.lanes;
  };
  return places.lane_headers >= sizeof(RingHeader) && places.lane_header_bytes >= shared_lane_header_bytes &&
         fits(places.lane_headers, places.lane_header_bytes) && fits(places.requests, places.request_bytes) &&
         std::has_single_bit(places.request_bytes) && fits(places.records, shape.lane_bytes);
}

std::variant<Ring, AttachFault> Ring::attach(const SegmentNote& note, SharedSegment::Access access, Layouts layouts) {
  auto segment = SharedSegment::attach(note.segment, access);
  if (!segment) return AttachFault::gone;
  if (segment->size() < sizeof(RingHeader)) return AttachFault::foreign;
  const auto& header = *reinterpret_cast<const RingHeader*>(segment->data());
  const std::uint64_t magic = header.magic.load(std::memory_order_acquire);
  if (magic == 0) return AttachFault::not_ready;
  if (magic != ring_magic) return AttachFault::foreign;
  const bool own_layout = header.layout_version.load(std::memory_order_acquire) == ring_layout_version;
  const bool readable = header.record_format.load(std::memory_order_acquire) == record_format;
  if (!readable || (!own_layout && layouts == Layouts::own)) return AttachFault::other_version;
  if (header.id.load(std::memory_order_acquire) != note.id) return AttachFault::foreign;
  const std::uint64_t lanes = header.lanes.load(std::memory_order_acquire);
  const std::uint64_t lane_bytes = header.lane_bytes.load(std::memory_order_acquire);
  const std::uint64_t limit = header.page_id_limit.load(std::memory_order_acquire);
  const bool power_of_two = lane_bytes >= page_bytes && (lane_bytes & (lane_bytes - 1)) == 0;
  if (lanes == 0 || lanes > max_lanes || !power_of_two || lane_bytes > segment->size() || limit == 0 ||
      limit > max_page_id_bytes) {
    return AttachFault::corrupt;
  }
  const RingShape shape{static_cast<std::uint32_t>(lanes), lane_bytes, static_cast<std::uint32_t>(limit)};
  const auto get = [](const Word& word) { return word.load(std::memory_order_acquire); };
  const Places places{get(header.lane_headers_offset), get(header.lane_header_bytes), get(header.requests_offset),
                      get(header.request_bytes), get(header.records_offset)};
  if (!fit(places, shape, segment->size())) return AttachFault::corrupt;
  if (own_layout && (places.lane_header_bytes != lane_header_bytes || places.request_bytes != request_bytes ||
                     shape.bytes() > segment->size())) {
    return AttachFault::corrupt;
  }
  const std::uint64_t seed = header.hash_seed.load(std::memory_order_acquire);
  return Ring(std::move(*segment), note, shape, places, seed);
}

std::uint64_t instance_of(const RuntimeDirectory& directory) noexcept {
  return page_hash(directory.path(), ring_magic);
}

std::vector<SegmentNote> rings_of(std::uint64_t instance) {
  struct Found {
    std::uint64_t made_at;
    SegmentNote note;
  };
  std::vector<Found> found;
  for (const int id : own_segments()) {
    const auto segment = SharedSegment::attach(id, SharedSegment::Access::read_only);
    if (!segment || segment->size() < sizeof(RingHeader)) continue;
    const auto& header = *reinterpret_cast<const RingHeader*>(segment->data());
    if (header.magic.load(std::memory_order_acquire) != ring_magic ||
        header.instance.load(std::memory_order_acquire) != instance)
      continue;
    found.push_back({header.made_at.load(std::memory_order_acquire), {header.id.load(std::memory_order_acquire), id}});
  }
  std::ranges::sort(found, [](const Found& a, const Found& b) {
    return a.made_at != b.made_at ? a.made_at < b.made_at : a.note.segment < b.note.segment;
  });
  std::vector<SegmentNote> notes;
  notes.reserve(found.size());
  for (const Found& ring : found) notes.push_back(ring.note);
  return notes;
}

void Ring::note_directory(const RuntimeDirectory& directory) const noexcept {
  auto* const words = reinterpret_cast<Word*>(segment_.data() + ring_directory_offset);
  store_text({words, ring_directory_words}, directory.path());
}

std::string Ring::noted_directory() const {
  // What another layout has there may be anything: where a lane header begins that early it is no path.
  if (places_.lane_headers < ring_directory_offset + 8 * ring_directory_words) return {};
  const auto* const words = reinterpret_cast<const Word*>(segment_.data() + ring_directory_offset);
  std::string path = load_text({words, ring_directory_words});
  return path.starts_with('/') ? path : std::string();
}

FileIdentity Ring::lane_lock(std::uint32_t n) const noexcept {
  return {lane(n).about.lock_device.load(std::memory_order_acquire),
          lane(n).about.lock_inode.load(std::memory_order_acquire)};
}

void Ring::release_free_memory(std::uint32_t n, std::uint64_t head, std::uint64_t tail) const noexcept {
  const std::uint64_t capacity = shape_.lane_bytes;
  // The free space is [tail, head + capacity): whole pages of it, in one or two ranges.
  const std::uint64_t first = (tail + page_bytes - 1) / page_bytes * page_bytes;
  const std::uint64_t last = (head + capacity) / page_bytes * page_bytes;
  if (first >= last) return;
  const std::size_t start = records_offset(n);
  const std::uint64_t begin = first % capacity;
  const std::uint64_t length = last - first;
  const std::uint64_t before_end = length < capacity - begin ? length : capacity - begin;
  segment_.release_memory(start + begin, before_end);
  if (length > before_end) segment_.release_memory(start, length - before_end);
}

}  // namespace visitd
