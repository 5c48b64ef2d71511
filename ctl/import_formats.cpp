#include "ctl/import_formats.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "common/os/errors.hpp"
#include "common/os/text.hpp"
#include "common/shm/cache_layout.hpp"
#include "common/shm/page_id.hpp"
#include "ctl/report.hpp"
#include "ctl/whole_input.hpp"

namespace visitd {

namespace {

constexpr std::size_t bad_lines_shown = 5;

/// Adds up what lines say.
class Sums {
 public:
  Sums(std::size_t page_id_limit, PageRules rules) : page_id_limit_(page_id_limit), rules_(std::move(rules)) {}

  void add(std::uint64_t line, std::string_view id, std::uint64_t visits) {
    if (const PageIdFault fault = check_page_id(id, page_id_limit_); fault != PageIdFault::none) {
      return bad(line, describe(fault, id, page_id_limit_));
    }
    const std::string_view page = rules_.name_of(id);
    if (page.empty()) return bad(line, nothing_left);
    if (visits == 0) return;
    std::uint64_t& count = imported_.counts[std::string(page)];
    if (visits > count_limit - count) return bad(line, fmt::format("a page counts more than {}", count_limit));
    count += visits;
  }
  void leave_out() noexcept { ++imported_.left_out; }
  void bad(std::uint64_t line, std::string_view why) {
    if (imported_.bad.size() < bad_lines_shown) imported_.bad.push_back(fmt::format("line {}: {}", line, why));
    ++imported_.bad_lines;
  }
  [[nodiscard]] Imported take() && { return std::move(imported_); }

 private:
  std::size_t page_id_limit_;
  PageRules rules_;
  Imported imported_;
};

/// Reads a CSV file a row at a time (RFC 4180). It passes over lines that begin with #, unless they are inside quotes.
class CsvReader {
 public:
  explicit CsvReader(std::string_view text) noexcept : rest_(text) {}

  /// False at the end.
  [[nodiscard]] bool next() {
    while (rest_.starts_with('#') || rest_.starts_with('\n') || rest_.starts_with("\r\n")) skip_line();
    if (rest_.empty()) return false;
    line_ = next_line_;
    fields_.assign(1, {});
    whole_ = true;
    while (!rest_.empty() && take_field()) fields_.emplace_back();
    return true;
  }
  [[nodiscard]] std::uint64_t line() const noexcept { return line_; }
  [[nodiscard]] const std::vector<std::string>& fields() const noexcept { return fields_; }
  /// False: a quote does not end.
  [[nodiscard]] bool is_whole() const noexcept { return whole_; }

 private:
  void skip_line() {
    rest_.remove_prefix(std::min(rest_.find('\n'), rest_.size() - 1) + 1);
    ++next_line_;
  }
  char take() {
    const char c = rest_.front();
    rest_.remove_prefix(1);
    if (c == '\n') ++next_line_;
    return c;
  }
  /// True: another one follows in the row.
  bool take_field() {
    std::string& field = fields_.back();
    bool quoted = false;
    while (!rest_.empty()) {
      const char c = take();
      if (quoted) {
        if (c != '"') {
          field += c;
        } else if (rest_.starts_with('"')) {
          field += take();
        } else {
          quoted = false;
        }
      } else if (c == '"' && field.empty()) {
        quoted = true;
      } else if (c == ',') {
        return true;
      } else if (c == '\n') {
        if (field.ends_with('\r')) field.pop_back();
        return false;
      } else {
        field += c;
      }
    }
    whole_ = !quoted;
    return false;
  }

  std::string_view rest_;
  std::uint64_t line_ = 0;
  std::uint64_t next_line_ = 1;
  std::vector<std::string> fields_;
  bool whole_ = true;
};

void read_csv(std::string_view text, Sums& sums) {
  CsvReader rows(text);
  for (bool first = true; rows.next(); first = false) {
    const std::vector<std::string>& fields = rows.fields();
    if (first && fields == std::vector<std::string>{"page", "count"}) continue;
    std::uint64_t count = 0;
    if (!rows.is_whole() || fields.size() != 2) {
      sums.bad(rows.line(), "it is not a page and a count");
    } else if (!parse_decimal(fields[1], count) || count > count_limit) {
      sums.bad(rows.line(), fmt::format("'{}' is no count: a whole number from 0 to {}", fields[1], count_limit));
    } else {
      sums.add(rows.line(), fields[0], count);
    }
  }
}

void read_jsonl(std::string_view text, Sums& sums) {
  each_line(text, [&](std::uint64_t number, std::string_view line) {
    const auto json = Json::parse(line, nullptr, false);
    if (!json.is_object()) return sums.bad(number, "it is no JSON object");
    const auto page = json.find("page");
    const auto count = json.find("count");
    // What an export says of itself.
    if (page == json.end() && count == json.end()) return sums.leave_out();
    if (page == json.end() || count == json.end() || !page->is_string() || !count->is_number_unsigned() ||
        count->get<std::uint64_t>() > count_limit) {
      return sums.bad(number, "it has no \"page\", a text, and \"count\", a whole number");
    }
    sums.add(number, page->get_ref<const std::string&>(), count->get<std::uint64_t>());
  });
}

/// Which column has this name. GoatCounter writes the number of its format before the first name: digits do not count.
/// nullopt: no column has it.
std::optional<std::size_t> column(const std::vector<std::string>& headings, std::string_view name) {
  const auto found = std::ranges::find_if(headings, [&](std::string_view heading) {
    while (!heading.empty() && heading.front() >= '0' && heading.front() <= '9') heading.remove_prefix(1);
    return heading == name;
  });
  return found == headings.end() ? std::nullopt : std::optional(static_cast<std::size_t>(found - headings.begin()));
}

void read_goatcounter(std::string_view text, Sums& sums) {
  CsvReader rows(text);
  if (!rows.next()) return;
  const auto path = column(rows.fields(), "Path");
  const auto event = column(rows.fields(), "Event");
  const auto bot = column(rows.fields(), "Bot");
  const std::size_t columns = rows.fields().size();
  if (!path) return sums.bad(1, "there is no column Path: this is no export of GoatCounter");
  while (rows.next()) {
    const std::vector<std::string>& fields = rows.fields();
    if (!rows.is_whole() || fields.size() != columns) {
      sums.bad(rows.line(), "it has another number of columns than the first line");
    } else if ((event && fields[*event] == "true") || (bot && fields[*bot] != "0" && !fields[*bot].empty())) {
      sums.leave_out();
    } else {
      sums.add(rows.line(), fields[*path], 1);
    }
  }
}

/// Decoded once, as the server does; nullopt: a percent sign has no two hex digits behind it.
std::optional<std::string> percent_decoded(std::string_view text) {
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    std::uint8_t byte = 0;
    const auto [end, failed] =
        std::from_chars(text.data() + i + 1, text.data() + std::min(i + 3, text.size()), byte, 16);
    if (failed != std::errc{} || end != text.data() + i + 3) return std::nullopt;
    decoded += static_cast<char>(byte);
    i += 2;
  }
  return decoded;
}

/// HOST … "GET /path?query HTTP/1.1" 200 …
void read_request(std::uint64_t number, std::string_view line, Sums& sums) {
  const std::size_t open = line.find('"');
  const std::size_t close = open == std::string_view::npos ? open : line.find('"', open + 1);
  if (close == std::string_view::npos || line.size() < close + 5)
    return sums.bad(number, "it has no request and status");
  std::string_view request = line.substr(open + 1, close - open - 1);
  const std::string_view status = line.substr(close + 2, 3);
  if (!request.starts_with("GET ") || !(status.starts_with('2') || status == "304")) return sums.leave_out();
  request.remove_prefix(4);
  std::string_view target = request.substr(0, std::min(request.find(' '), request.size()));
  target = target.substr(0, std::min(target.find_first_of("?#"), target.size()));
  if (const std::size_t host = target.find("://"); host != std::string_view::npos) {
    target.remove_prefix(std::min(target.find('/', host + 3), target.size()));
  }
  const auto page = percent_decoded(target);
  if (!page) return sums.bad(number, fmt::format("'{}' is not percent-encoded", target));
  sums.add(number, *page, 1);
}

}  // namespace

ImportFormat import_format(std::string_view name) {
  if (name == "csv") return ImportFormat::csv;
  if (name == "jsonl") return ImportFormat::jsonl;
  if (name == "goatcounter") return ImportFormat::goatcounter;
  if (name == "access-log") return ImportFormat::access_log;
  throw error("'{}' is no format of an import: csv, jsonl, goatcounter or access-log", name);
}

Imported read_import(std::string_view text, ImportFormat format, std::size_t page_id_limit, PageRules rules) {
  Sums sums(page_id_limit, std::move(rules));
  switch (format) {
    case ImportFormat::csv:
      read_csv(text, sums);
      break;
    case ImportFormat::jsonl:
      read_jsonl(text, sums);
      break;
    case ImportFormat::goatcounter:
      read_goatcounter(text, sums);
      break;
    case ImportFormat::access_log:
      each_line(text, [&](std::uint64_t number, std::string_view line) { read_request(number, line, sums); });
      break;
  }
  return std::move(sums).take();
}

}  // namespace visitd
