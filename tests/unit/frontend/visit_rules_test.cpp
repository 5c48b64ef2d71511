#include "frontend/api/visit_rules.hpp"

#include <doctest/doctest.h>

#include <string>

namespace visitd {
namespace {

RequestHead head_of(std::string_view origin, std::string_view fields = "") {
  RequestHead head;
  head.origin = origin;
  head.fields = fields;
  return head;
}

TEST_CASE("without rules every visit counts") {
  VisitRules rules{Settings()};
  CHECK_FALSE(rules.any());
  CHECK_FALSE(rules.problem_with_origin(head_of("")));
  CHECK_FALSE(rules.problem_with_page("home"));
  CHECK_FALSE(rules.ignores(head_of(""), std::nullopt));
}

TEST_CASE("visits count from pages of the origins that the settings name") {
  Settings settings;
  settings.http.count_origins = {"https://blog.example"};
  VisitRules rules(settings);
  CHECK(rules.any());
  CHECK_FALSE(rules.problem_with_origin(head_of("https://blog.example")));
  const auto other = rules.problem_with_origin(head_of("https://blog.example.net"));
  REQUIRE(other);
  CHECK(other->refusal == Refusal::origin_not_allowed);
  CHECK(other->detail ==
        "visits from pages of https://blog.example.net do not count here; http.count_origins names the origins from "
        "which they do");
  CHECK(rules.problem_with_origin(head_of("")));
}

TEST_CASE("where a browser names no origin, as with images and scripts, the page's address says it") {
  Settings settings;
  settings.http.count_origins = {"https://blog.example"};
  VisitRules rules(settings);
  const auto counts = [&](std::string_view fields, std::string_view origin = "") {
    RequestHead head = head_of(origin);
    head.fields = fields;
    return !rules.problem_with_origin(head);
  };
  CHECK(counts("Referer: https://blog.example/post/?a=b\r\n"));
  CHECK(counts("Referer: https://blog.example\r\n"));
  CHECK_FALSE(counts("Referer: https://blog.example.net/post\r\n"));
  CHECK_FALSE(counts("Referer: https://x.example/https://blog.example/\r\n"));
  CHECK_FALSE(counts("Referer: /https://blog.example/\r\n"));
  CHECK_FALSE(counts("Referer: https://blog.example/post\r\n", "https://x.example"));
}

TEST_CASE("visits of the pages that the settings allow count") {
  Settings settings;
  settings.pages.allowed = {"blog/*", "home"};
  VisitRules rules(settings);
  CHECK_FALSE(rules.problem_with_page("home"));
  CHECK_FALSE(rules.problem_with_page("blog/1"));
  const auto other = rules.problem_with_page("homes");
  REQUIRE(other);
  CHECK(other->refusal == Refusal::page_not_allowed);
  CHECK(other->detail == "the page homes is none of those that are counted here; pages.allowed names them");
}

TEST_CASE("visits of ignored addresses are not counted") {
  Settings settings;
  settings.http.ignored_addresses = {"192.0.2.0/24", "2001:db8::7"};
  const VisitRules rules(settings);
  CHECK(rules.ignores(head_of(""), IpAddress::parse("192.0.2.9")));
  CHECK(rules.ignores(head_of(""), IpAddress::parse("2001:db8::7")));
  CHECK_FALSE(rules.ignores(head_of(""), IpAddress::parse("198.51.100.1")));
  CHECK_FALSE(rules.ignores(head_of(""), std::nullopt));
}

TEST_CASE("visits of ignored agents are not counted") {
  Settings settings;
  settings.http.ignored_agents = {"Bot/", "uptime"};
  const VisitRules rules(settings);
  CHECK(rules.ignores(head_of("", "User-Agent: some-bot/2.1 (+https://bot.example)\r\n"), std::nullopt));
  CHECK(rules.ignores(head_of("", "Accept: */*\r\nuser-agent: UptimeChecker\r\n"), std::nullopt));
  CHECK_FALSE(rules.ignores(head_of("", "User-Agent: Mozilla/5.0\r\n"), std::nullopt));
  CHECK_FALSE(rules.ignores(head_of(""), std::nullopt));
}

}  // namespace
}  // namespace visitd
