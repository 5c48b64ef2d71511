#include "common/config/shard_address.hpp"

#include <doctest/doctest.h>

#include <string>

#include "common/os/errors.hpp"

using visitd::parse_shard_address;
using visitd::shard_url;
using visitd::ShardAddress;
using visitd::ShardSettings;

namespace {

std::string failure_of(const std::string& text) {
  try {
    (void)parse_shard_address(text);
  } catch (const visitd::Error& failure) {
    return failure.what();
  }
  return "";
}

}  // namespace

TEST_CASE("a URL names host, port, user, password and database") {
  const ShardAddress address = parse_shard_address("redis://visits:s3cret@counts.example:7070/3");
  CHECK(address.shard.name == "redis_7070");
  CHECK(address.shard.host == "counts.example");
  CHECK(address.shard.port == 7070);
  CHECK(address.shard.username == "visits");
  CHECK(address.shard.password == "s3cret");
  CHECK(address.shard.database == 3);
  CHECK(address.shard.unix_path.empty());
  CHECK(address.has_database);
}

TEST_CASE("what a URL leaves out has a default") {
  const ShardAddress address = parse_shard_address("redis://localhost");
  CHECK(address.shard.name == "redis_6379");
  CHECK(address.shard.port == 6379);
  CHECK(address.shard.username.empty());
  CHECK(address.shard.password.empty());
  CHECK_FALSE(address.has_database);
  CHECK_FALSE(parse_shard_address("redis://localhost:7070/").has_database);
}

TEST_CASE("an address with rediss is one over TLS, and all else of it is the same") {
  const ShardSettings shard = parse_shard_address("eu=rediss://visits:s3cret@[::1]:7070/3").shard;
  CHECK(shard.over_tls);
  CHECK(shard.name == "eu");
  CHECK(shard.host == "::1");
  CHECK(shard.username == "visits");
  CHECK(shard.password == "s3cret");
  CHECK(shard.database == 3);
  CHECK(shard_url(shard) == "rediss://visits@[::1]:7070/3");
  CHECK(parse_shard_address("rediss://counts.example").shard.port == 6379);
  CHECK_FALSE(parse_shard_address("redis://h:7070").shard.over_tls);
  CHECK_FALSE(parse_shard_address("h:7070").shard.over_tls);
}

TEST_CASE("host and port alone are an address too") {
  CHECK(parse_shard_address("127.0.0.1:7071").shard.port == 7071);
  CHECK(parse_shard_address("127.0.0.1:7071").shard.host == "127.0.0.1");
  CHECK(parse_shard_address("cache-1").shard.host == "cache-1");
}

TEST_CASE("an IPv6 address stands in brackets") {
  const ShardSettings shard = parse_shard_address("redis://[::1]:7070/2").shard;
  CHECK(shard.host == "::1");
  CHECK(shard.port == 7070);
  CHECK(shard_url(shard) == "redis://[::1]:7070/2");
  CHECK(parse_shard_address("[fe80::1%eth0]:7070").shard.host == "fe80::1%eth0");
  CHECK_FALSE(failure_of("redis://[::1").empty());
  CHECK_FALSE(failure_of("redis://[]:7070").empty());
  CHECK_FALSE(failure_of("redis://::1:7070").empty());
}

TEST_CASE("a Unix socket has a path and needs a name") {
  const ShardAddress address = parse_shard_address("local=unix://me:pw@/run/redis/redis.sock?db=4");
  CHECK(address.shard.name == "local");
  CHECK(address.shard.unix_path == "/run/redis/redis.sock");
  CHECK(address.shard.username == "me");
  CHECK(address.shard.password == "pw");
  CHECK(address.shard.database == 4);
  CHECK(address.shard.port == 0);
  CHECK(parse_shard_address("unix:///run/redis.sock").shard.name.empty());
  CHECK(parse_shard_address("x=unix:///run/a@b.sock").shard.unix_path == "/run/a@b.sock");
  CHECK(parse_shard_address("x=unix:///" + std::string(106, 'a')).shard.unix_path.size() == 107);
  CHECK_FALSE(failure_of("x=unix:///" + std::string(107, 'a')).empty());
  CHECK_FALSE(failure_of("x=unix://run/redis.sock").empty());
}

TEST_CASE("a name may stand before any address") {
  CHECK(parse_shard_address("main=redis://10.0.0.1").shard.name == "main");
  CHECK(parse_shard_address("main=10.0.0.1:7070").shard.name == "main");
  CHECK_FALSE(failure_of("a b=10.0.0.1:7070").empty());
  CHECK_FALSE(failure_of("=10.0.0.1:7070").empty());
  CHECK_FALSE(failure_of(std::string(65, 'a') + "=10.0.0.1:7070").empty());
}

TEST_CASE("user and password are percent-decoded, and may hold an @ or a slash as they stand") {
  CHECK(parse_shard_address("redis://:p%40ss%2Fword@h").shard.password == "p@ss/word");
  CHECK(parse_shard_address("redis://:p@ss/word@h").shard.password == "p@ss/word");
  CHECK(parse_shard_address("redis://u%3Aser:a:b@h").shard.username == "u:ser");
  CHECK(parse_shard_address("redis://u%3Aser:a:b@h").shard.password == "a:b");
  CHECK(parse_shard_address("redis://:a=b@h").shard.password == "a=b");
  for (const char* bad : {"redis://:%@h", "redis://:%4@h", "redis://:%zz@h", "redis://:%00@h", "redis://:%-1@h"}) {
    CAPTURE(bad);
    CHECK(failure_of(bad).find("percent-encoded") != std::string::npos);
  }
}

TEST_CASE("a wrong address is refused with what is wrong about it") {
  CHECK(failure_of("").find("host is missing") != std::string::npos);
  CHECK(failure_of("redis://").find("host is missing") != std::string::npos);
  CHECK(failure_of("redis://:7070").find("host is missing") != std::string::npos);
  CHECK(failure_of("redis://" + std::string(254, 'h')).find("too long") != std::string::npos);
  CHECK(failure_of("redis://h:0").find("port") != std::string::npos);
  CHECK(failure_of("redis://h:65536").find("port") != std::string::npos);
  CHECK(failure_of("redis://h:").find("port") != std::string::npos);
  CHECK(failure_of("redis://h:+1").find("port") != std::string::npos);
  CHECK(failure_of("redis://h:-1").find("port") != std::string::npos);
  CHECK(failure_of("redis://h:7070/x").find("database") != std::string::npos);
  CHECK(failure_of("redis://h:7070/65536").find("database") != std::string::npos);
  CHECK(failure_of("redis://h:7070/1/2").find("database") != std::string::npos);
  CHECK(failure_of("h:7070/1").find("left over") != std::string::npos);
  CHECK(failure_of("x=unix:///s?table=1").find("left over") != std::string::npos);
  CHECK(failure_of("redis://ho st").find("characters") != std::string::npos);
  CHECK(failure_of(std::string("x=unix:///s\0s", 13)).find("NUL") != std::string::npos);
  CHECK(failure_of("http://h:7070").find("none of redis://, rediss:// and unix://") != std::string::npos);
}

TEST_CASE("no error shows a password") {
  for (const char* text :
       {"redis://user:topsecret@h:x", "redis://user:top%zzsecret@h", "redis://:topsecret@", "user:topsecret@h",
        "redis://user:topsecret", "rediss://u:topsecret@h:x", "http://u:topsecret@h", "name=redis://u:topsecret@h:x",
        "redis://u:a@topsecret@h:x", "x=unix://u:topsecret@path", "user:topsecret"}) {
    CAPTURE(text);
    const std::string failure = failure_of(text);
    CHECK_FALSE(failure.empty());
    CHECK(failure.find("secret") == std::string::npos);
  }
}

TEST_CASE("a written URL reads as the same shard, without its password") {
  for (const char* text : {"redis://u%3A%40:p@h:7070/3", "redis://[fe80::1]:1/0", "s=unix://me:pw@/run/r.sock?db=4",
                           "redis://h:65535/65535", "s=unix:///run/r.sock"}) {
    CAPTURE(text);
    const ShardSettings shard = parse_shard_address(text).shard;
    const ShardSettings again = parse_shard_address(shard_url(shard)).shard;
    CHECK(again.host == shard.host);
    CHECK(again.port == shard.port);
    CHECK(again.unix_path == shard.unix_path);
    CHECK(again.username == shard.username);
    CHECK(again.database == shard.database);
    CHECK(again.password.empty());
  }
}
