#include "frontend/api/list_turns.hpp"

namespace visitd {

ListTurns::Turn ListTurns::wait(std::size_t pages) {
  const std::uint64_t number = numbers_ + 1;
  waiting_.emplace(number, pages);
  numbers_ = number;
  go_on();
  return {*this, number, pages};
}

void ListTurns::Turn::lend() noexcept {
  if (turns_ == nullptr || pages_ == 0 || !turns_->has_come(number_)) return;
  turns_->free(std::exchange(pages_, 0));
}

void ListTurns::leave(std::uint64_t number, std::size_t pages) noexcept {
  if (has_come(number)) return free(pages);
  waiting_.erase(number);
}

void ListTurns::free(std::size_t pages) noexcept {
  pages_ -= pages;
  go_on();
}

void ListTurns::go_on() noexcept {
  while (!waiting_.empty()) {
    const auto [number, pages] = *waiting_.begin();
    if (pages_ != 0 && pages_ + pages > most_pages_) return;
    pages_ += pages;
    last_ = number;
    waiting_.erase(waiting_.begin());
  }
}

}  // namespace visitd
