// What the routes answer from: who records visits, who knows counts, and how the host is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "common/control/owner_question.hpp"
#include "frontend/api/host_status.hpp"
#include "frontend/api/list_turns.hpp"

namespace visitd {

/// What became of a visit. full: the lane is full; closed: this frontend's ring is being left. Both are answered 503.
enum class Recorded { recorded, full, closed };

/// State of one read from its first try to its answer; zero at first.
struct CountRead {
  std::uint64_t deadline_ms = 0;  ///< not 0 from the first try on
  std::uint64_t asked_at_ms = 0;  ///< when the flusher was last asked; 0: not yet, or it is to be asked again at once
  bool asked = false;             ///< the flusher was asked, so that the count is not one from memory
  bool is_of_list = false;        ///< leaves room among the requests to reads of one page
  std::uint64_t turn = 0;         ///< is_of_list: its list's number in list_turns(); 0: it has not asked for a turn
  bool wants_room = false;        ///< more is to be asked once the list's turn has come and lists have room
  // Of a parked read: what concerns it.
  std::uint64_t retry_at_ms = 0;  ///< at the latest it is tried again then
  std::uint64_t hash = 0;         ///< of the page that it waits for
  std::uint64_t chain_mark = 0;   ///< of the page's chain in the view, as it was when the read was parked
  std::uint64_t outlook = 0;      ///< what was known of cache and shards then
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

  /// Whether `count` may be shown.
  [[nodiscard]] bool has_count() const noexcept { return kind == Kind::fresh || kind == Kind::stale; }
};

/// Records visits. Called on the loop's thread alone.
class VisitRecorder {
 public:
  virtual ~VisitRecorder() = default;
  /// Publishes visits of a page, at least 1; success is said to the client only after `recorded`. The page id has been
  /// checked.
  [[nodiscard]] virtual Recorded record(std::string_view page, std::uint32_t visits) noexcept = 0;
  /// Publishes one visit of each of these pages, or of none of them. As above.
  [[nodiscard]] virtual Recorded record_together(std::span<const std::string_view> pages) noexcept = 0;
  /// Notes visits that are answered as if they had been recorded.
  virtual void ignore(std::uint64_t visits) noexcept = 0;
};

/// Knows counts, or asks for them. Called on the loop's thread alone.
class CountSource {
 public:
  virtual ~CountSource() = default;
  /// The count of a page whose id has been checked, or `parked`. `state`: of this read, from its first try on.
  /// `now_ms`: monotonic milliseconds, as the loop last saw them.
  [[nodiscard]] virtual CountAnswer read(std::string_view page, CountRead& state, std::uint64_t now_ms) noexcept = 0;

  /// Whether it is known at once that the page has visits, however old its count may be.
  [[nodiscard]] virtual bool is_known(std::string_view page, std::uint64_t now_ms) noexcept = 0;

  /// Whether another try of a parked read could come to something. Cheap: it reads no page id.
  [[nodiscard]] virtual bool concerns(const CountRead& state, std::uint64_t now_ms) noexcept = 0;

  /// Whether reading each page of a list by itself would be dear now.
  [[nodiscard]] virtual bool gathers() const noexcept = 0;
  /// These pages are read next, in this order: what is dear is done once for all of them. They live until forget().
  virtual void gather(std::span<const std::string_view> pages) noexcept = 0;
  virtual void forget() noexcept = 0;

  /// Which lists may ask: a read of a list asks for no page before the list's turn has come.
  [[nodiscard]] virtual ListTurns& list_turns() noexcept = 0;

  /// How many pages of a list may be asked for behind the first one that it lacks: their answers come together, and
  /// none is to have left the cache again before it is read. `longest`: bytes of the list's longest page id.
  [[nodiscard]] virtual std::size_t list_window(std::size_t longest) const noexcept = 0;

  /// What ahead() found of a page. full: what was asked before is to be taken first.
  enum class Ahead : std::uint8_t { known, asked, full };
  /// Of a page of a list that will be read soon: asks the flusher for it where its count is not known.
  [[nodiscard]] virtual Ahead ahead(std::string_view page, std::uint64_t now_ms) noexcept = 0;
  /// So many pages that were asked for ahead have been read, or are given up: others may be asked for.
  virtual void no_longer_ahead(std::size_t pages) noexcept = 0;
};

/// What the owner asks the flusher for. Called on the loop's thread alone.
class Questions {
 public:
  virtual ~Questions() = default;
  /// Asks it once all that was asked before is answered. Its number; 0: too many wait already.
  [[nodiscard]] virtual std::uint64_t ask(const OwnerQuestion& question) = 0;
  /// What was answered, once; nullopt: nothing yet. Throws Error where it is no answer.
  [[nodiscard]] virtual std::optional<OwnerAnswer> take_answer(std::uint64_t number) = 0;
  /// Whether it is answered, or nobody waits for it any more.
  [[nodiscard]] virtual bool concerns(std::uint64_t number, std::uint64_t now_ms) noexcept = 0;
  /// Whoever asked has gone, or has its answer. A number that was not given is nobody's.
  virtual void forget(std::uint64_t number) noexcept = 0;
};

struct Route;
/// The routes in the shape of another counter, by the shape's name in http.shapes; they live for ever.
using ShapeTable = std::span<const Route> (*)(std::string_view shape);

/// All of it. What is referred to outlives whoever has this.
struct Backend {
  VisitRecorder& recorder;
  CountSource& counts;
  Questions& questions;
  const HostStatus& host;
  ShapeTable shape_table = nullptr;  ///< nullptr: no shapes are known
};

}  // namespace visitd
