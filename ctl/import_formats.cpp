#include "ctl/import_formats.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <optional>

#include "common/os/errors.hpp"
#include "common/os/text.hpp"
#include "common/shm/count.hpp"
#include "common/shm/hash.hpp"
#include "ctl/csv.hpp"
#include "ctl/report.hpp"
#include "ctl/whole_input.hpp"

namespace visitd {

namespace {

constexpr std::pair<ImportFormat, std::string_view> formats[] = {
    {ImportFormat::csv, "csv"},
    {ImportFormat::jsonl, "jsonl"},
    {ImportFormat::goatcounter, "goatcounter"},
    {ImportFormat::umami, "umami"},
    {ImportFormat::access_log, "access-log"},
    {ImportFormat::original, "original"},
    {ImportFormat::busuanzi, "busuanzi"},
    {ImportFormat::vercount, "vercount"},
};

void read_csv(std::string_view text, ImportSums& sums) {
  CsvReader rows(text);
  for (bool first = true; rows.next(); first = false) {
    const std::vector<std::string>& fields = rows.fields();
    if (first && fields == std::vector<std::string>{"page", "count"}) continue;
    if (!rows.is_whole() || fields.size() != 2) {
      sums.bad_line(rows.line(), "it is not a page and a count");
    } else if (const auto count = to_count(fields[1])) {
      sums.add_line(rows.line(), fields[0], *count);
    } else {
      sums.bad_line(rows.line(), fmt::format("'{}' is no count: a whole number from 0 to {}", fields[1], count_limit));
    }
  }
}

void read_jsonl(std::string_view text, ImportSums& sums) {
  each_line(text, [&](std::uint64_t number, std::string_view line) {
    const auto json = Json::parse(line, nullptr, false);
    if (!json.is_object()) return sums.bad_line(number, "it is no JSON object");
    const auto page = json.find("page");
    const auto count = json.find("count");
    // What an export says of itself.
    if (page == json.end() && count == json.end()) return sums.leave_out();
    if (page == json.end() || count == json.end() || !page->is_string() || !count->is_number_unsigned() ||
        count->get<std::uint64_t>() > count_limit) {
      return sums.bad_line(number, "it has no \"page\", a text, and \"count\", a whole number");
    }
    sums.add_line(number, page->get_ref<const std::string&>(), count->get<std::uint64_t>());
  });
}

/// Which column has this name. GoatCounter writes the number of its format before the first name: digits do not count.
/// nullopt: no column has it.
std::optional<std::size_t> column(const std::vector<std::string>& headings, std::string_view name) {
  const auto found = std::ranges::find_if(headings, [&](std::string_view heading) {
    while (!heading.empty() && is_digit(heading.front())) heading.remove_prefix(1);
    return heading == name;
  });
  return found == headings.end() ? std::nullopt : std::optional(static_cast<std::size_t>(found - headings.begin()));
}

/// Has `take` called with each row behind the headings that has as many columns as they.
template <typename Take>
void each_row(CsvReader& rows, ImportSums& sums, Take take) {
  const std::size_t columns = rows.fields().size();
  while (rows.next()) {
    if (rows.is_whole() && rows.fields().size() == columns) {
      take(rows.fields());
    } else {
      sums.bad_line(rows.line(), "it has another number of columns than the first line");
    }
  }
}

void read_goatcounter(std::string_view text, ImportSums& sums) {
  CsvReader rows(text);
  if (!rows.next()) return;
  const auto path = column(rows.fields(), "Path");
  const auto event = column(rows.fields(), "Event");
  const auto bot = column(rows.fields(), "Bot");
  if (!path) return sums.bad_line(1, "there is no column Path: this is no export of GoatCounter");
  each_row(rows, sums, [&](const std::vector<std::string>& fields) {
    if ((event && fields[*event] == "true") || (bot && fields[*bot] != "0" && !fields[*bot].empty())) {
      sums.leave_out();
    } else {
      sums.add_line(rows.line(), fields[*path], 1);
    }
  });
}

/// Lets rows of one website pass: of that which was asked for, or of the only one that there is.
class OneSite {
 public:
  OneSite(const std::vector<std::string>& headings, const std::string& site)
      : id_(column(headings, "website_id")), host_(column(headings, "hostname")), site_(site) {}

  /// Throws Error where a row is of a second website, and none was asked for.
  [[nodiscard]] bool has(const std::vector<std::string>& fields) {
    const std::string& id = id_ ? fields[*id_] : none_;
    if (!site_.empty()) return id == site_ || (host_ && fields[*host_] == site_);
    if (!first_) first_ = id;
    if (id == *first_) return true;
    throw error(
        "nothing was counted: the file has visits of more than one website, {} and {} among them. Their pages would be "
        "added up: name one website with --site, by its website_id or hostname",
        printable(*first_), printable(id));
  }

 private:
  std::optional<std::size_t> id_;
  std::optional<std::size_t> host_;
  const std::string& site_;
  std::string none_;
  std::optional<std::string> first_;
};

void read_umami(std::string_view text, const std::string& site, ImportSums& sums) {
  constexpr std::string_view page_view = "1";
  CsvReader rows(text);
  if (!rows.next()) return;
  const auto path = column(rows.fields(), "url_path");
  const auto type = column(rows.fields(), "event_type");
  if (!path) {
    return sums.bad_line(
        1,
        "there is no column url_path: this is not Umami's table website_event. (The pages.csv that its "
        "dashboard downloads has visitors, and no visits.)");
  }
  OneSite one_site(rows.fields(), site);
  each_row(rows, sums, [&](const std::vector<std::string>& fields) {
    if ((type && fields[*type] != page_view) || !one_site.has(fields)) return sums.leave_out();
    sums.add_line(rows.line(), percent_decoded(fields[*path]).value_or(fields[*path]), 1);
  });
}

/// HOST … "GET /path?query HTTP/1.1" 200 …
void read_request(std::uint64_t number, std::string_view line, ImportSums& sums) {
  const std::size_t open = line.find('"');
  const std::size_t close = open == std::string_view::npos ? open : line.find('"', open + 1);
  if (close == std::string_view::npos || line.size() < close + 5)
    return sums.bad_line(number, "it has no request and status");
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
  if (!page) return sums.bad_line(number, fmt::format("'{}' is not percent-encoded", target));
  sums.add_line(number, *page, 1);
}

}  // namespace

ImportFormat import_format(std::string_view name) {
  for (const auto& [format, known] : formats) {
    if (known == name) return format;
  }
  throw error("'{}' is no format of an import: {}", name, fmt::join(import_format_names(), ", "));
}

std::vector<std::string> import_format_names() {
  std::vector<std::string> names;
  for (const auto& [format, name] : formats) names.emplace_back(name);
  return names;
}

bool has_events(ImportFormat format) noexcept {
  return format == ImportFormat::goatcounter || format == ImportFormat::umami || format == ImportFormat::access_log;
}

bool is_in_redis(ImportFormat format) noexcept {
  return format == ImportFormat::original || format == ImportFormat::busuanzi || format == ImportFormat::vercount;
}

Imported read_import(std::string_view text, ImportFormat format, ImportNames names, const std::string& site) {
  ImportSums sums(std::move(names));
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
    case ImportFormat::umami:
      read_umami(text, site, sums);
      break;
    case ImportFormat::access_log:
      each_line(text, [&](std::uint64_t number, std::string_view line) { read_request(number, line, sums); });
      break;
    case ImportFormat::original:
    case ImportFormat::busuanzi:
    case ImportFormat::vercount:
      throw Error("this format is not of a file");
  }
  Imported imported = std::move(sums).take();
  // Two files of totals with the same counts say the same; two of events say that something happened again.
  if (has_events(format)) imported.source = hash_bytes(text);
  return imported;
}

}  // namespace visitd
