#include "ctl/import_formats.hpp"

#include <doctest/doctest.h>

#include "common/os/errors.hpp"

namespace visitd {

namespace {

constexpr std::size_t id_limit = 64;

std::map<std::string, std::uint64_t> counts_in(std::string_view text, ImportFormat format) {
  const Imported imported = read_import(text, format, id_limit);
  CHECK(imported.bad_lines == 0);
  return imported.counts;
}

}  // namespace

TEST_CASE("quotes of a CSV file hold commas, quotes and the ends of lines") {
  using Counts = std::map<std::string, std::uint64_t>;
  CHECK(counts_in("page,count\r\na,1\r\n\"b,\"\"c\"\"\",2\r\n\r\n# a remark\na,3", ImportFormat::csv) ==
        Counts{{"a", 4}, {"b,\"c\"", 2}});
  CHECK(counts_in("", ImportFormat::csv).empty());
  const Imported over_lines = read_import("\"a\nb\",1\nc,x\n", ImportFormat::csv, id_limit);
  CHECK(over_lines.bad_lines == 2);  // an id has no control characters
  CHECK(over_lines.bad.at(1).starts_with("line 3: "));
}

TEST_CASE("of a log, answered GETs are visits of their decoded paths") {
  using Counts = std::map<std::string, std::uint64_t>;
  const auto line = [](std::string_view request, std::string_view status) {
    return "::1 - - [x] \"" + std::string(request) + "\" " + std::string(status) + " 1\n";
  };
  CHECK(counts_in(line("GET /a%20b?q HTTP/1.1", "200") + line("GET https://x.org/a%20b HTTP/1.1", "206"),
                  ImportFormat::access_log) == Counts{{"/a b", 2}});
  const Imported others =
      read_import(line("HEAD /a HTTP/1.1", "200") + line("GET /a HTTP/1.1", "301") + line("-", "400"),
                  ImportFormat::access_log, id_limit);
  CHECK(others.left_out == 3);
  CHECK(others.counts.empty());
  CHECK(read_import(line("GET /%4 HTTP/1.1", "200"), ImportFormat::access_log, id_limit).bad_lines == 1);
}

TEST_CASE("pages are counted under the names that rules make of their ids") {
  const Imported imported = read_import("/A/,1\n/a,2\n/,4\n", ImportFormat::csv, id_limit,
                                        PageRules({"drop trailing-slash", "lower-case", "drop prefix /a"}));
  CHECK(imported.counts == std::map<std::string, std::uint64_t>{{"/", 4}});
  CHECK(imported.bad_lines == 2);  // nothing is left
}

TEST_CASE("the first bad lines are told with their numbers, and all are counted") {
  const Imported imported = read_import("x\nx\nx\nx\nx\nx\nx\n", ImportFormat::jsonl, id_limit);
  CHECK(imported.bad_lines == 7);
  CHECK(imported.bad.size() == 5);
  CHECK(imported.bad.back().starts_with("line 5: "));
}

TEST_CASE("a format of another name is refused with those that there are") {
  CHECK(import_format("access-log") == ImportFormat::access_log);
  CHECK_THROWS_WITH_AS(static_cast<void>(import_format("umami")),
                       "'umami' is no format of an import: csv, jsonl, goatcounter or access-log", Error);
}

}  // namespace visitd
