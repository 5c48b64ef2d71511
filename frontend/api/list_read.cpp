#include "frontend/api/list_read.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace visitd {

namespace {

/// Looks at counts in one turn: others wait no longer than these take.
constexpr std::size_t looks_a_turn = 1024;
/// A list whose page is not answered for so long lends its turn: its shard is slow or away, and lists of others' pages
/// go on.
constexpr std::uint64_t lend_after_ms = 1000;

}  // namespace

void ListCounts::add(const CountAnswer& answer) {
  if (counts_.empty() || answer.ttl_s < least_fresh_.ttl_s) {
    least_fresh_ = answer;
    served_via_ = answer.served_via;
  }
  counts_.push_back(answer.count);
}

ListRead::Progress ListRead::go_on(CountSource& source, std::uint64_t now_ms) {
  const Progress progress = read_on(source, now_ms);
  source.forget();
  // Behind the page that is read next: it was asked for by itself.
  asked_ahead_.lower_to(asked_.size() > counts_.size() ? asked_.size() - counts_.size() : 0);
  return progress;
}

ListRead::Progress ListRead::read_on(CountSource& source, std::uint64_t now_ms) {
  read_.wants_room = false;
  for (std::size_t looks = 0; counts_.size() < pages_.size(); ++looks) {
    if (looks == looks_a_turn) return Progress::paused;
    // The first page's read has shown how long the backlog is.
    if (looks == 1 && source.gathers()) gather_rest(source);
    if (!page_begun_) begin_page();
    const CountAnswer answer = read_page(source, now_ms);
    if (answer.kind == CountAnswer::Kind::unknown || answer.kind == CountAnswer::Kind::damaged) {
      refusal_ = answer;
      return Progress::refused;
    }
    if (answer.kind == CountAnswer::Kind::parked) {
      if (now_ms >= deadline_ms_) {
        why_ = fmt::format("other lists were read for the {} ms that http.list_timeout_ms allows", timeout_ms_);
        refusal_ = {CountAnswer::Kind::unknown, 0, 0, {}, why_};
        return Progress::refused;
      }
      if (takes_turn(source, now_ms)) continue;
      ask_ahead(source, now_ms);
      return Progress::parked;
    }
    if (counts_.size() == 0) counts_.reserve(pages_.size());
    counts_.add(answer);
    page_begun_ = false;
  }
  return Progress::known;
}

void ListRead::gather_rest(CountSource& source) const {
  std::vector<std::string_view> rest;
  const std::size_t end = std::min(pages_.size(), counts_.size() + looks_a_turn);
  rest.reserve(end - counts_.size());
  for (std::size_t entry = counts_.size(); entry < end; ++entry) rest.push_back(pages_.page(entry));
  source.gather(rest);
}

void ListRead::begin_page() {
  page_begun_ = true;
  waits_since_ms_ = 0;
  read_ = {};
  read_.is_of_list = true;
  if (counts_.size() < asked_.size()) read_.asked_at_ms = asked_[counts_.size()];
  read_.asked = read_.asked_at_ms != 0;
  read_.turn = turn_.number();
}

CountAnswer ListRead::read_page(CountSource& source, std::uint64_t now_ms) {
  const bool asked = read_.asked;
  const std::uint64_t asked_at_ms = read_.asked_at_ms;
  const CountAnswer answer = source.read(page(), read_, now_ms);
  // Asked again, since no answer came: the flusher lost what it was asked, as where it began or its shard was away, and
  // with it what it was asked ahead.
  if (asked && read_.asked_at_ms != 0 && read_.asked_at_ms != asked_at_ms) forget_asked();
  return answer;
}

void ListRead::forget_asked() noexcept {
  asked_.resize(std::min(asked_.size(), counts_.size()));
  asked_ahead_.lower_to(0);
}

/// Of a list that has to wait. True: its turn has come just now, so that the page can be asked for.
bool ListRead::takes_turn(CountSource& source, std::uint64_t now_ms) {
  if (turn_.number() != 0) {
    if (read_.wants_room || waits_since_ms_ == 0) {
      waits_since_ms_ = now_ms;
    } else if (now_ms >= waits_since_ms_ + lend_after_ms) {
      turn_.lend();
    }
    return false;
  }
  turn_ = source.list_turns().wait(std::min(pages_.size(), source.list_window(pages_.longest())));
  read_.turn = turn_.number();
  return read_.wants_room && source.list_turns().has_come(read_.turn);
}

void ListRead::ask_ahead(CountSource& source, std::uint64_t now_ms) {
  // Before its own first page was asked for, none of the others is: the lists that came first have their turn.
  if (read_.wants_room || read_.asked_at_ms == 0) return;
  if (asked_.size() <= counts_.size()) asked_.resize(counts_.size() + 1, read_.asked_at_ms);
  const std::size_t end = std::min(pages_.size(), counts_.size() + source.list_window(pages_.longest()));
  while (asked_.size() < end) {
    const CountSource::Ahead found = source.ahead(pages_.page(asked_.size()), now_ms);
    if (found == CountSource::Ahead::full) {
      read_.wants_room = true;
      return;
    }
    asked_.push_back(found == CountSource::Ahead::asked ? now_ms : 0);
    if (found == CountSource::Ahead::asked) asked_ahead_.add(source);
  }
}

std::size_t ListRead::bytes() const noexcept {
  return sizeof *this + pages_.bytes() + counts_.bytes() + asked_.capacity() * sizeof(std::uint64_t);
}

}  // namespace visitd
