// What the owner asks for in one request, from the first question to the flusher until the answer.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "common/control/page_lines.hpp"
#include "common/os/wide_sum.hpp"
#include "frontend/api/backend.hpp"

namespace visitd {

/// Pages as the flusher lists them, in pieces: the first ones behind a place in the order of their names, and the sum
/// of all.
class OwnerList {
 public:
  /// Of the pages that begin with `prefix`, the first `limit` behind `after`.
  OwnerList(std::string prefix, std::string after, std::size_t limit);
  OwnerList(const OwnerList&) = delete;
  OwnerList& operator=(const OwnerList&) = delete;

  /// One more piece. Where the next one begins; empty: that was all. Throws Error where it is none.
  [[nodiscard]] std::string take(const ControlAnswer& piece);

  /// Why pages are missing, for people; empty: none are.
  [[nodiscard]] std::string incomplete() const;
  /// The first ones by name. A page without a count: Redis holds no number of it.
  [[nodiscard]] const std::map<std::string, std::optional<std::uint64_t>>& first() const noexcept { return first_; }
  /// Whether there are more than those.
  [[nodiscard]] bool has_more() const noexcept { return behind_ > first_.size(); }
  [[nodiscard]] std::uint64_t unknown_pages() const noexcept { return unknown_pages_; }
  [[nodiscard]] const WideSum& sum() const noexcept { return sum_; }

 private:
  void add(std::string_view page, std::optional<std::uint64_t> count);

  std::string prefix_;
  std::string after_;
  std::size_t limit_;
  PageLines lines_;
  std::map<std::string, std::optional<std::uint64_t>> first_;
  std::uint64_t behind_ = 0;  ///< pages that begin with the prefix, behind `after`
  std::uint64_t unknown_pages_ = 0;
  WideSum sum_;
};

/// What the owner wants to become of a page's count.
struct CountChange {
  enum class Kind : std::uint8_t {
    set,    ///< it becomes `count`
    add,    ///< it becomes `count` more, durably and at once: what it comes to is to be read
    lower,  ///< it becomes `count` less; where that is below 0, it stays
  };
  Kind kind = Kind::set;
  std::uint64_t count = 0;
  friend bool operator==(const CountChange&, const CountChange&) = default;
};

/// What became of it.
struct ChangedCount {
  std::uint64_t before = 0;  ///< of `add`: 0
  std::uint64_t after = 0;   ///< of `add`: what was added
  bool is_below_0 = false;   ///< it would have been: it stays
};

class OwnerCall {
 public:
  /// `asked`: who asks, and until when; the request is filled in with each question.
  OwnerCall(Questions& questions, OwnerQuestion asked) : questions_(questions), asked_(std::move(asked)) {}
  OwnerCall(const OwnerCall&) = delete;
  OwnerCall& operator=(const OwnerCall&) = delete;
  ~OwnerCall() { questions_.forget(number_); }

  /// False: too many questions wait already.
  [[nodiscard]] bool ask(ControlCommand command, std::string argument, std::uint64_t now_ms);
  /// What was answered to the last question; nullopt: nothing yet.
  [[nodiscard]] std::optional<OwnerAnswer> take_answer() { return questions_.take_answer(number_); }
  [[nodiscard]] bool is_late(std::uint64_t now_ms) const noexcept { return now_ms >= asked_.until_ms; }
  [[nodiscard]] bool concerns(std::uint64_t now_ms) const noexcept { return questions_.concerns(number_, now_ms); }

  std::optional<OwnerList> list;        ///< what has been listed so far
  std::optional<CountChange> change;    ///< that is asked for
  std::optional<ChangedCount> changed;  ///< what became of it, as soon as that is known

 private:
  Questions& questions_;
  OwnerQuestion asked_;
  std::uint64_t number_ = 0;
};

}  // namespace visitd
