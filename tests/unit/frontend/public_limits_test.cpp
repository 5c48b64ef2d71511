#include "frontend/api/public_limits.hpp"

#include <doctest/doctest.h>

#include <string>
#include <string_view>

#include "frontend/http/head_fields.hpp"

namespace visitd {
namespace {

bool from_outside(std::string_view client, std::string_view fields, Entrance entrance = Entrance::public_address) {
  RequestHead head;
  head.fields = fields;
  return is_strangers(head, client == "unix" ? ClientAddress() : IpAddress::parse(client), entrance);
}

struct Judged {
  std::string name;
  std::string detail;
  std::uint64_t entry = 0;
};

Judged judged(std::string_view body, std::uint32_t visits, std::uint32_t entries) {
  Settings settings;
  settings.http.public_visits_limit = visits;
  settings.http.public_entries_limit = entries;
  PageRules rules({"lower-case"});
  PageList list(255, 1000, rules);
  REQUIRE_FALSE(list.read_json(body, PageList::Purpose::record));
  PublicLimits limits(settings);
  const auto problem = limits.problem_with(list);
  if (!problem) return {};
  return {std::string(describe(problem->refusal).name), std::string(problem->detail), problem->value};
}

TEST_CASE("who speaks for nobody else, from this host or to a private address, is no stranger") {
  for (const char* client : {"127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "unix"}) {
    CAPTURE(client);
    CHECK_FALSE(from_outside(client, "Host: a\r\nUser-Agent: x\r\n"));
    CHECK_FALSE(from_outside(client, ""));
  }
  for (const char* client : {"192.0.2.7", "10.0.0.1", "::2", "::", "fe80::1", "128.0.0.1", "100:0:0:0:0:0:0:1"}) {
    CAPTURE(client);
    CHECK(from_outside(client, "Host: a\r\n"));
    CHECK_FALSE(from_outside(client, "Host: a\r\nOrigin: https://a.example\r\n", Entrance::private_address));
  }
}

TEST_CASE("whoever comes through a Unix socket that is open to every user is a stranger") {
  CHECK(from_outside("unix", "Host: a\r\n", Entrance::open_unix_socket));
  CHECK(from_outside("unix", "", Entrance::open_unix_socket));
}

TEST_CASE("a browser on this host, and a proxy, speak for somebody else") {
  for (const char* field : {"Origin: https://a.example", "Sec-Fetch-Site: cross-site", "Forwarded: for=192.0.2.7",
                            "X-Forwarded-For: 192.0.2.7", "ORIGIN:null", "x-forwarded-for:", "origin: \t"}) {
    for (const char* client : {"127.0.0.1", "::1", "unix"}) {
      CAPTURE(field);
      CAPTURE(client);
      CHECK(from_outside(client, "Host: a\r\n" + std::string(field) + "\r\nA: b\r\n"));
    }
  }
  for (const char* field : {"X: Origin: a", "Origins: a", "X-Origin: a", "Sec-Fetch-Mode: cors"}) {
    CAPTURE(field);
    CHECK_FALSE(from_outside("127.0.0.1", std::string(field) + "\r\n"));
  }
}

TEST_CASE("a list may add to each page as many visits as the limit says, however often it names it") {
  CHECK(judged(R"({"a":100,"b":100})", 100, 10).name.empty());
  CHECK(judged(R"({"a":101})", 100, 10).name == "too-many-visits");
  CHECK(judged(R"({"a":4294967295})", 100, 10).name == "too-many-visits");
  CHECK(judged(R"({"a":60,"b":60})", 100, 10).name.empty());
  const Judged twice = judged(R"({"a":60} "b" {"a":41})", 100, 10);
  CHECK(twice.name == "too-many-visits");
  CHECK(twice.entry == 2);
  CHECK(twice.detail.find("adds 101 visits") != std::string::npos);
  CHECK(twice.detail.find("may add 100") != std::string::npos);
  CHECK(twice.detail.find("http.public_visits_limit") != std::string::npos);
  CHECK(judged(R"(["a","a","a"])", 2, 10).entry == 2);
  // The sum of many large ones does not run over.
  CHECK(judged(R"({"a":4294967295} {"a":4294967295} {"a":4294967295})", 4294967295, 10).entry == 1);
  CHECK(judged(R"({"a":4294967295} {"a":4294967295})", 0, 10).name.empty());
}

TEST_CASE("a list may have as many entries as the limit says") {
  CHECK(judged(R"(["a","b","c"])", 100, 3).name.empty());
  const Judged four = judged(R"(["a","a"] "b" {"c":1})", 100, 3);
  CHECK(four.name == "too-many-entries");
  CHECK(four.detail.find("has 4 entries") != std::string::npos);
  CHECK(four.detail.find("may have 3") != std::string::npos);
  CHECK(four.detail.find("http.public_entries_limit") != std::string::npos);
  CHECK(judged(R"(["a","a"] "b" {"c":1})", 100, 0).name.empty());
}

TEST_CASE("a field is found by its whole name, in any case, and the first one counts") {
  constexpr std::string_view fields = "Host: a\r\nX-A:\t 1 2 \r\nB:\r\nx-a: 3\r\n";
  CHECK(find_field(fields, "x-a") == "1 2");
  CHECK(find_field(fields, "host") == "a");
  CHECK(find_field(fields, "b") == "");
  CHECK_FALSE(find_field(fields, "x"));
  CHECK_FALSE(find_field(fields, "x-a:"));
  CHECK_FALSE(find_field("", "host"));
}

}  // namespace
}  // namespace visitd
