#include "common/shm/cache.hpp"

#include <unistd.h>

#include <algorithm>
#include <span>

#include "common/os/clock.hpp"
#include "common/os/utf8.hpp"
#include "common/shm/shared_text.hpp"

namespace visitd {

Cache Cache::make(const CacheShape& shape, std::uint64_t ring_id) {
  SharedSegment segment = SharedSegment::make(shape.bytes());
  const SegmentNote note{random_id(), segment.id()};
  Cache cache(std::move(segment), note, shape);
  CacheHeader& header = cache.header();
  const auto set = [](Word& word, std::uint64_t value) { word.store(value, std::memory_order_release); };
  set(header.layout_version, cache_layout_version);
  set(header.id, note.id);
  set(header.ring_id, ring_id);
  set(header.lanes, shape.lanes);
  set(header.entries, shape.entries);
  set(header.chains, shape.chains());
  set(header.buckets, shape.buckets);
  set(header.page_id_limit, shape.page_id_limit);
  set(header.flusher, static_cast<std::uint64_t>(getpid()));
  set(header.made_at, unix_seconds());
  set(header.magic, cache_magic);  // partner: the load of magic in attach
  return cache;
}

std::variant<Cache, AttachFault> Cache::attach(const SegmentNote& note, SharedSegment::Access access) {
  auto segment = SharedSegment::attach(note.segment, access);
  if (!segment) return AttachFault::gone;
  if (segment->size() < sizeof(CacheHeader)) return AttachFault::foreign;
  const auto& header = *reinterpret_cast<const CacheHeader*>(segment->data());
  const auto get = [](const Word& word) { return word.load(std::memory_order_acquire); };
  const std::uint64_t magic = get(header.magic);
  if (magic == 0) return AttachFault::not_ready;
  if (magic != cache_magic) return AttachFault::foreign;
  if (get(header.layout_version) != cache_layout_version) return AttachFault::other_version;
  if (get(header.id) != note.id) return AttachFault::foreign;
  const std::uint64_t lanes = get(header.lanes);
  const std::uint64_t entries = get(header.entries);
  const std::uint64_t buckets = get(header.buckets);
  const std::uint64_t limit = get(header.page_id_limit);
  if (lanes == 0 || lanes > max_lanes || entries == 0 || entries > segment->size() / sizeof(NodeHead) || buckets == 0 ||
      buckets > segment->size() / 8 || limit == 0 || limit > max_page_id_bytes) {
    return AttachFault::corrupt;
  }
  const CacheShape shape{static_cast<std::uint32_t>(lanes), static_cast<std::uint32_t>(entries),
                         static_cast<std::uint32_t>(buckets), static_cast<std::uint32_t>(limit)};
  if (shape.chains() != get(header.chains) || shape.bytes() > segment->size() || get(header.shards) > max_shards) {
    return AttachFault::corrupt;
  }
  return Cache(std::move(*segment), note, shape);
}

std::optional<CacheFront> CacheFront::attach(const SegmentNote& note, SharedSegment::Access access) {
  auto segment = SharedSegment::attach(note.segment, access);
  if (!segment || segment->size() < shared_cache_header_bytes) return std::nullopt;
  CacheFront front(std::move(*segment), note);
  const CacheHeader& header = front.header();
  const bool is_it = header.magic.load(std::memory_order_acquire) == cache_magic &&
                     header.id.load(std::memory_order_acquire) == note.id;
  return is_it ? std::optional(std::move(front)) : std::nullopt;
}

std::vector<CacheFront> caches_of(std::uint64_t ring_id) {
  std::vector<CacheFront> caches;
  for (const int id : own_segments()) {
    const auto segment = SharedSegment::attach(id, SharedSegment::Access::read_only);
    if (!segment || segment->size() < shared_cache_header_bytes) continue;
    const auto& header = *reinterpret_cast<const CacheHeader*>(segment->data());
    auto front = CacheFront::attach({header.id.load(std::memory_order_acquire), id}, SharedSegment::Access::read_only);
    if (front && front->ring_id() == ring_id) caches.push_back(std::move(*front));
  }
  return caches;
}

/// The text, or as much of it as has room, whole characters, with "…" at its end. `room` holds what is returned.
static std::string_view cut_to(std::string_view text, std::span<char> room) noexcept {
  constexpr std::string_view more = "…";
  if (text.size() <= room.size()) return text;
  const std::string_view beginning = first_characters(text, room.size() - more.size());
  const auto end = std::ranges::copy(beginning, room.begin()).out;
  std::ranges::copy(more, end);
  return {room.data(), beginning.size() + more.size()};
}

void set_shard_state(ShardSlot& slot, ShardState state, std::string_view why) noexcept {
  const std::uint64_t version = slot.reason_version.load(std::memory_order_relaxed);
  slot.reason_version.store(version | 1U, std::memory_order_release);
  std::array<char, 8 * shard_reason_words> room{};
  store_text(slot.reason, cut_to(why, room));
  slot.reason_version.store((version | 1U) + 1, std::memory_order_release);
  if (slot.state.load(std::memory_order_relaxed) != static_cast<std::uint64_t>(state)) {
    slot.since_ns.store(monotonic_ns(), std::memory_order_release);
    slot.state.store(static_cast<std::uint64_t>(state), std::memory_order_release);
  }
}

std::string shard_reason(const ShardSlot& slot) {
  const std::uint64_t version = slot.reason_version.load(std::memory_order_acquire);
  std::string reason = load_text(slot.reason);
  const bool whole = (version & 1U) == 0 && slot.reason_version.load(std::memory_order_relaxed) == version;
  return whole ? reason : std::string();
}

std::string_view name_of(ShardState state) noexcept {
  switch (state) {
    case ShardState::connecting:
      return "connecting";
    case ShardState::up:
      return "up";
    case ShardState::down:
      return "down";
    case ShardState::held:
      return "held";
    case ShardState::refuses_writes:
      return "refuses_writes";
  }
  return "unknown";
}

}  // namespace visitd
