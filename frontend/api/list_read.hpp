// The counts of a list of pages, as they become known: a read that waits remembers which page it lacks. Knows no
// socket.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "frontend/api/backend.hpp"
#include "frontend/api/count_stream.hpp"
#include "frontend/api/owner_call.hpp"
#include "frontend/api/page_list.hpp"

namespace visitd {

/// How many pages a list has asked for ahead and not read: the source hears of it when they are read, and at the end.
class AskedAhead {
 public:
  AskedAhead() noexcept = default;
  AskedAhead(AskedAhead&& from) noexcept
      : source_(std::exchange(from.source_, nullptr)), pages_(std::exchange(from.pages_, 0)) {}
  AskedAhead(const AskedAhead&) = delete;
  AskedAhead& operator=(AskedAhead&&) = delete;
  AskedAhead& operator=(const AskedAhead&) = delete;
  ~AskedAhead() { lower_to(0); }

  void add(CountSource& source) noexcept {
    source_ = &source;
    ++pages_;
  }
  void lower_to(std::size_t pages) noexcept {
    if (pages >= pages_) return;
    source_->no_longer_ahead(pages_ - pages);
    pages_ = pages;
  }

 private:
  CountSource* source_ = nullptr;
  std::size_t pages_ = 0;
};

/// The counts of a list's first pages, as far as they are known, and what is told of all of them together.
class ListCounts {
 public:
  /// Of the next page.
  void add(const CountAnswer& answer);

  [[nodiscard]] std::size_t size() const noexcept { return counts_.size(); }
  [[nodiscard]] std::uint64_t of(std::size_t entry) const noexcept { return counts_[entry]; }
  /// The answer of the page with the least TTL, which stands for the whole list.
  [[nodiscard]] CountAnswer least_fresh() const noexcept {
    CountAnswer answer = least_fresh_;
    answer.served_via = served_via_;
    return answer;
  }

  void reserve(std::size_t pages) { counts_.reserve(pages); }
  /// Memory that it holds.
  [[nodiscard]] std::size_t bytes() const noexcept { return counts_.capacity() * sizeof(std::uint64_t); }

 private:
  std::vector<std::uint64_t> counts_;
  CountAnswer least_fresh_;
  std::string served_via_;  ///< a copy: what the source gives lives until its next call
};

class ListRead {
 public:
  /// known: all of it. parked: it waits for what awaits() says. paused: it has had its share of a turn, and could go on
  /// at once. refused: a page has no count; see refusal().
  enum class Progress : std::uint8_t { known, parked, paused, refused };

  /// The read is given up `timeout_ms` after `now_ms`, also while other lists come first.
  ListRead(PageList pages, std::uint64_t now_ms, std::uint64_t timeout_ms)
      : pages_(std::move(pages)), timeout_ms_(timeout_ms), deadline_ms_(now_ms + timeout_ms) {}

  /// Reads from the first page on that it lacks, and asks for those behind it.
  [[nodiscard]] Progress go_on(CountSource& source, std::uint64_t now_ms);

  [[nodiscard]] const CountRead& awaits() const noexcept { return read_; }
  /// refused: kind and reason; `asked()` is the id of the one. Its texts live until the source's next call.
  [[nodiscard]] const CountAnswer& refusal() const noexcept { return refusal_; }
  [[nodiscard]] std::string_view asked() const noexcept { return pages_.asked(counts_.size()); }

  [[nodiscard]] const PageList& pages() const noexcept { return pages_; }
  [[nodiscard]] const ListCounts& counts() const noexcept { return counts_; }
  /// Gives back the pages; the rest is of no use then.
  [[nodiscard]] PageList take_pages() noexcept { return std::move(pages_); }

  /// Memory, about.
  [[nodiscard]] std::size_t bytes() const noexcept;

 private:
  [[nodiscard]] std::string_view page() const noexcept { return pages_.page(counts_.size()); }
  [[nodiscard]] Progress read_on(CountSource& source, std::uint64_t now_ms);
  void gather_rest(CountSource& source) const;
  [[nodiscard]] CountAnswer read_page(CountSource& source, std::uint64_t now_ms);
  void ask_ahead(CountSource& source, std::uint64_t now_ms);
  void forget_asked() noexcept;
  void begin_page();
  [[nodiscard]] bool takes_turn(CountSource& source, std::uint64_t now_ms);

  PageList pages_;
  std::uint64_t timeout_ms_;
  std::uint64_t deadline_ms_;
  ListCounts counts_;
  std::vector<std::uint64_t> asked_;  ///< of each page that was looked at ahead: when it was asked for; 0: not
  AskedAhead asked_ahead_;            ///< of those in asked_ that are not read
  ListTurns::Turn turn_;              ///< from the first page on that it had to wait for
  std::uint64_t waits_since_ms_ = 0;  ///< for the first page that is lacking; 0: it does not
  CountRead read_;                    ///< of the first page that is lacking
  bool page_begun_ = false;
  CountAnswer refusal_;
  std::string why_;  ///< what refusal_ shows where the list itself says it
};

/// A request's read of one page or of a list, from its first try to its answer: kept while it is parked.
struct PendingRead {
  CountRead page;
  std::unique_ptr<ListRead> list;       ///< nullptr: one page is read, or none
  std::string kept_body;                ///< of a handler that needs it again: a request that goes on has none
  std::unique_ptr<OwnerCall> owner;     ///< nullptr: it is no request of an owner, or has not begun
  std::unique_ptr<CountStream> stream;  ///< nullptr: its answer does not come in pieces, or has not begun
  bool has_waited = false;              ///< for the flusher
  bool visit_recorded = false;          ///< the request's visit is, and its count is awaited

  /// Whether another try could come to something.
  [[nodiscard]] bool could_go_on(CountSource& source, std::uint64_t now_ms) const noexcept {
    if (owner != nullptr && !owner->changed) return owner->concerns(now_ms);
    if (stream != nullptr && page.deadline_ms == 0) return stream->is_due(now_ms);
    return source.concerns(list != nullptr ? list->awaits() : page, now_ms);
  }
  /// Pages of a list whose counts are known: more of them are progress.
  [[nodiscard]] std::size_t known() const noexcept { return list == nullptr ? 0 : list->counts().size(); }
  /// It was answered: the next request's is another.
  void end() noexcept {
    if (page.deadline_ms != 0) page = {};
    if (list != nullptr) list.reset();
    if (owner != nullptr) owner.reset();
    if (stream != nullptr) stream.reset();
    if (!kept_body.empty()) kept_body = {};
    has_waited = visit_recorded = false;
  }
};

}  // namespace visitd
