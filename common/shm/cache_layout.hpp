// Every byte of the cache segment: written by the flusher, read by the frontends and visitctl.
//
//   0      CacheHeader
//   then   shard of each bucket             (8 bytes a bucket)
//   then   view 0, view 1                   (view_bytes each)
//   then   answer of lane 0, 1, ...         (answer_slot_bytes each, a TextSlot)
// A view:
//   applied of each lane                    (max_lanes words)
//   the undo note                           (UndoNote)
//   version of each chain, first node of each chain, answered seq of each bucket
//   cells 0, 1, ...                         (cell_bytes each; cell 0 is "none" and never used)
// A node is the cell where an entry begins: next, hash, page length, base, expires, inflight, open, state; then room
// for the page's bytes, zeros to the end of a word. An id of up to one_cell_page_bytes lies there whole. Of a longer
// one the last word of this room is the number of a further cell, which holds the bytes that come next, from its first
// word on; where they do not fit either, its last word is the number of one more. So an id of 1,024 bytes takes four
// cells, and a short one as much memory as if none could be longer.
//
// All versions share what stands in the CacheHeader before `statistics`: so another version finds out up to where the
// lanes are durable. All else may change with cache_layout_version.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "common/shm/count.hpp"
#include "common/shm/ring_layout.hpp"
#include "common/shm/shared_word.hpp"
#include "common/shm/statistics.hpp"

namespace visitd {

inline constexpr std::uint64_t cache_magic = 0x4548434144545356;  // "VSTDACHE"
/// A longer page id takes more than one cell of a view.
inline constexpr std::size_t one_cell_page_bytes = 256;
/// What the flusher answers to the question of a lane. Memory that no answer has touched takes none.
inline constexpr std::size_t answer_slot_bytes = std::size_t{1} << 20U;
inline constexpr std::uint32_t max_shards = 64;
inline constexpr std::size_t shard_name_words = 8;
inline constexpr std::size_t shard_reason_words = 32;

/// `up`: answers. `down`: cannot be asked. `held`: waits for the operator. `connecting`: not known yet.
/// `refuses_writes`: answers reads, and batches with an error. A reader meets states of later versions: it takes one
/// that it does not know for `up`.
enum class ShardState : std::uint64_t { connecting = 0, up = 1, down = 2, held = 3, refuses_writes = 4 };

struct ShardSlot {
  Word state;                       ///< ShardState
  Word since_ns;                    ///< monotonic
  Word buckets;                     ///< how many are placed on it
  Word unanswered;                  ///< its unanswered batches
  Word name[shard_name_words];      ///< UTF-8, zeros behind it
  Word reason_version;              ///< odd: being written
  Word reason[shard_reason_words];  ///< why it is not up, for people
  Word spare[3];
};
static_assert(sizeof(ShardSlot) == 8 * (4 + shard_name_words + 1 + shard_reason_words + 3));

/// What all versions share of the cache's header.
inline constexpr std::size_t shared_cache_header_bytes = 384 + 64 * max_lanes + 8 * max_lanes;

struct CacheHeader {
  Word magic;  ///< stored last
  Word layout_version;
  Word id;       ///< random
  Word ring_id;  ///< the ring whose visits it counts
  Word lanes;
  Word entries;  ///< cells of a view, without cell 0
  Word chains;   ///< a power of two
  Word buckets;
  Word page_id_limit;
  Word shards;
  Word flusher;  ///< process id, for people
  Word made_at;  ///< Unix seconds
  Word ttl_ms;
  Word spare[3];
  LonelyWord active;              ///< grows only; & 1: the view that is shown; 0: none yet
  LonelyWord retired;             ///< 1: another cache serves this ring; nothing here is kept right any more
  LonelyWord sleeping;            ///< 1: the flusher waits for its doorbell
  LonelyWord heartbeat_ns;        ///< monotonic; at least four times a second
  LonelyWord head[max_lanes];     ///< durable in the spool up to here: the space is free again
  Word requests_read[max_lanes];  ///< requests taken up to here
  [[no_unique_address]] Gap<cache_gap_words> gap;
  Word statistics[flusher_statistics_words];
  ShardSlot shard[max_shards];
};
static_assert(offsetof(CacheHeader, active) == 128 && offsetof(CacheHeader, head) == 384 &&
              offsetof(CacheHeader, requests_read) == 384 + 64 * max_lanes &&
              offsetof(CacheHeader, statistics) == shared_cache_header_bytes + 8 * cache_gap_words);

struct UndoNote {
  Word node;
  Word base;
  Word expires;
  Word inflight;
  Word open;
  Word lane;  ///< no_lane: no position moves
  Word applied;
  Word state;
};
static_assert(sizeof(UndoNote) == cache_line_bytes);
inline constexpr std::uint64_t no_lane = max_lanes;

/// How long before the end of its TTL a count that somebody reads is asked for again.
[[nodiscard]] constexpr std::uint64_t refresh_ahead_ms(std::uint64_t ttl_ms) noexcept {
  return ttl_ms / 5;
}

/// Whether a page has a count at all. Versions that do not know the word leave 0 there.
enum class CountState : std::uint64_t {
  fine = 0,
  damaged = 1,  ///< its field in Redis is no integer, or cannot take its visits: nobody may show a number
};

/// A node's word of state: beside CountState, the number of the last correction of the page's bucket that its base
/// knows of.
[[nodiscard]] constexpr std::uint64_t state_word(CountState state, std::uint64_t fix) noexcept {
  return static_cast<std::uint64_t>(state) | fix << 8U;
}
[[nodiscard]] constexpr bool is_damaged_state(std::uint64_t word) noexcept {
  return (word & 0xffU) != static_cast<std::uint64_t>(CountState::fine);
}
[[nodiscard]] constexpr std::uint64_t fix_in_state(std::uint64_t word) noexcept {
  return word >> 8U;
}

/// The fixed part of a node; the page's words follow.
struct NodeHead {
  Word next;  ///< cell number of a node; 0: last
  Word hash;
  Word page_length;
  Word base;      ///< the count in Redis as last seen
  Word expires;   ///< monotonic ms: when Redis is to be asked again
  Word inflight;  ///< sealed, not acknowledged
  Word open;      ///< applied since the last seal
  Word state;     ///< see state_word()
  [[no_unique_address]] Gap<node_gap_words> gap;
};
static_assert(sizeof(NodeHead) == 8 * (8 + node_gap_words) && sizeof(NodeHead) % cache_line_bytes == 0);

/// Where things are in a cache of this shape.
struct CacheShape {
  std::uint32_t lanes = 0;
  std::uint32_t entries = 0;  ///< cells of a view: as many entries, where each needs one
  std::uint32_t buckets = 0;
  std::uint32_t page_id_limit = 0;

  [[nodiscard]] constexpr std::uint32_t chains() const noexcept { return std::bit_ceil(std::max(entries, 16U)); }
  /// Words of a node for the page.
  [[nodiscard]] constexpr std::size_t page_room() const noexcept {
    constexpr std::size_t line_words = cache_line_bytes / 8;
    const std::size_t words = words_for(std::min<std::size_t>(page_id_limit, one_cell_page_bytes));
    return (words + line_words - 1) / line_words * line_words;
  }
  [[nodiscard]] constexpr std::size_t cell_words() const noexcept { return sizeof(NodeHead) / 8 + page_room(); }
  [[nodiscard]] constexpr std::size_t cell_bytes() const noexcept { return 8 * cell_words(); }
  /// How many cells an entry takes whose page id has `page_length` bytes.
  [[nodiscard]] constexpr std::uint32_t cells_for(std::size_t page_length) const noexcept {
    std::uint32_t cells = 1;
    std::size_t room = page_room();
    for (std::size_t rest = words_for(page_length); rest > room; room = cell_words()) {
      rest -= room - 1;
      ++cells;
    }
    return cells;
  }
  [[nodiscard]] constexpr std::size_t buckets_offset() const noexcept { return round_up(sizeof(CacheHeader)); }
  [[nodiscard]] constexpr std::size_t view_offset(std::uint64_t view) const noexcept {
    return round_up(buckets_offset() + std::size_t{8} * buckets) + view * view_bytes();
  }
  // within a view
  [[nodiscard]] constexpr std::size_t undo_offset() const noexcept { return sizeof(Word) * max_lanes; }
  [[nodiscard]] constexpr std::size_t versions_offset() const noexcept { return undo_offset() + sizeof(UndoNote); }
  [[nodiscard]] constexpr std::size_t firsts_offset() const noexcept {
    return versions_offset() + std::size_t{8} * chains();
  }
  [[nodiscard]] constexpr std::size_t answered_offset() const noexcept {
    return firsts_offset() + std::size_t{8} * chains();
  }
  [[nodiscard]] constexpr std::size_t cells_offset() const noexcept {
    return round_up(answered_offset() + std::size_t{8} * buckets);
  }
  [[nodiscard]] constexpr std::size_t view_bytes() const noexcept {
    return round_up(cells_offset() + (std::size_t{entries} + 1) * cell_bytes());
  }
  [[nodiscard]] constexpr std::size_t answer_offset(std::uint32_t lane) const noexcept {
    return view_offset(2) + lane * answer_slot_bytes;
  }
  [[nodiscard]] constexpr std::size_t bytes() const noexcept { return answer_offset(lanes); }

  friend bool operator==(const CacheShape&, const CacheShape&) = default;

 private:
  static constexpr std::size_t round_up(std::size_t bytes) noexcept {
    return (bytes + page_bytes - 1) / page_bytes * page_bytes;
  }
};

}  // namespace visitd
