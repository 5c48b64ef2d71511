// Every byte of the ring segment: written by the frontends, read by the flusher and visitctl.
//
//   0           RingHeader
//   2048        path of the runtime directory, zeros behind it; for people alone
//   4096        LaneHeader of lane 0, 1, ...                      (lane_header_bytes each)
//   then        requests of lane 0, 1, ...                        (request_bytes each, a ring of records)
//   then        records of lane 0, 1, ...                         (lane_bytes each, a ring of records; page-aligned)
//   then        question of lane 0, 1, ...                        (question_slot_bytes each, a TextSlot; page-aligned)
//
// A record: words of
//   0  size (32: bytes, a multiple of 8) | kind (8) | flags (8) | page length (16)
//   1  visits (32) | Unix time in seconds (32)
//   2  page hash, seeded by the ring
//   3… the page's bytes, zeros to the end of the word
// A pad is its first word alone, with the size of all that it skips.
//
// Other versions drain what this one left, and the other way round. So all versions share: the RingHeader, which says
// where all else lies; of a LaneHeader what stands before its statistics; and the form of records, as long as
// record_format is the same. All else may change with ring_layout_version.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/shm/layout_version.hpp"
#include "common/shm/page_id.hpp"
#include "common/shm/shared_word.hpp"
#include "common/shm/statistics.hpp"

namespace visitd {

inline constexpr std::uint64_t ring_magic = 0x474e495244545356;  // "VSTDRING"
inline constexpr std::uint64_t record_format = 1;
inline constexpr std::uint32_t max_lanes = 64;
inline constexpr std::size_t page_bytes = 4096;
/// What the owner asks for in one request, with the key, its page and who asks: see owner_question.hpp.
inline constexpr std::size_t question_slot_bytes = 16384;
inline constexpr std::size_t lane_header_bytes = 1024 + 8 * lane_gap_words;

enum class RecordKind : std::uint8_t { none = 0, visit = 1, pad = 2, request = 3 };

inline constexpr std::size_t record_head_words = 3;
inline constexpr std::size_t max_record_bytes = 8 * (record_head_words + words_for(max_page_id_bytes));

/// The bytes of a record for a page of `page_length` bytes.
[[nodiscard]] constexpr std::uint64_t record_bytes(std::size_t page_length) noexcept {
  return 8 * (record_head_words + words_for(page_length));
}

struct RingHeader {
  Word magic;  ///< stored last: before it, the segment is not ready
  Word layout_version;
  Word id;         ///< random; names this ring for ever
  Word hash_seed;  ///< random, so that nobody outside can choose hashes
  Word lanes;
  Word lane_bytes;
  Word page_id_limit;
  Word made_at;     ///< Unix seconds
  Word instance;    ///< of which instance on this host: see instance_of
  Word superseded;  ///< 1: there is a newer ring, whose visits this one's readers do not see: they answer no more
  Word record_format;
  // Where things lie; bytes from the segment's start, and of one lane.
  Word lane_headers_offset;
  Word lane_header_bytes;
  Word requests_offset;
  Word request_bytes;
  Word records_offset;
};
static_assert(sizeof(RingHeader) == 128 && offsetof(RingHeader, magic) == 0 && offsetof(RingHeader, id) == 16 &&
              offsetof(RingHeader, superseded) == 72 && offsetof(RingHeader, record_format) == 80);

/// Where the path of the runtime directory is. A version that does not write it leaves zeros.
inline constexpr std::size_t ring_directory_offset = 2048;
inline constexpr std::size_t ring_directory_words = 256;
static_assert(sizeof(RingHeader) <= ring_directory_offset &&
              ring_directory_offset + 8 * ring_directory_words <= page_bytes);

/// A lane is `open` from its first owner on, and `closed` for ever once its owner left the ring.
enum class LaneState : std::uint64_t { unused = 0, open = 1, closed = 2 };

/// What all versions share of a lane's header.
inline constexpr std::size_t shared_lane_header_bytes = 192;

struct LaneHeader {
  LonelyWord tail;           ///< published bytes; grows only
  LonelyWord requests_tail;  ///< the same of the requests
  struct alignas(cache_line_bytes) {
    Word state;        ///< LaneState
    Word lock_device;  ///< of the lane's lock file, when the ring was made
    Word lock_inode;
    Word owner;         ///< process id, for people; ownership is the lock
    Word owners;        ///< how many there have been
    Word heartbeat_ns;  ///< monotonic; about once a second
    Word freed;         ///< the head that the owner has seen, noted before it reuses the space; 0: not known
    Word spare[1];
  } about;
  [[no_unique_address]] Gap<lane_gap_words> gap;
  Word statistics[frontend_statistics_words];
};
static_assert(sizeof(LaneHeader) == lane_header_bytes && offsetof(LaneHeader, requests_tail) == 64 &&
              offsetof(LaneHeader, about) == 128 &&
              offsetof(LaneHeader, statistics) == shared_lane_header_bytes + 8 * lane_gap_words);

/// Where things are in a ring of this shape.
struct RingShape {
  std::uint32_t lanes = 0;
  std::uint64_t lane_bytes = 0;
  std::uint32_t page_id_limit = 0;

  [[nodiscard]] constexpr std::size_t lane_header_offset(std::uint32_t lane) const noexcept {
    return page_bytes + lane * lane_header_bytes;
  }
  [[nodiscard]] constexpr std::size_t requests_offset(std::uint32_t lane) const noexcept {
    return round_up(lane_header_offset(lanes)) + lane * request_bytes;
  }
  [[nodiscard]] constexpr std::size_t records_offset(std::uint32_t lane) const noexcept {
    return requests_offset(lanes) + lane * lane_bytes;
  }
  [[nodiscard]] constexpr std::size_t question_offset(std::uint32_t lane) const noexcept {
    return records_offset(lanes) + lane * question_slot_bytes;
  }
  [[nodiscard]] constexpr std::size_t bytes() const noexcept { return question_offset(lanes); }

  friend bool operator==(const RingShape&, const RingShape&) = default;

 private:
  static constexpr std::size_t round_up(std::size_t bytes) noexcept {
    return (bytes + page_bytes - 1) / page_bytes * page_bytes;
  }
};

}  // namespace visitd
