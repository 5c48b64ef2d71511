#include "ctl/import_formats.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>

#include "common/os/errors.hpp"
#include "ctl/csv.hpp"
#include "ctl/report.hpp"

namespace visitd {

namespace {

constexpr std::size_t id_limit = 64;

Imported imported_of(std::string_view text, ImportFormat format, const std::string& site = {}) {
  Imported imported = read_import(text, format, {.page_id_limit = id_limit}, site);
  std::ranges::sort(imported.counts);
  return imported;
}

PageCounts counts_in(std::string_view text, ImportFormat format, const std::string& site = {}) {
  const Imported imported = imported_of(text, format, site);
  CHECK(imported.bad_lines == 0);
  return imported.counts;
}

}  // namespace

TEST_CASE("quotes of a CSV file hold commas, quotes and the ends of lines") {
  CHECK(counts_in("page,count\r\na,1\r\n\"b,\"\"c\"\"\",2\r\n\r\n# a remark\na,3", ImportFormat::csv) ==
        PageCounts{{"a", 4}, {"b,\"c\"", 2}});
  CHECK(counts_in("", ImportFormat::csv).empty());
  const Imported over_lines = imported_of("\"a\nb\",1\nc,x\n", ImportFormat::csv);
  CHECK(over_lines.bad_lines == 2);  // an id has no control characters
  CHECK(over_lines.bad.at(1).starts_with("line 3: "));
}

TEST_CASE("of a log, answered GETs are visits of their decoded paths") {
  const auto line = [](std::string_view request, std::string_view status) {
    return "::1 - - [x] \"" + std::string(request) + "\" " + std::string(status) + " 1\n";
  };
  CHECK(counts_in(line("GET /a%20b?q HTTP/1.1", "200") + line("GET https://x.org/a%20b HTTP/1.1", "206"),
                  ImportFormat::access_log) == PageCounts{{"/a b", 2}});
  const Imported others = imported_of(
      line("HEAD /a HTTP/1.1", "200") + line("GET /a HTTP/1.1", "301") + line("-", "400"), ImportFormat::access_log);
  CHECK(others.left_out == 3);
  CHECK(others.counts.empty());
  CHECK(imported_of(line("GET /%4 HTTP/1.1", "200"), ImportFormat::access_log).bad_lines == 1);
}

TEST_CASE("pages are counted under the names that rules make of their ids") {
  const PageRules rules({"drop trailing-slash", "lower-case", "drop prefix /a"});
  const Imported imported =
      read_import("/A/,1\n/a,2\n/,4\n", ImportFormat::csv, {.page_id_limit = id_limit, .rules = rules});
  CHECK(imported.counts == PageCounts{{"/", 4}});
  CHECK(imported.bad_lines == 2);  // nothing is left
}

TEST_CASE("rules of an import alone come before those of the settings, and may shorten an id") {
  const PageRules map({"drop prefix https://example.org", "drop query"});
  const PageRules rules({"lower-case"});
  const std::string query = "?" + std::string(4 * id_limit, 'q');
  const Imported imported = read_import(
      "https://example.org/A" + query + ",1\n/a,2\nhttps://example.org,4\n" + std::string(id_limit + 1, 'x') + ",8\n",
      ImportFormat::csv, {.page_id_limit = id_limit, .map = map, .rules = rules});
  CHECK(imported.counts == PageCounts{{"/a", 3}});
  REQUIRE(imported.bad_lines == 2);
  CHECK(imported.bad[0] == "line 3: the rules of --map leave nothing of the page id");
  CHECK(imported.bad[1].find("page_id_limit_bytes") != std::string::npos);
}

TEST_CASE("of Umami's events, page views of one website are visits") {
  constexpr std::string_view headings = "event_id,website_id,url_path,event_type,hostname\n";
  const std::string one = std::string(headings) + "1,w1,/a,1,x.org\n2,w1,/gr%C3%BC%C3%9Fe,1,x.org\n3,w1,/a,2,x.org\n";
  CHECK(counts_in(one, ImportFormat::umami) == PageCounts{{"/a", 1}, {"/grüße", 1}});
  CHECK(imported_of(one, ImportFormat::umami).left_out == 1);
  const std::string two = one + "4,w2,/a,1,y.org\n";
  CHECK_THROWS_WITH_AS(static_cast<void>(imported_of(two, ImportFormat::umami)), doctest::Contains("w1 and w2"), Error);
  CHECK(counts_in(two, ImportFormat::umami, "w2") == PageCounts{{"/a", 1}});
  CHECK(counts_in(two, ImportFormat::umami, "x.org") == PageCounts{{"/a", 1}, {"/grüße", 1}});
  CHECK(counts_in("url_path\n/a\n/a\n", ImportFormat::umami) == PageCounts{{"/a", 2}});
  const Imported visitors = imported_of("x,y\n/a,2\n", ImportFormat::umami);
  REQUIRE(visitors.bad_lines == 1);
  CHECK(visitors.bad[0].find("url_path") != std::string::npos);
}

TEST_CASE("what an export writes, an import reads: each page and count, byte by byte") {
  const PageCounts counts{{" a", 1},   {"\"", 9223372036854775807},     {"#a,b\"\"c", 2},
                          {"page", 3}, {std::string(id_limit, 'x'), 4}, {"€ ", 5}};
  std::string csv = "# visitd export\n" + std::string(csv_headings);
  std::string jsonl = "{\"export\":\"visitd\"}\n";
  for (const auto& [page, count] : counts) {
    append_csv_row(csv, page, count);
    jsonl += Json{{"page", page}, {"count", count}}.dump() + "\n";
  }
  CHECK(counts_in(csv, ImportFormat::csv) == counts);
  CHECK(counts_in(jsonl, ImportFormat::jsonl) == counts);
}

TEST_CASE("files of events with the same counts are two imports, files of totals are one") {
  const auto source = [](std::string_view text, ImportFormat format) { return imported_of(text, format).source; };
  const std::string_view monday = "::1 - - [mon] \"GET /a HTTP/1.1\" 200 1\n";
  const std::string_view tuesday = "::1 - - [tue] \"GET /a HTTP/1.1\" 200 1\n";
  CHECK(source(monday, ImportFormat::access_log) == source(monday, ImportFormat::access_log));
  CHECK(source(monday, ImportFormat::access_log) != source(tuesday, ImportFormat::access_log));
  CHECK(source("# begun on monday\n/a,1\n", ImportFormat::csv) == source("/a,1\n", ImportFormat::csv));
}

TEST_CASE("the first bad lines are told with their numbers, and all are counted") {
  const Imported imported = imported_of("x\nx\nx\nx\nx\nx\nx\n", ImportFormat::jsonl);
  CHECK(imported.bad_lines == 7);
  CHECK(imported.bad.size() == 5);
  CHECK(imported.bad.back().starts_with("line 5: "));
}

TEST_CASE("sums of many pages are those of a map") {
  PageSums sums;
  std::map<std::string, std::uint64_t> wanted;
  for (std::uint64_t i = 0; i < 20'000; ++i) {
    const std::string page = std::to_string(i % 7000);
    sums.of(page) += i;
    wanted[page] += i;
  }
  static_cast<void>(sums.of("never counted"));
  PageCounts counts = std::move(sums).take();
  CHECK(counts.front().first == "0");
  std::ranges::sort(counts);
  CHECK(counts == PageCounts(wanted.begin(), wanted.end()));
}

TEST_CASE("a format of another name is refused with those that there are") {
  CHECK(import_format("access-log") == ImportFormat::access_log);
  CHECK_THROWS_WITH_AS(static_cast<void>(import_format("matomo")),
                       "'matomo' is no format of an import: csv, jsonl, goatcounter, umami, access-log, original, "
                       "busuanzi, vercount",
                       Error);
}

}  // namespace visitd
