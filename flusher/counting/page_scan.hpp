// Lists the pages of all buckets in pieces, each with the place where the next one begins: what visitctl asks for when
// it lists pages. Counts are those that a read says: what the shard holds, and what is pending here. Decides; knows no
// clock, loop or socket.
//
// Within a bucket, a page that exists when its list begins is listed. Either the shard holds it all the time, and then
// HSCAN names it; or it is pending here, and then it is listed at the beginning, before HSCAN has passed anything: once
// its visits are acknowledged, HSCAN may name it or not. If it does, with another count, that count holds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "flusher/counting/askable_shards.hpp"
#include "flusher/counting/pending_parts.hpp"
#include "flusher/counting/shard_session.hpp"

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

class PageScan {
 public:
  PageScan(PendingParts parts, AskableShards& shards, ScanPort& port);

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

  void advance(const std::shared_ptr<Piece>& piece);
  void add_parts(Piece& piece);
  void step(const std::shared_ptr<Piece>& piece, std::size_t index);
  void list_pending(Part& part);
  void ask(const std::shared_ptr<Piece>& piece, std::size_t index, std::uint32_t shard);
  void on_pages(Part& part, const ShardSession::SomePages& some);
  void list(Part& part, const Pages& pages);
  void begin_lines(Part& part) const;
  static void give_up(Part& part, std::string_view why);
  void tell(Piece& piece);

  PendingParts parts_;
  AskableShards& shards_;
  ScanPort& port_;
  std::vector<std::shared_ptr<Piece>> pieces_;
  std::uint64_t now_ms_ = 0;
  std::size_t bucket_bytes_;  ///< what a bucket takes, as seen last
};

}  // namespace visitd
