#include <fmt/format.h>

#include <algorithm>
#include <tuple>
#include <utility>
#include <vector>

#include "ctl/commands.hpp"
#include "ctl/page_list.hpp"
#include "ctl/sums.hpp"

namespace visitd {

namespace {

struct FoundPage {
  std::string page;
  std::optional<std::uint64_t> count;
};

/// The first ones of an order, so many as are wanted, of however many come.
class FirstPages {
 public:
  explicit FirstPages(const PageChoice& choice) : choice_(choice) {}

  void add(std::string_view page, std::optional<std::uint64_t> count) {
    pages_.push_back({std::string(page), count});
    if (pages_.size() >= 2 * choice_.limit + 1024) cut();
  }
  [[nodiscard]] std::vector<FoundPage> take() {
    cut();
    std::ranges::sort(pages_, before());
    return std::exchange(pages_, {});
  }

 private:
  [[nodiscard]] std::function<bool(const FoundPage&, const FoundPage&)> before() const {
    if (!choice_.by_count) return [](const FoundPage& a, const FoundPage& b) { return a.page < b.page; };
    // If nobody knows the count of a page, it comes last.
    return [](const FoundPage& a, const FoundPage& b) { return std::tie(b.count, a.page) < std::tie(a.count, b.page); };
  }
  void cut() {
    if (pages_.size() <= choice_.limit) return;
    const auto end = pages_.begin() + static_cast<std::ptrdiff_t>(choice_.limit);
    std::ranges::nth_element(pages_, end, before());
    pages_.erase(end, pages_.end());
  }

  const PageChoice& choice_;
  std::vector<FoundPage> pages_;
};

/// What is the same in all lists: how many pages there are, and whether that is all.
struct Listed {
  std::uint64_t pages = 0;
  std::uint64_t unknown_pages = 0;
  WideSum sum;

  void add(std::optional<std::uint64_t> count) {
    ++pages;
    if (count) {
      sum.add(*count);
    } else {
      ++unknown_pages;
    }
  }
  void tell(Json& report) const {
    report["matching"] = pages;
    report["total"] = json_of(sum);
    report["unknown_pages"] = unknown_pages;
  }
};

}  // namespace

Json pages_report(const Settings& settings, const PageChoice& choice) {
  Json report = {{"pages", Json::array()}};
  Listed listed;
  try {
    FirstPages first(choice);
    const std::string incomplete = list_pages(settings, [&](std::string_view page, std::optional<std::uint64_t> count) {
      if (!page.starts_with(choice.prefix)) return;
      if (!is_chosen(choice.glob, page)) return;
      listed.add(count);
      first.add(page, count);
    });
    for (FoundPage& found : first.take()) {
      report["pages"].push_back({{"page", std::move(found.page)}, {"count", value_or_null(found.count)}});
    }
    listed.tell(report);
    if (!incomplete.empty()) report["error"] = incomplete;
  } catch (const std::exception& refused) {
    report["error"] = refused.what();
  }
  return report;
}

std::string pages_text(const Json& report) {
  if (!report.contains("matching")) return {};
  std::string text = counts_table(report["pages"]);
  if (report["matching"] != report["pages"].size()) {
    text += fmt::format("({} of {} pages: --limit)\n", report["pages"].size(), plain(report["matching"]));
  }
  return text + unknown_pages_text(report);
}

Json total_report(const Settings& settings, const std::string& prefix) {
  Json report = {{"prefix", prefix}};
  Listed listed;
  try {
    if (prefix.empty()) {
      report.update(sum_of_all(settings));
      return report;
    }
    const std::string incomplete = list_pages(settings, [&](std::string_view page, std::optional<std::uint64_t> count) {
      if (page.starts_with(prefix)) listed.add(count);
    });
    listed.tell(report);
    if (!incomplete.empty()) report["error"] = incomplete;
  } catch (const std::exception& refused) {
    report["error"] = refused.what();
  }
  return report;
}

std::string total_text(const Json& report) {
  if (!report.contains("total")) return {};
  // Only a list of all pages says how many there are.
  const std::string of = report.contains("matching") ? fmt::format(" of {} pages", plain(report["matching"])) : "";
  return fmt::format("{} visits{}\n{}", plain(report["total"]), of, unknown_pages_text(report));
}

}  // namespace visitd
