// Deadlines of many, in order, without a timer for each: all members of a list wait equally long, so whoever comes last
// is due last.
#pragma once

#include <cstdint>

namespace visitd {

/// A member of at most one list; it leaves the list when it goes.
class DeadlineMember {
 public:
  DeadlineMember() noexcept = default;
  DeadlineMember(const DeadlineMember&) = delete;
  DeadlineMember& operator=(const DeadlineMember&) = delete;
  ~DeadlineMember() { leave(); }

  void leave() noexcept {
    previous_->next_ = next_;
    next_->previous_ = previous_;
    previous_ = next_ = this;
  }
  /// Milliseconds, of the clock that join() was told.
  [[nodiscard]] std::uint64_t deadline_ms() const noexcept { return deadline_ms_; }

 private:
  friend class DeadlineList;
  DeadlineMember* previous_ = this;
  DeadlineMember* next_ = this;
  std::uint64_t deadline_ms_ = 0;
};

class DeadlineList {
 public:
  explicit DeadlineList(std::uint64_t wait_ms) noexcept : wait_ms_(wait_ms) {}

  /// Puts a member, of this list or another, at the end.
  void join(DeadlineMember& member, std::uint64_t now_ms) noexcept {
    member.leave();
    member.deadline_ms_ = now_ms + wait_ms_;
    member.previous_ = ends_.previous_;
    member.next_ = &ends_;
    ends_.previous_->next_ = &member;
    ends_.previous_ = &member;
  }
  /// All of them wait so long from now on, counted from when each joined.
  void set_wait(std::uint64_t wait_ms) noexcept {
    for (DeadlineMember* member = ends_.next_; member != &ends_; member = member->next_) {
      member->deadline_ms_ = member->deadline_ms_ - wait_ms_ + wait_ms;
    }
    wait_ms_ = wait_ms;
  }
  /// Takes all members of the other list, in their order, behind its own.
  void take_all(DeadlineList& other) noexcept {
    if (other.empty()) return;
    DeadlineMember& first = *other.ends_.next_;
    DeadlineMember& last = *other.ends_.previous_;
    other.ends_.leave();
    first.previous_ = ends_.previous_;
    ends_.previous_->next_ = &first;
    last.next_ = &ends_;
    ends_.previous_ = &last;
  }
  [[nodiscard]] bool empty() const noexcept { return ends_.next_ == &ends_; }
  /// The one that is due first; nullptr: nobody.
  [[nodiscard]] DeadlineMember* first() const noexcept { return next(ends_); }
  /// The one that is due after a member; nullptr: it is the last.
  [[nodiscard]] DeadlineMember* next(const DeadlineMember& member) const noexcept {
    return member.next_ == &ends_ ? nullptr : member.next_;
  }

 private:
  std::uint64_t wait_ms_;
  DeadlineMember ends_;
};

}  // namespace visitd
