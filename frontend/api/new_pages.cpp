#include "frontend/api/new_pages.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace visitd {

Problem NewPages::problem(std::string_view page, const std::size_t* entry) {
  detail_ = fmt::format(
      "nobody has counted the page {} before, and more new pages come from outside than the {} a minute that "
      "http.public_new_pages_per_minute allows",
      page, per_minute_);
  Problem problem{.refusal = Refusal::too_many_new_pages, .detail = detail_};
  if (entry != nullptr) {
    problem.member = "entry";
    problem.value = *entry;
  }
  return problem;
}

std::uint32_t NewPages::wait_s(std::uint64_t now_ms) const noexcept {
  const std::uint64_t wait_s = rate_.left_in_s(1, full_at_, now_ms * ns_per_ms);
  return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(wait_s, 1, 3600));
}

}  // namespace visitd
