#include "frontend/api/public_limits.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <unordered_map>

#include "frontend/http/head_fields.hpp"

namespace visitd {

namespace {

/// Browsers send the first two for a page, proxies the others for a client.
constexpr std::array<std::string_view, 4> fields_for_another = {"origin", "sec-fetch-site", "forwarded",
                                                                "x-forwarded-for"};

}  // namespace

bool is_strangers(const RequestHead& head, const ClientAddress& client, Entrance entrance) noexcept {
  if (entrance == Entrance::private_address) return false;
  if (entrance == Entrance::open_unix_socket) return true;
  if (client && !client->is_loopback()) return true;
  return std::ranges::any_of(fields_for_another,
                             [&](std::string_view name) { return find_field(head.fields, name).has_value(); });
}

std::optional<Problem> PublicLimits::problem_with(const PageList& list) {
  if (entries_ != 0 && list.size() > entries_) {
    detail_ = fmt::format(
        "the list has {} entries; a request from outside may have {} (http.public_entries_limit): send it in parts",
        list.size(), entries_);
    return Problem{.refusal = Refusal::too_many_entries, .detail = detail_};
  }
  if (visits_ == 0) return std::nullopt;
  std::unordered_map<std::string_view, std::uint64_t> sums;
  for (std::size_t entry = 0; entry < list.size(); ++entry) {
    const std::uint64_t sum = sums[list.page(entry)] += list.visits(entry);
    if (sum > visits_) return too_many_visits(sum, entry);
  }
  return std::nullopt;
}

Problem PublicLimits::too_many_visits(std::uint64_t visits, std::size_t entry) {
  detail_ = fmt::format(
      "up to this entry the list adds {} visits to its page; a request from outside may add {} to a page "
      "(http.public_visits_limit)",
      visits, visits_);
  return {.refusal = Refusal::too_many_visits, .detail = detail_, .member = "entry", .value = entry};
}

}  // namespace visitd
