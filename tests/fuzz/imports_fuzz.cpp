// What other counters and servers' logs say of pages: CSV against a second, plain reader; what was accepted is pages
// and counts that read the same when they are written again; what a key or an address names is a page of a host.
//
// Input: a byte that chooses the format; the text.
#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "common/os/errors.hpp"
#include "common/shm/cache_layout.hpp"
#include "common/shm/page_id.hpp"
#include "ctl/csv.hpp"
#include "ctl/import_formats.hpp"
#include "ctl/import_keys.hpp"
#include "ctl/md5.hpp"
#include "ctl/report.hpp"
#include "tests/fuzz/fuzzing.hpp"

namespace visitd {
namespace {

using fuzzing::Exact;
using fuzzing::Input;
using fuzzing::require;

constexpr std::size_t limit = 64;
constexpr ImportFormat of_files[] = {ImportFormat::csv, ImportFormat::jsonl, ImportFormat::goatcounter,
                                     ImportFormat::umami, ImportFormat::access_log};

/// Rows of CSV, a character at a time.
std::vector<std::vector<std::string>> plain_rows(std::string_view text) {
  std::vector<std::vector<std::string>> rows;
  std::size_t at = 0;
  const auto skips = [&] {
    const std::string_view rest = text.substr(at);
    return rest.starts_with('#') || rest.starts_with('\n') || rest.starts_with("\r\n");
  };
  while (at < text.size()) {
    if (skips()) {
      while (at < text.size() && text[at] != '\n') ++at;
      ++at;
      continue;
    }
    std::vector<std::string> row(1);
    bool quoted = false;
    bool begins = true;
    for (bool ends = false; at < text.size() && !ends; ++at) {
      const char c = text[at];
      if (quoted && c == '"' && at + 1 < text.size() && text[at + 1] == '"') {
        row.back() += text[++at];
      } else if (c == '"' && (quoted || begins)) {
        quoted = !quoted;
      } else if (!quoted && c == ',') {
        row.emplace_back();
        begins = true;
        continue;
      } else if (!quoted && c == '\n') {
        if (row.back().ends_with('\r')) row.back().pop_back();
        ends = true;
      } else {
        row.back() += c;
      }
      begins = false;
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

void check_csv(std::string_view text) {
  const std::vector<std::vector<std::string>> plain = plain_rows(text);
  CsvReader rows(text);
  std::uint64_t line = 0;
  for (const std::vector<std::string>& row : plain) {
    require(rows.next(), "there are as many rows as a plain reader finds");
    require(rows.fields() == row, "a row has the fields that a plain reader finds");
    require(rows.line() > line, "each row begins on a later line");
    line = rows.line();
  }
  require(!rows.next(), "there are no more rows than a plain reader finds");
}

void check_written(PageCounts counts) {
  std::string csv(csv_headings);
  std::string jsonl;
  for (const auto& [page, count] : counts) {
    require(check_page_id(page, limit) == PageIdFault::none, "a page is text within the limit");
    require(count != 0 && count <= count_limit, "a count is one");
    append_csv_row(csv, page, count);
    jsonl += Json{{"page", page}, {"count", count}}.dump() + "\n";
  }
  std::ranges::sort(counts);
  const auto read = [](std::string_view text, ImportFormat format) {
    Imported imported = read_import(text, format, {.page_id_limit = limit});
    require(imported.bad_lines == 0, "what was written can be read");
    std::ranges::sort(imported.counts);
    return imported.counts;
  };
  require(read(csv, ImportFormat::csv) == counts, "as CSV it reads the same");
  require(read(jsonl, ImportFormat::jsonl) == counts, "as JSON lines it reads the same");
}

void check_page(const SitePage& page) {
  require(!page.host.empty() && page.path.starts_with('/'), "a page has a host, and a path");
  require(page.id(true) == page.host + page.id(false), "an id with its host begins with that");
  BusuanziPages pages(false);
  pages.add(page);
  const std::string* const found = pages.find(md5_hex(page.host), md5_hex(page.path));
  require(found != nullptr && *found == page.path, "a page is found by its digests");
}

void check(Input input) {
  const std::uint8_t choice = input.byte();
  const Exact own(input.rest());
  if (choice % 8 == 7) {
    if (const auto page = page_of_url(own.view())) check_page(*page);
    if (const auto page = vercount_page(own.view())) check_page(*page);
    if (const auto decoded = percent_decoded(own.view())) {
      require(decoded->size() <= own.view().size(), "what is decoded is no longer");
    }
    return;
  }
  if (choice % 8 == 6) return check_csv(own.view());
  try {
    const std::string site = choice % 16 > 7 ? "w" : "";
    const Imported imported =
        read_import(own.view(), of_files[choice % 8 % std::size(of_files)], {.page_id_limit = limit}, site);
    require(imported.bad.size() <= imported.bad_lines, "no more bad lines are named than there are");
    check_written(imported.counts);
  } catch (const Error&) {
    return;  // several sites
  }
}

}  // namespace
}  // namespace visitd

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  visitd::check(visitd::fuzzing::Input(data, size));
  return 0;
}
