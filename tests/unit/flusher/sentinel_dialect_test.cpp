#include "flusher/redis/sentinel_dialect.hpp"

#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <variant>

#include "tests/unit/contains.hpp"

using visitd::ReplyReader;
using visitd::RequestText;
using visitd::SentinelDialect;
using visitd::ServerAddress;
using visitd::test::contains;

namespace {

visitd::ShardSentinels sentinels(std::string password = "", std::string username = "") {
  return {.addresses = {{"s0", 26379}},
          .primary = "counts",
          .username = std::move(username),
          .password = {.text = std::move(password), .place = "redis.sentinel_password_file (/p)"}};
}

std::string begun(SentinelDialect& dialect) {
  RequestText text;
  dialect.begin(text);
  return text.text();
}

constexpr std::string_view listening = "*3\r\n$9\r\nsubscribe\r\n$14\r\n+switch-master\r\n:1\r\n";
constexpr std::string_view named = "*2\r\n$8\r\n10.0.0.1\r\n$4\r\n6379\r\n";

/// What the last of these replies says.
SentinelDialect::Said said_by(SentinelDialect& dialect, const std::string& replies) {
  ReplyReader reader;
  reader.feed(replies);
  SentinelDialect::Said said;
  while (const auto reply = reader.next()) said = dialect.read(*reply);
  return said;
}

std::string refusal(SentinelDialect& dialect, const std::string& replies) {
  const SentinelDialect::Said said = said_by(dialect, replies);
  const auto* refused = std::get_if<SentinelDialect::Refusal>(&said);
  return refused == nullptr ? "" : refused->why;
}

std::string change(std::string_view words) {
  return "*3\r\n$7\r\nmessage\r\n$14\r\n+switch-master\r\n$" + std::to_string(words.size()) + "\r\n" +
         std::string(words) + "\r\n";
}

}  // namespace

TEST_CASE("a sentinel is asked for the primary and listened to, with a password where there is one") {
  SentinelDialect plain(sentinels());
  const std::string text = begun(plain);
  CHECK_FALSE(contains(text, "AUTH"));
  CHECK(contains(text, "SENTINEL\r\n$23\r\nGET-MASTER-ADDR-BY-NAME\r\n$6\r\ncounts"));
  CHECK(text.find("SENTINEL") < text.find("SUBSCRIBE\r\n$14\r\n+switch-master"));
  SentinelDialect with_password(sentinels("sesame"));
  CHECK(begun(with_password).starts_with("*2\r\n$4\r\nAUTH\r\n$6\r\nsesame\r\n"));
  SentinelDialect with_user(sentinels("sesame", "visitd"));
  CHECK(begun(with_user).starts_with("*3\r\n$4\r\nAUTH\r\n$6\r\nvisitd\r\n$6\r\nsesame\r\n"));
  SentinelDialect changed(sentinels());
  changed.use(sentinels("sesame"));
  CHECK(contains(begun(changed), "sesame"));
}

TEST_CASE("the address is told once we listen, and each change of this primary after it") {
  SentinelDialect dialect(sentinels());
  static_cast<void>(begun(dialect));
  CHECK(dialect.waits());
  CHECK(std::holds_alternative<SentinelDialect::Nothing>(said_by(dialect, "+OK\r\n" + std::string(named))));
  CHECK(std::get<ServerAddress>(said_by(dialect, std::string(listening))) == ServerAddress{"10.0.0.1", 6379});
  CHECK_FALSE(dialect.waits());
  CHECK(std::get<ServerAddress>(said_by(dialect, change("counts 10.0.0.1 6379 fe80::2 6380"))) ==
        ServerAddress{"fe80::2", 6380});
  for (const char* other : {"others 10.0.0.1 6379 10.0.0.2 6379", "counts 10.0.0.1 6379 10.0.0.2", "counts",
                            "counts 10.0.0.1 6379 10.0.0.2 0", "counts 10.0.0.1 6379 10.0.0.2 70000",
                            "counts 10.0.0.1 6379 10.0.0.2 6379 more", ""}) {
    CAPTURE(other);
    CHECK(std::holds_alternative<SentinelDialect::Nothing>(said_by(dialect, change(other))));
  }
}

TEST_CASE("a sign of life is asked for and answered between changes") {
  SentinelDialect dialect(sentinels());
  static_cast<void>(begun(dialect));
  static_cast<void>(said_by(dialect, "+OK\r\n" + std::string(named) + std::string(listening)));
  RequestText text;
  dialect.ask_whether_there(text);
  CHECK(text.text() == "*1\r\n$4\r\nPING\r\n");
  CHECK(dialect.waits());
  CHECK(std::holds_alternative<ServerAddress>(said_by(dialect, change("counts a 1 b 2"))));
  CHECK(dialect.waits());
  CHECK(std::holds_alternative<SentinelDialect::Nothing>(said_by(dialect, "*2\r\n$4\r\npong\r\n$0\r\n\r\n")));
  CHECK_FALSE(dialect.waits());
}

TEST_CASE("what a sentinel refuses is said with what to do") {
  const auto after_name = [](const std::string& replies) {
    SentinelDialect dialect(sentinels());
    static_cast<void>(begun(dialect));
    return refusal(dialect, "-NOPERM name\r\n" + replies);
  };
  CHECK(contains(after_name("*-1\r\n"), "does not know a primary called counts"));
  CHECK(contains(after_name("-NOAUTH Authentication required.\r\n"), "redis.sentinel_password_file"));
  CHECK(contains(after_name("-ERR unknown command 'SENTINEL'\r\n"), "no sentinel"));
  CHECK(contains(after_name("-NOPERM this user\r\n"), "NOPERM this user"));
  CHECK(contains(after_name(std::string(named) + "-NOPERM no channel\r\n"), "NOPERM no channel"));
  for (const char* odd : {"+OK\r\n", "*1\r\n$1\r\na\r\n", "*2\r\n$0\r\n\r\n$1\r\n1\r\n", "*2\r\n$1\r\na\r\n$1\r\nb\r\n",
                          "*2\r\n$1\r\na\r\n$1\r\n0\r\n", "*2\r\n$1\r\na\r\n$5\r\n70000\r\n", ":1\r\n"}) {
    CAPTURE(odd);
    CHECK(contains(after_name(odd), "another kind"));
    CHECK(contains(after_name(odd + std::string(listening)), "another kind"));  // whoever goes on to read is told none
  }
  {
    SentinelDialect again(sentinels());
    static_cast<void>(begun(again));
    static_cast<void>(said_by(again, "+OK\r\n" + std::string(named) + std::string(listening)));
    static_cast<void>(begun(again));  // nothing of an earlier connection is told
    CHECK(contains(refusal(again, "+OK\r\n:1\r\n" + std::string(listening)), "another kind"));
  }
  SentinelDialect dialect(sentinels("wrong"));
  static_cast<void>(begun(dialect));
  const std::string why = refusal(dialect, "-WRONGPASS invalid\r\n");
  CHECK(contains(why, "redis.sentinel_password_file (/p)"));
  CHECK(contains(why, "WRONGPASS"));
  SentinelDialect talkative(sentinels());
  static_cast<void>(begun(talkative));
  static_cast<void>(said_by(talkative, "+OK\r\n" + std::string(named) + std::string(listening)));
  CHECK(contains(refusal(talkative, "+PONG\r\n"), "not asked"));
}
