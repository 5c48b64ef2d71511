// What the routes ask of the counting side.
#pragma once

#include <cstdint>
#include <string_view>

namespace visitd {

/// What became of a visit. full: the lane is full; closed: this frontend's ring is being left. Both are answered 503.
enum class Recorded { recorded, full, closed };

/// State of one read from its first try to its answer; zero at first.
struct CountRead {
  std::uint64_t deadline_ms = 0;
  std::uint64_t asked_at_ms = 0;  ///< when the flusher was last asked; 0: not yet, or it is to be asked again at once
  bool asked = false;             ///< the flusher was asked, so that the count is not one from memory
};

struct CountAnswer {
  /// stale: the last known count; unknown: 503 with Retry-After; damaged: the same, since Redis holds no count of the
  /// page; parked: try again when woken.
  enum class Kind { fresh, stale, unknown, damaged, parked };

  Kind kind = Kind::unknown;
  std::uint64_t count = 0;
  std::int64_t ttl_s = 0;  ///< seconds until the count is asked for again; stale: negative or 0, seconds past expiry
  std::string_view served_via;  ///< "in-memory" or the shard's name; valid until the next call
  std::string_view why;         ///< unknown: for the client's problem detail
};

/// Counts visits and reads counts. Called on the loop's thread alone.
class Counter {
 public:
  virtual ~Counter() = default;
  /// Publishes visits of a page; success is said to the client only after `recorded`.
  [[nodiscard]] virtual Recorded record(std::string_view page, std::uint32_t visits) noexcept = 0;
  /// `now_ms`: monotonic milliseconds, as the loop last saw them.
  [[nodiscard]] virtual CountAnswer read(std::string_view page, CountRead& state, std::uint64_t now_ms) noexcept = 0;
};

}  // namespace visitd
