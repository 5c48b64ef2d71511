#include "frontend/api/visit_rules.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "common/os/text.hpp"
#include "frontend/http/head_fields.hpp"

namespace visitd {

namespace {

/// The origin of the page that sends the request. Browsers name none with images and scripts, but in Referer the site
/// that asks for them, unless it has told them not to.
std::string_view origin_of(const RequestHead& head) noexcept {
  if (!head.origin.empty()) return head.origin;
  const std::string_view referer = find_field(head.fields, "referer").value_or("");
  const std::size_t scheme = referer.find("://");
  return scheme == std::string_view::npos ? std::string_view() : referer.substr(0, referer.find('/', scheme + 3));
}

}  // namespace

VisitRules::VisitRules(const Settings& settings)
    : origins_(settings.http.count_origins),
      pages_(settings.pages.allowed),
      ignored_addresses_(settings.http.ignored_addresses) {
  for (const std::string& agent : settings.http.ignored_agents) ignored_agents_.push_back(lower_case(agent));
  any_ = !origins_.empty() || !pages_.empty() || !ignored_addresses_.empty() || !ignored_agents_.empty();
}

std::optional<Problem> VisitRules::problem_with_origin(const RequestHead& head) {
  if (origins_.empty()) return std::nullopt;
  const std::string_view origin = origin_of(head);
  if (std::ranges::find(origins_, origin) != origins_.end()) return std::nullopt;
  detail_ = origin.empty() ? "the request names no origin, and visits count from pages of the origins of "
                             "http.count_origins alone"
                           : fmt::format(
                                 "visits from pages of {} do not count here; http.count_origins names the "
                                 "origins from which they do",
                                 origin);
  return Problem{.refusal = Refusal::origin_not_allowed, .detail = detail_};
}

std::optional<Problem> VisitRules::problem_with_page(std::string_view page) {
  const auto allows = [&](const std::string& pattern) { return matches(pattern, page); };
  if (pages_.empty() || std::ranges::any_of(pages_, allows)) return std::nullopt;
  detail_ = fmt::format("the page {} is none of those that are counted here; pages.allowed names them", page);
  return Problem{.refusal = Refusal::page_not_allowed, .detail = detail_};
}

std::optional<Problem> VisitRules::problem_with_pages(const PageList& list) {
  for (std::size_t entry = 0; entry < list.size(); ++entry) {
    auto problem = problem_with_page(list.page(entry));
    if (!problem) continue;
    problem->member = "entry";
    problem->value = entry;
    return problem;
  }
  return std::nullopt;
}

bool VisitRules::ignores(const RequestHead& head, const ClientAddress& sender) const {
  if (sender && ignored_addresses_.contain(*sender)) return true;
  if (ignored_agents_.empty()) return false;
  const std::string agent = lower_case(find_field(head.fields, "user-agent").value_or(""));
  return std::ranges::any_of(ignored_agents_, [&](const std::string& part) { return agent.find(part) != agent.npos; });
}

}  // namespace visitd
