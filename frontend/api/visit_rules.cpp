#include "frontend/api/visit_rules.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>

#include "frontend/http/head_fields.hpp"

namespace visitd {

namespace {

char lower(char c) noexcept {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

std::string lower(std::string_view text) {
  std::string lowered(text);
  std::ranges::transform(lowered, lowered.begin(), [](char c) { return lower(c); });
  return lowered;
}

}  // namespace

bool matches(std::string_view pattern, std::string_view text) noexcept {
  constexpr std::size_t none = std::string_view::npos;
  std::size_t in_pattern = 0;
  std::size_t in_text = 0;
  std::size_t star = none;    // the last one that was passed
  std::size_t resume = none;  // where what follows it is looked for next
  while (in_text < text.size()) {
    if (in_pattern < pattern.size() && pattern[in_pattern] == '*') {
      star = in_pattern++;
      resume = in_text;
    } else if (in_pattern < pattern.size() && (pattern[in_pattern] == '?' || pattern[in_pattern] == text[in_text])) {
      ++in_pattern;
      ++in_text;
    } else if (star != none) {
      in_pattern = star + 1;
      in_text = ++resume;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', in_pattern) == none;
}

VisitRules::VisitRules(const Settings& settings)
    : origins_(settings.http.count_origins),
      pages_(settings.pages.allowed),
      ignored_addresses_(settings.http.ignored_addresses),
      proxies_(settings.http.trusted_proxies) {
  for (const std::string& agent : settings.http.ignored_agents) ignored_agents_.push_back(lower(agent));
  any_ = !origins_.empty() || !pages_.empty() || !ignored_addresses_.empty() || !ignored_agents_.empty();
}

std::optional<Problem> VisitRules::problem_with_origin(const RequestHead& head) {
  if (origins_.empty() || std::ranges::find(origins_, head.origin) != origins_.end()) return std::nullopt;
  detail_ = head.origin.empty() ? "the request names no origin, and visits count from pages of the origins of "
                                  "http.count_origins alone"
                                : fmt::format(
                                      "visits from pages of {} do not count here; http.count_origins names the "
                                      "origins from which they do",
                                      head.origin);
  return Problem{.refusal = Refusal::origin_not_allowed, .detail = detail_};
}

std::optional<Problem> VisitRules::problem_with_page(std::string_view page) {
  const auto allows = [&](const std::string& pattern) { return matches(pattern, page); };
  if (pages_.empty() || std::ranges::any_of(pages_, allows)) return std::nullopt;
  detail_ = fmt::format("the page {} is none of those that are counted here; pages.allowed names them", page);
  return Problem{.refusal = Refusal::page_not_allowed, .detail = detail_};
}

bool VisitRules::ignores(const RequestHead& head, const ClientAddress& client, Entrance entrance) const {
  if (!ignored_addresses_.empty()) {
    const ClientAddress from = proxies_.client_behind(client, head.fields, entrance);
    if (from && ignored_addresses_.contain(*from)) return true;
  }
  if (ignored_agents_.empty()) return false;
  const std::string agent = lower(find_field(head.fields, "user-agent").value_or(""));
  return std::ranges::any_of(ignored_agents_, [&](const std::string& part) { return agent.find(part) != agent.npos; });
}

}  // namespace visitd
