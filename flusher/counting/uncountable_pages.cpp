#include "flusher/counting/uncountable_pages.hpp"

#include "common/shm/cache_layout.hpp"

namespace visitd {

std::string_view describe(UncountablePages::Change change) noexcept {
  switch (change) {
    case UncountablePages::Change::refused:
      return "its field in Redis is no integer, or has no room for its visits";
    case UncountablePages::Change::unreadable:
      return "its field in Redis holds no integer from 0 to 9223372036854775807";
    case UncountablePages::Change::too_large:
      return "its count would pass 9223372036854775807, the most that Redis can hold";
    case UncountablePages::Change::countable:
      break;
  }
  return "";
}

void UncountablePages::recover(std::string_view page, std::uint64_t visits) {
  const auto known = find_or_add(page);
  if (known != pages_.end()) known->second.aside += visits;
}

void UncountablePages::recover_damaged(std::string_view page) {
  const auto known = find_or_add(page);
  if (known != pages_.end() && known->second.state == Change::countable) change(known, Change::refused);
}

void UncountablePages::set_aside(std::string_view page, std::uint64_t visits) {
  undurable_.emplace(page);
  const auto known = find_or_add(page);
  if (known == pages_.end()) return;
  known->second.aside += visits;
  if (known->second.state == Change::countable) change(known, Change::refused);
}

void UncountablePages::unreadable(std::string_view page) {
  const auto known = find_or_add(page);
  if (known != pages_.end()) change(known, Change::unreadable);
}

bool UncountablePages::counted(std::string_view page, std::uint64_t count) {
  if (pages_.empty() && undurable_.empty()) return true;
  if (undurable_.contains(page)) return false;
  const auto known = pages_.find(page);
  if (known == pages_.end()) return true;
  const bool has_room = count <= count_limit && known->second.aside <= count_limit - count;
  change(known, has_room ? Change::countable : Change::too_large);
  return has_room;
}

std::string_view UncountablePages::fault(std::string_view page) const {
  const auto known = pages_.find(page);
  return known == pages_.end() ? std::string_view() : describe(known->second.state);
}

std::uint64_t UncountablePages::visits_aside(std::string_view page) const {
  const auto known = pages_.find(page);
  return known == pages_.end() ? 0 : known->second.aside;
}

std::vector<std::string> UncountablePages::names(std::size_t most) const {
  std::vector<std::string> names;
  for (auto page = pages_.begin(); page != pages_.end() && names.size() < most; ++page) {
    if (page->second.state != Change::countable) names.push_back(page->first);
  }
  return names;
}

std::vector<std::string> UncountablePages::to_ask_again() {
  constexpr std::size_t at_once = 64;
  std::vector<std::string> pages;
  auto next = pages_.upper_bound(asked_last_);
  for (std::size_t looked = 0; looked < pages_.size() && pages.size() < at_once && damaged_ != 0; ++looked, ++next) {
    if (next == pages_.end()) next = pages_.begin();
    if (next->second.state != Change::countable) pages.push_back(next->first);
  }
  if (!pages.empty()) asked_last_ = pages.back();
  return pages;
}

UncountablePages::Pages::iterator UncountablePages::find_or_add(std::string_view page) {
  const auto known = pages_.find(page);
  if (known != pages_.end() || pages_.size() >= limit) return known;
  return pages_.emplace(page, Known{}).first;
}

void UncountablePages::change(Pages::iterator known, Change state) {
  if (known->second.state == state) return;
  if (known->second.state == Change::countable) ++damaged_;
  if (state == Change::countable) --damaged_;
  known->second.state = state;
  statistics_.set(FlusherStatistic::pages_uncountable, damaged_);
  // Bounded also where nobody takes them.
  if (news_.size() < limit) news_.push_back({known->first, state});
  // What was put aside stays known: a count that was near the limit has no more room than before.
  if (state == Change::countable && known->second.aside == 0) pages_.erase(known);
}

}  // namespace visitd
