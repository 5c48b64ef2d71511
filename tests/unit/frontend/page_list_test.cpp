#include "frontend/api/page_list.hpp"

#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace visitd {
namespace {

using Purpose = PageList::Purpose;

PageRules no_rules{{}};

/// The list as "page*visits page*visits", or the problem as "name@value (detail)".
std::string said(const PageList& list, const std::optional<Problem>& problem) {
  if (problem) {
    std::string text(describe(problem->refusal).name);
    if (!problem->member.empty()) text += "@" + std::to_string(problem->value);
    return text;
  }
  std::string text;
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (i != 0) text += ' ';
    text += std::string(list.page(i)) + "*" + std::to_string(list.visits(i));
  }
  return text;
}

std::string recorded(std::string_view body) {
  PageList list(8, 3, no_rules);
  return said(list, list.read_json(body, Purpose::record));
}

std::string read(std::string_view body) {
  PageList list(8, 3, no_rules);
  return said(list, list.read_json(body, Purpose::read));
}

std::string asked(std::string_view query) {
  PageList list(8, 3, no_rules);
  return said(list, list.read_query(query));
}

TEST_CASE("visits come as an array of pages, as an object of numbers, and as one value a line") {
  CHECK(recorded(R"(["a","b","a"])") == "a*1 b*1 a*1");
  CHECK(recorded(R"({"a":3,"b":4294967295})") == "a*3 b*4294967295");
  CHECK(recorded("\"a\"\n\"b\"\n") == "a*1 b*1");
  CHECK(recorded("{\"a\":2}\r\n[\"b\"]\n\n\"c\"") == "a*2 b*1 c*1");
  CHECK(recorded("\"a\"[\"b\"]{\"c\":1}") == "a*1 b*1 c*1");
  CHECK(recorded(R"( [ "\u00fc\/\"" ] )") == "\xC3\xBC/\"*1");
  CHECK(recorded(R"({"a":1,"a":2})") == "a*1 a*2");
}

TEST_CASE("the first wrong entry is named, and the list is refused as a whole") {
  CHECK(recorded(R"(["a","","b"])") == "invalid-page-id@1");
  CHECK(recorded(R"(["a","b","123456789"])") == "invalid-page-id@2");
  CHECK(recorded(R"(["a\u0000"])") == "invalid-page-id@0");
  CHECK(recorded(R"({"a":1,"b":0})") == "invalid-visits@1");
  CHECK(recorded(R"({"a":-1})") == "invalid-visits@0");
  CHECK(recorded(R"({"a":1.5})") == "invalid-visits@0");
  CHECK(recorded(R"({"a":4294967296})") == "invalid-visits@0");
  CHECK(recorded(R"({"a":99999999999999999999})") == "invalid-visits@0");
  CHECK(recorded(R"({"a":"b"})") == "invalid-visits@0");
  CHECK(recorded(R"({"a":{"b":1}})") == "invalid-visits@0");
  CHECK(recorded(R"({"a":[1]})") == "invalid-visits@0");
}

TEST_CASE("what is not JSON, or names no pages, is refused") {
  for (const std::string_view body :
       {"[\"a\"", "[\"a\",]", "{\"a\"}", "home", "[1]", "1", "true", "null", "[null]", "[[\"a\"]]", "[{\"a\":1}]",
        "\"a\" x", "[\"a\"] ]", "[\"\xff\"]", "[\"\\ud800\"]", "\"a", "'a'", "\xEF\xBB", "\"a\",\"b\""}) {
    CAPTURE(body);
    CHECK(recorded(body) == "malformed-json");
  }
  CHECK(recorded(std::string(100'000, '[')) == "malformed-json");
  CHECK(recorded("") == "nothing-to-do");
  CHECK(recorded("  \n") == "nothing-to-do");
  CHECK(recorded("[]") == "nothing-to-do");
  CHECK(recorded("{}") == "nothing-to-do");
  CHECK(recorded(std::string_view("\0", 1)) == "malformed-json");
}

TEST_CASE("reads name pages only, each counted once, up to the limit") {
  CHECK(read(R"(["b","a","b"])") == "b*1 a*1");
  CHECK(read(R"({"a":1})") == "malformed-json");
  CHECK(read(R"(["a","b","c"])") == "a*1 b*1 c*1");
  CHECK(read(R"(["a","b","c","d"])") == "too-many-pages");
  CHECK(read(R"(["a",""])") == "invalid-page-id@1");
}

TEST_CASE("pages come as parameters of a query too") {
  CHECK(asked("page=a&page=b+c&page=%2F") == "a*1 b c*1 /*1");
  CHECK(asked("&page=a&&page=a&") == "a*1");
  CHECK(asked("p%61ge=a") == "a*1");
  CHECK(asked("page=a=b") == "a=b*1");
  CHECK(asked("") == "nothing-to-do");
  CHECK(asked("page=") == "invalid-page-id@0");
  CHECK(asked("page") == "invalid-page-id@0");
  CHECK(asked("page=a&page=%zz") == "invalid-percent-encoding@1");
  CHECK(asked("page=a&pages=b") == "unknown-parameter");
  CHECK(asked("page=a&page=b&page=c&page=d") == "too-many-pages");
}

TEST_CASE("an entry is counted under its page's name, and known by the id that was asked for") {
  PageRules rules({"lower-case", "drop trailing-slash", "drop prefix x"});
  PageList list(8, 3, rules);
  CHECK(said(list, list.read_json(R"(["A/","a","b"])", Purpose::read)) == "a*1 a*1 b*1");
  CHECK(list.asked(0) == "A/");
  CHECK(list.asked(1) == "a");
  CHECK(list.longest() == 1);
  // The limit of an id is that of what was sent.
  CHECK(said(list, list.read_json(R"(["a","B////////"])", Purpose::record)) == "invalid-page-id@1");
  const auto nothing = list.read_json(R"(["a","xX"])", Purpose::record);
  CHECK(said(list, nothing) == "invalid-page-id@1");
  CHECK(nothing->detail == "pages.rules leaves nothing of the page id");
}

TEST_CASE("a list can be used again after a refused one") {
  PageList list(8, 3, no_rules);
  CHECK(list.read_json("[\"a\",\"\"]", Purpose::record));
  CHECK_FALSE(list.read_json("[\"b\"]", Purpose::record));
  CHECK(said(list, {}) == "b*1");
}

}  // namespace
}  // namespace visitd
