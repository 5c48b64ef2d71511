// Lists the pages of all buckets in pieces, each with the place where the next one begins: what visitctl asks for when
// it lists pages. Counts are those that a read says: what the shard holds, and what is pending here. Decides; knows no
// clock, loop or socket.
//
// Within a bucket, a page that exists when its list begins is listed. Either the shard holds it all the time, and then
// HSCAN names it; or it is pending here, and then it is listed at the beginning, before HSCAN has passed anything: once
// its visits are acknowledged, HSCAN may name it or not. If it does, with another count, that count holds.
//
// The shard rests between bursts of commands: it lists so many pages a second at most, and rests at least as long as it
// took to answer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "flusher/counting/batches.hpp"
#include "flusher/counting/open_visits.hpp"
#include "flusher/counting/pending_pages.hpp"
#include "flusher/counting/placement.hpp"
#include "flusher/counting/shard_session.hpp"
#include "flusher/counting/uncountable_pages.hpp"

namespace visitd {

/// Where a list of pages goes on.
struct ScanPlace {
  enum class In : std::uint8_t {
    start,    ///< at the bucket's beginning
    pending,  ///< among its many pending pages, behind the hash `at`
    shard,    ///< in the shard's hash, at HSCAN's cursor `at`
  };
  std::uint32_t bucket = 0;
  In in = In::start;
  std::uint64_t at = 0;
  std::uint64_t source = 0;  ///< what `at` is good for; see ScanPort::source
  friend bool operator==(const ScanPlace&, const ScanPlace&) = default;
};
/// "17", "17 p HASH SOURCE" or "17 s CURSOR SOURCE".
[[nodiscard]] std::string to_text(const ScanPlace& place);
/// Throws Error where the text is something else.
[[nodiscard]] ScanPlace parse_scan_place(std::string_view text);

/// What a scan needs from outside.
class ScanPort {
 public:
  virtual ~ScanPort() = default;
  /// Whether the shard can be asked.
  [[nodiscard]] virtual ShardState state(std::uint32_t shard) const = 0;
  [[nodiscard]] virtual const std::string& name(std::uint32_t shard) const = 0;
  /// Another number once a cursor of the shard, or a hash of a pending page, says nothing any more.
  [[nodiscard]] virtual std::uint64_t source(std::uint32_t shard) const = 0;
  /// As ShardSession::list_pages, of the shard where the bucket is.
  virtual bool list_pages(const AskPages& asked, std::function<void(ShardSession::SomePages)> done) = 0;
  /// Microseconds of a clock that never goes back.
  [[nodiscard]] virtual std::uint64_t now_us() const = 0;
};

/// The deciders that know what is pending.
struct PendingParts {
  const Placement& placement;
  const PendingPages& pages;
  OpenVisits& open;
  const Batches& batches;
  UncountablePages& uncountable;
  std::uint64_t hash_seed = 0;
};

class PageScan {
 public:
  /// `pages_per_s`: the most that one shard lists.
  PageScan(PendingParts parts, std::uint32_t pages_per_s, ScanPort& port);

  void use(std::uint32_t pages_per_s) noexcept { pages_per_s_ = pages_per_s; }

  struct Told {
    std::string lines;           ///< see PageLinesReader
    std::string next;            ///< where the next piece begins; empty: that was all
    std::uint32_t buckets = 0;   ///< how many there are
    std::uint32_t finished = 0;  ///< so many of them are listed
  };
  /// One more piece, of about a sixteenth of `answer_bytes`, and always less than all. What cannot be asked by
  /// then is said to be unknown.
  void begin(const ScanPlace& from, std::uint64_t until_ms, std::size_t answer_bytes, std::function<void(Told)> done);
  /// Goes on; called in each turn while there are pieces.
  void tick(std::uint64_t now_ms);
  [[nodiscard]] bool is_idle() const noexcept { return pieces_.empty(); }

 private:
  /// One bucket of a piece.
  struct Part {
    ScanPlace place;         ///< where it goes on
    std::string lines = {};  ///< listed by this piece
    bool asking = false;
    bool over = false;
    const char* waits_for = "its shard did not answer in time";
  };
  struct Piece {
    std::deque<Part> parts;  ///< buckets in order
    std::uint64_t until_ms = 0;
    std::size_t bytes = 0;  ///< about so many make a piece
    std::size_t asking = 0;
    bool full = false;  ///< no further buckets
    std::function<void(Told)> done;
  };
  struct Shard {
    std::size_t asking = 0;
    std::size_t asked = 0;       ///< in this burst
    std::size_t pages = 0;       ///< that this burst has listed
    std::uint64_t begun_us = 0;  ///< the burst
    std::uint64_t rests_until_us = 0;
    std::uint64_t away_since_ms = 0;  ///< 0: it is not
    std::uint64_t looked_ms = 0;
  };

  void advance(const std::shared_ptr<Piece>& piece);
  void add_parts(Piece& piece);
  void step(const std::shared_ptr<Piece>& piece, std::size_t index);
  [[nodiscard]] std::string why_unknown(std::uint32_t shard);
  [[nodiscard]] bool may_be_asked(std::uint32_t shard) const;
  void list_pending(Part& part);
  void ask(const std::shared_ptr<Piece>& piece, std::size_t index, std::uint32_t shard);
  void on_pages(Part& part, const ShardSession::SomePages& some);
  void list(Part& part, const Pages& pages);
  [[nodiscard]] std::vector<std::uint32_t> pending_of(std::uint32_t bucket) const;
  void begin_lines(Part& part) const;
  static void give_up(Part& part, std::string_view why);
  void tell(Piece& piece);

  PendingParts parts_;
  std::uint32_t pages_per_s_;
  ScanPort& port_;
  std::vector<Shard> shards_;
  std::vector<std::shared_ptr<Piece>> pieces_;
  std::uint64_t now_ms_ = 0;
  std::size_t bucket_bytes_;  ///< what a bucket takes, as seen last
};

}  // namespace visitd
