#include "common/pages/page_rules.hpp"

#include <doctest/doctest.h>

#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "common/os/text.hpp"
#include "common/shm/page_id.hpp"

namespace visitd {
namespace {

std::string name(const std::vector<std::string>& rules, std::string_view id) {
  return std::string(PageRules(rules).name_of(id));
}

TEST_CASE("a pattern's star stands for any characters, its question mark for one") {
  CHECK(matches("blog/*", "blog/2026/news"));
  CHECK(matches("blog/*", "blog/"));
  CHECK_FALSE(matches("blog/*", "blog"));
  CHECK_FALSE(matches("blog", "blog/"));
  CHECK(matches("*", ""));
  CHECK(matches("*news*", "blog/news/1"));
  CHECK(matches("a*b*c", "a-b-b-c"));
  CHECK_FALSE(matches("a*b*c", "a-b-b-c-"));
  CHECK(matches("page-??", "page-42"));
  CHECK_FALSE(matches("page-??", "page-4"));
  CHECK(matches("**", "anything"));
  CHECK_FALSE(matches("", "x"));
  // No pattern makes it look again and again.
  CHECK_FALSE(matches(std::string(200, '*') + "b", std::string(4000, 'a')));
}

TEST_CASE("without rules a page's name is its id") {
  PageRules rules{{}};
  CHECK_FALSE(rules.any());
  CHECK(rules.name_of("Blog/?a=1#x") == "Blog/?a=1#x");
}

TEST_CASE("ids of one page become one name") {
  const std::vector<std::string> rules = {"lower-case", "drop index-file", "drop trailing-slash"};
  for (const std::string_view id : {"/Blog/Post/", "/blog/post/index.html", "/blog/post", "/BLOG/POST/INDEX.HTML//",
                                    "/blog/post/index.php", "/blog/post/index.html/index.htm"}) {
    CAPTURE(id);
    CHECK(name(rules, id) == "/blog/post");
  }
}

TEST_CASE("the slash at the end goes, and that of the first page stays") {
  const std::vector<std::string> rules = {"drop trailing-slash"};
  CHECK(name(rules, "a/b///") == "a/b");
  CHECK(name(rules, "/") == "/");
  CHECK(name(rules, "///") == "/");
  CHECK(name(rules, "a/?b=/") == "a?b=/");
  CHECK(name(rules, "a/#b/") == "a#b/");
  CHECK(name(rules, "?b/") == "?b/");
}

TEST_CASE("an index file goes where it is in a folder") {
  const std::vector<std::string> rules = {"drop index-file"};
  CHECK(name(rules, "/index.html") == "/");
  CHECK(name(rules, "a/index.php?b=1") == "a/?b=1");
  CHECK(name(rules, "index.html") == "index.html");
  CHECK(name(rules, "a/index.html5") == "a/index.html5");
  CHECK(name(rules, "a/myindex.html") == "a/myindex.html");
  CHECK(name(rules, "a/Index.html") == "a/Index.html");
}

TEST_CASE("letters of ASCII become small ones, and no others") {
  CHECK(name({"lower-case"}, "Ab/\xC3\x9CZ") == "ab/\xC3\x9Cz");
}

TEST_CASE("a prefix goes as often as the name begins with it") {
  CHECK(name({"drop prefix https://a.example"}, "https://a.example/b") == "/b");
  CHECK(name({"drop prefix ab"}, "abababc") == "c");
  CHECK(name({"drop prefix ab"}, "abab").empty());
  CHECK(name({"drop prefix a b"}, "a bc") == "c");
}

TEST_CASE("parameters of the query are kept or dropped") {
  CHECK(name({"drop query"}, "a?b=1&c") == "a");
  CHECK(name({"drop query"}, "a?b#c") == "a#c");
  CHECK(name({"drop query utm_* fbclid"}, "a?utm_source=x&id=7&fbclid=1&utm_medium") == "a?id=7");
  CHECK(name({"drop query utm_*"}, "a?utm_source=x") == "a");
  CHECK(name({"keep query id lang"}, "a?x=1&lang=de&&id=7&ids=8") == "a?lang=de&id=7");
  CHECK(name({"keep query id"}, "a?") == "a");
  CHECK(name({"keep query id"}, "a#b?id=1") == "a#b?id=1");
  CHECK(name({"drop fragment"}, "a?b=1#c#d") == "a?b=1");
}

TEST_CASE("what is no rule is known") {
  for (const std::string_view text :
       {"", "drop", "lowercase", "lower-case ", "drop prefix", "drop prefix ", "keep query", "keep query ",
        "keep query a  b", "keep query a ", "keep query a=1", "drop query a&b", "drop queries", "Drop query"}) {
    CAPTURE(text);
    CHECK_FALSE(PageRule::parse(text));
  }
  CHECK_FALSE(PageRule::parse("drop prefix " + std::string(page_rule_limit_bytes, 'x')));
}

TEST_CASE("each step is shown, and what a later rule made possible once more") {
  PageRules rules({"drop trailing-slash", "drop index-file", "lower-case"});
  std::string said;
  for (const auto& step : rules.steps_of("A/index.html")) {
    said += step.rule + (step.changed ? " -> " : " == ") + step.name + "\n";
  }
  CHECK(said ==
        "drop trailing-slash == A/index.html\ndrop index-file -> A/\nlower-case -> a/\ndrop trailing-slash -> a\n");
}

TEST_CASE("the name of a name is that name, is no longer than the id, and is text") {
  const std::vector<std::string> all = {"drop trailing-slash", "drop index-file", "lower-case",
                                        "drop prefix /a",      "drop prefix x",   "drop query",
                                        "drop query u*",       "keep query b ab", "drop fragment"};
  const std::vector<std::string> parts = {"/", "a", "A",          "x",          "?",         "&",        "=",  "#",
                                          "u", "b", "index.html", "/index.php", "INDEX.HTM", "\xC3\xBC", "%2F"};
  std::mt19937 random(20261130);
  const auto below = [&](std::size_t end) { return std::uniform_int_distribution<std::size_t>(0, end - 1)(random); };
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::string> rules;
    for (std::size_t n = 1 + below(5); n > 0; --n) rules.push_back(all[below(all.size())]);
    std::string id;
    for (std::size_t n = 1 + below(12); n > 0; --n) id += parts[below(parts.size())];
    CAPTURE(id);
    CAPTURE(rules.front());
    const std::string once = name(rules, id);
    REQUIRE(name(rules, once) == once);
    REQUIRE(once.size() <= id.size());
    REQUIRE((once.empty() || check_page_id(once, id.size()) == PageIdFault::none));
  }
}

TEST_CASE("an id that makes many passes is done soon") {
  std::string id = "/";
  while (id.size() < 1000) id += "index.html/";
  CHECK(name({"drop index-file", "drop trailing-slash"}, id) == "/");
}

}  // namespace
}  // namespace visitd
