#include <fmt/format.h>

#include "common/os/clock.hpp"
#include "common/os/standard_output.hpp"
#include "ctl/commands.hpp"
#include "ctl/csv.hpp"
#include "ctl/page_list.hpp"

namespace visitd {

namespace {

constexpr std::size_t written_at_once = 256U << 10U;
constexpr const char* consistency =
    "has every visit that this host recorded before it began, and of other hosts those that Redis had; a count may "
    "include later visits";

/// One format of an export: its first lines, a line a page, and its last line.
class ExportLines {
 public:
  explicit ExportLines(bool is_csv) noexcept : is_csv_(is_csv) {}

  void begin(const std::string& at) {
    if (is_csv_) {
      text_ += fmt::format("# visitd export, begun {}: {}\n{}", at, consistency, csv_headings);
    } else {
      line({{"export", "visitd"}, {"version", 1}, {"begun_at", at}, {"consistent_to", consistency}});
    }
  }
  void page(std::string_view page, std::optional<std::uint64_t> count) {
    if (!is_csv_) return line({{"page", page}, {"count", value_or_null(count)}});
    append_csv_row(text_, page, count);
  }
  void end(const std::string& at, std::uint64_t pages, const WideSum& sum, const std::string& incomplete) {
    if (is_csv_) {
      text_ += fmt::format("# ended {}: {} pages, {} visits{}{}\n", at, pages, sum.text(),
                           incomplete.empty() ? "" : "; not complete: ", incomplete);
    } else {
      line({{"ended_at", at},
            {"pages", pages},
            {"visits", json_of(sum)},
            {"incomplete", incomplete.empty() ? Json(nullptr) : Json(incomplete)}});
    }
  }
  void write() {
    write_output(text_);
    text_.clear();
  }
  [[nodiscard]] bool is_much() const noexcept { return text_.size() >= written_at_once; }

 private:
  void line(const Json& json) { text_ += json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"; }

  bool is_csv_;
  std::string text_;
};

}  // namespace

Json export_report(const Settings& settings, const std::string& format) {
  ExportLines lines(format == "csv");
  std::uint64_t pages = 0;
  WideSum sum;
  lines.begin(utc_text(unix_seconds()));
  try {
    const std::string incomplete = list_pages(settings, [&](std::string_view page, std::optional<std::uint64_t> count) {
      ++pages;
      if (count) sum.add(*count);
      lines.page(page, count);
      if (lines.is_much()) lines.write();
    });
    lines.end(utc_text(unix_seconds()), pages, sum, incomplete);
    lines.write();
    return incomplete.empty() ? Json::object() : Json{{"error", incomplete}};
  } catch (const std::exception& refused) {
    return {{"error", refused.what()}};
  }
}

}  // namespace visitd
