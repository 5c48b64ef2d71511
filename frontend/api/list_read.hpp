// The counts of a list of pages, as they become known: a read that waits remembers which page it lacks. Knows no
// socket.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "frontend/api/counter.hpp"
#include "frontend/api/page_list.hpp"

namespace visitd {

/// How many pages a list has asked for ahead and not read: the counter hears of it when they are read, and at the end.
class AskedAhead {
 public:
  AskedAhead() noexcept = default;
  AskedAhead(AskedAhead&& from) noexcept
      : counter_(std::exchange(from.counter_, nullptr)), pages_(std::exchange(from.pages_, 0)) {}
  AskedAhead(const AskedAhead&) = delete;
  AskedAhead& operator=(AskedAhead&&) = delete;
  AskedAhead& operator=(const AskedAhead&) = delete;
  ~AskedAhead() { lower_to(0); }

  void add(Counter& counter) noexcept {
    counter_ = &counter;
    ++pages_;
  }
  void lower_to(std::size_t pages) noexcept {
    if (pages >= pages_) return;
    counter_->no_longer_ahead(pages_ - pages);
    pages_ = pages;
  }

 private:
  Counter* counter_ = nullptr;
  std::size_t pages_ = 0;
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
  [[nodiscard]] Progress go_on(Counter& counter, std::uint64_t now_ms);

  [[nodiscard]] const CountRead& awaits() const noexcept { return read_; }
  /// refused: kind and reason; `page()` is the one. Its texts live until the counter's next call.
  [[nodiscard]] const CountAnswer& refusal() const noexcept { return refusal_; }
  [[nodiscard]] std::string_view page() const noexcept { return pages_.page(counts_.size()); }

  /// How many pages' counts are known, from the first on.
  [[nodiscard]] std::size_t known() const noexcept { return counts_.size(); }
  [[nodiscard]] const PageList& pages() const noexcept { return pages_; }
  [[nodiscard]] std::uint64_t count(std::size_t entry) const noexcept { return counts_[entry]; }
  /// known: the answer of the page with the least TTL, which stands for the whole list.
  [[nodiscard]] CountAnswer least() const noexcept {
    CountAnswer answer = least_;
    answer.served_via = least_served_via_;
    return answer;
  }
  /// Gives back the pages; the rest is of no use then.
  [[nodiscard]] PageList take_pages() noexcept { return std::move(pages_); }

  /// Memory, about.
  [[nodiscard]] std::size_t bytes() const noexcept;

 private:
  [[nodiscard]] Progress read_on(Counter& counter, std::uint64_t now_ms);
  void gather_rest(Counter& counter) const;
  void take(const CountAnswer& answer);
  [[nodiscard]] CountAnswer read_page(Counter& counter, std::uint64_t now_ms);
  void ask_ahead(Counter& counter, std::uint64_t now_ms);
  void forget_asked() noexcept;
  void begin_page();
  [[nodiscard]] bool takes_turn(Counter& counter, std::uint64_t now_ms);

  PageList pages_;
  std::uint64_t timeout_ms_;
  std::uint64_t deadline_ms_;
  std::vector<std::uint64_t> counts_;  ///< of the first pages: all that are known
  std::vector<std::uint64_t> asked_;   ///< of each page that was looked at ahead: when it was asked for; 0: not
  AskedAhead asked_ahead_;             ///< of those in asked_ that are not read
  ListTurns::Turn turn_;               ///< from the first page on that it had to wait for
  std::uint64_t waits_since_ms_ = 0;   ///< for the first page that is lacking; 0: it does not
  CountRead read_;                     ///< of the first page that is lacking
  bool page_begun_ = false;
  CountAnswer least_;
  std::string least_served_via_;  ///< a copy: what the counter gives lives until its next call
  CountAnswer refusal_;
  std::string why_;  ///< what refusal_ shows where the list itself says it
};

}  // namespace visitd
