#include <fmt/format.h>

#include "common/pages/page_rules.hpp"
#include "common/shm/page_id.hpp"
#include "ctl/commands.hpp"
#include "ctl/page_names.hpp"

namespace visitd {

std::string name_page(const Settings& settings, const std::string& id, bool exact, Json& report) {
  report["asked"] = id;
  const std::string name = exact ? id : std::string(PageRules(settings.pages.rules).name_of(id));
  report["page"] = name;
  if (name.empty() && !id.empty()) report["error"] = nothing_left;
  return name;
}

std::string named_text(const Json& report) {
  if (!report.contains("asked") || report["page"] == report["asked"]) return {};
  return fmt::format("{} is counted as {} (pages.rules)\n", plain(report["asked"]), plain(report["page"]));
}

Json rules_report(const Settings& settings, const std::string& id) {
  Json report;
  report["asked"] = id;
  report["page"] = nullptr;
  report["steps"] = Json::array();
  const std::uint32_t limit = settings.pages.page_id_limit_bytes;
  if (const PageIdFault fault = check_page_id(id, limit); fault != PageIdFault::none) {
    report["error"] = describe(fault, id, limit);
    return report;
  }
  for (const PageRules::Step& step : PageRules(settings.pages.rules).steps_of(id)) {
    report["steps"].push_back({{"rule", step.rule}, {"page", step.name}, {"changed", step.changed}});
  }
  static_cast<void>(name_page(settings, id, false, report));
  return report;
}

std::string rules_text(const Json& report) {
  Table table({"rule", "page"});
  for (const Json& step : report["steps"]) {
    table.row({plain(step["rule"]), step["changed"].get<bool>() ? plain(step["page"]) : "(as before)"});
  }
  std::string text = report["steps"].empty() ? "" : table.text();
  if (has_failed(report)) return text;
  if (report["steps"].empty()) text += "pages.rules has no rules: each page is counted under its id\n";
  return text + fmt::format("{} is counted as {}\n", plain(report["asked"]), plain(report["page"]));
}

}  // namespace visitd
