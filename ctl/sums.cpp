#include "ctl/sums.hpp"

#include <fmt/format.h>

#include "common/os/runtime_directory.hpp"
#include "common/os/wide_sum.hpp"
#include "ctl/commands.hpp"
#include "ctl/control_client.hpp"
#include "ctl/page_list.hpp"

namespace visitd {

namespace {

// Where a deployment is asked for the first time, its shards read all pages, with rests.
constexpr std::uint32_t sums_timeout_ms = 120'000;
constexpr std::uint64_t away_patience_ms = 3000;

/// What the flusher says, and what is not known as an error.
Json ask_sums(const Settings& settings, ControlCommand command, const std::string& argument) {
  const RuntimeDirectory directory(settings.paths.runtime_directory);
  const Json said = ask_patiently(directory.control_socket(), {command, argument, sums_timeout_ms}, away_patience_ms);
  Json report = {{"buckets", said.value("buckets", std::uint64_t{0})},
                 {"unknown_pages", said.value("unknown_pages", std::uint64_t{0})}};
  const auto unknown = said.value("unknown", std::uint64_t{0});
  const std::string why = said.value("why", std::string());
  if (unknown != 0) {
    report["error"] = fmt::format("{} of {} buckets are not known, and their pages are left out: {}", unknown,
                                  plain(report["buckets"]), why);
  } else if (!why.empty()) {
    report["error"] = why;
  }
  if (said.contains("rows")) report["rows"] = said["rows"];
  if (said.contains("total")) report["total"] = said["total"];
  return report;
}

}  // namespace

std::string counts_table(const Json& pages) {
  if (pages.empty()) return "no page\n";
  Table table({">count", "page"});
  for (const Json& page : pages) table.row({plain(page["count"]), plain(page["page"])});
  return table.text();
}

std::string unknown_pages_text(const Json& report) {
  if (report["unknown_pages"] == 0) return {};
  return fmt::format("({} pages have no count: Redis holds no number of them, or one without room)\n",
                     plain(report["unknown_pages"]));
}

Json sum_of_all(const Settings& settings) {
  Json report = ask_sums(settings, ControlCommand::total, {});
  WideSum sum;
  if (!sum.add(report.value("total", std::string()))) {
    throw Error("the flusher is of another version: restart it first");
  }
  report["total"] = json_of(sum);
  return report;
}

Json top_report(const Settings& settings, std::uint64_t limit) {
  Json report;
  try {
    report = ask_sums(settings, ControlCommand::top, fmt::format("{}", limit));
    Json rows = report.value("rows", Json::array());
    report.erase("rows");
    report["pages"] = std::move(rows);
  } catch (const std::exception& refused) {
    report["error"] = refused.what();
  }
  return report;
}

std::string top_text(const Json& report) {
  if (!report.contains("pages")) return {};
  return counts_table(report["pages"]) + unknown_pages_text(report);
}

}  // namespace visitd
