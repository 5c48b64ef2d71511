#include "frontend/api/owner_call.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "common/os/errors.hpp"

namespace visitd {

OwnerList::OwnerList(std::string prefix, std::string after, std::size_t limit)
    : prefix_(std::move(prefix)),
      after_(std::move(after)),
      limit_(limit),
      lines_([this](std::string_view page, std::optional<std::uint64_t> count) { add(page, count); }) {}

std::string OwnerList::take(const ControlAnswer& piece) {
  const std::string* const lines = value_named(piece.text, "lines");
  if (lines != nullptr) lines_.take(*lines);
  const std::string* const next = value_named(piece.text, "next");
  if (next != nullptr) return *next;
  lines_.end();
  return {};
}

std::string OwnerList::incomplete() const {
  if (lines_.unknown_buckets() == 0) return {};
  return fmt::format("{} buckets are not known, and nothing is listed without their pages: {}",
                     lines_.unknown_buckets(), lines_.why_unknown());
}

void OwnerList::add(std::string_view page, std::optional<std::uint64_t> count) {
  if (!page.starts_with(prefix_)) return;
  if (count) {
    sum_.add(*count);
  } else {
    ++unknown_pages_;
  }
  if (page <= after_) return;
  ++behind_;
  if (limit_ == 0 || (first_.size() == limit_ && page >= std::prev(first_.end())->first)) return;
  first_.emplace(page, count);
  if (first_.size() > limit_) first_.erase(std::prev(first_.end()));
}

bool OwnerCall::ask(ControlCommand command, std::string argument, std::uint64_t now_ms) {
  asked_.request = {command, std::move(argument)};
  const std::uint64_t left_ms = asked_.until_ms > now_ms ? asked_.until_ms - now_ms : 0;
  const bool is_piece = command == ControlCommand::pages;
  asked_.request.timeout_ms =
      static_cast<std::uint32_t>(is_piece ? std::min<std::uint64_t>(left_ms, control_piece_timeout_ms) : left_ms);
  questions_.forget(number_);
  number_ = questions_.ask(asked_);
  return number_ != 0;
}

}  // namespace visitd
