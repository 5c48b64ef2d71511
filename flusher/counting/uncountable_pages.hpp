// The pages that Redis cannot count: their field is no integer, or has no room for their visits. Remembers them, within
// a bound, so that each is said once. Decides; knows no clock, loop or socket.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/shm/statistics.hpp"

namespace visitd {

class UncountablePages {
 public:
  /// The most pages that are remembered; what is beyond is answered as damaged all the same, and is not named.
  static constexpr std::size_t limit = 4096;

  enum class Change : std::uint8_t { refused, unreadable, too_large, countable };
  struct News {
    std::string page;
    Change change = Change::unreadable;
  };

  explicit UncountablePages(FlusherStatistics statistics) : statistics_(statistics) {}

  /// Visits of the page were put aside in a former life.
  void recover(std::string_view page, std::uint64_t visits);
  /// A former life found the page damaged.
  void recover_damaged(std::string_view page);
  /// Visits of the page are put aside by the transaction that becomes durable next. Until then they may come back with
  /// the next life, and no count without them may be shown.
  void set_aside(std::string_view page, std::uint64_t visits);
  void aside_is_durable() noexcept { undurable_.clear(); }
  /// Redis says of the page what is no count.
  void unreadable(std::string_view page);
  /// Redis says a count. False: it is not the page's count, since it has no room for the visits that were put aside, or
  /// these are not put aside durably yet.
  [[nodiscard]] bool counted(std::string_view page, std::uint64_t count);

  /// What is known of one page, for people; "": nothing is wrong with it.
  [[nodiscard]] std::string_view fault(std::string_view page) const;
  [[nodiscard]] std::uint64_t visits_aside(std::string_view page) const;
  /// The first pages that cannot be counted.
  [[nodiscard]] std::vector<std::string> names(std::size_t most) const;
  /// Some of the pages that cannot be counted, others with each call: Redis is to be asked whether they can be now.
  [[nodiscard]] std::vector<std::string> to_ask_again();
  /// What changed since the last call, to be said once.
  [[nodiscard]] std::vector<News> take_news() { return std::exchange(news_, {}); }

 private:
  struct Known {
    std::uint64_t aside = 0;  ///< visits
    Change state = Change::countable;
  };
  using Pages = std::map<std::string, Known, std::less<>>;

  [[nodiscard]] Pages::iterator find_or_add(std::string_view page);
  void change(Pages::iterator known, Change state);

  FlusherStatistics statistics_;
  Pages pages_;
  std::set<std::string, std::less<>> undurable_;  ///< pages of the transaction that is not durable yet
  std::uint64_t damaged_ = 0;
  std::vector<News> news_;
  std::string asked_last_;
};

/// Why a page cannot be counted, for people; "" where it can.
[[nodiscard]] std::string_view describe(UncountablePages::Change change) noexcept;

}  // namespace visitd
