#include "flusher/deployment_shards.hpp"

#include <doctest/doctest.h>

#include "common/os/errors.hpp"

namespace visitd {
namespace {

ShardSettings named(const std::string& name, const std::string& host) {
  ShardSettings shard;
  shard.name = name;
  shard.host = host;
  shard.port = 6379;
  shard.password = "its own";
  return shard;
}

RedisSettings settings() {
  RedisSettings redis;
  redis.shards = {named("a", "one.example"), named("b", "two.example")};
  redis.added_shard.password = "shared";
  redis.added_shard.database = 5;
  return redis;
}

TEST_CASE("the deployment says which shards there are, and the settings how to reach those that they name") {
  const Layout layout{
      2, 64, 100, {{"b"}, {"a", "redis://moved.example:7000"}}, {{"b"}, {"c", "redis://c.example:7001"}}};
  const std::vector<ShardSettings> shards = shards_of(layout, settings());
  REQUIRE(shards.size() == 3);
  CHECK(shards[0].is_same_server(settings().shards[1]));
  CHECK(shards[1].host == "moved.example");  // the deployment's address counts
  CHECK(shards[1].port == 7000);
  CHECK(shards[1].password == "its own");
  CHECK(shards[2].name == "c");
  CHECK(shards[2].host == "c.example");
  CHECK(shards[2].password == "shared");
  CHECK(shards[2].database == 5);
}

TEST_CASE("a shard whose address nobody says is refused by name") {
  CHECK_THROWS_WITH_AS(static_cast<void>(shards_of({2, 64, 100, {{"a"}, {"lost"}}, {}}, settings())),
                       "the deployment has the shard lost, and neither it nor these settings say its address: add "
                       "lost=URL to redis.shards, as the other hosts have it",
                       Error);
}

TEST_CASE("a shard is named by its name and address, without a password") {
  CHECK(parse_shard_place("c=redis://c.example:7001/3") == ShardPlace{"c", "redis://c.example:7001/3"});
  CHECK(parse_shard_place("c=unix:///run/c.sock").url == "unix:///run/c.sock?db=0");
  for (const char* text :
       {"c=redis://user:secret@c.example", "redis://", "c=", "=redis://c.example", "a name=redis://c.example"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(static_cast<void>(parse_shard_place(text)), Error);
  }
}

TEST_CASE("settings that name other shards than the deployment has are told apart") {
  CHECK(settings_difference({2, 64, 100, {{"a"}, {"b"}}, {}}, settings().shards).empty());
  CHECK(settings_difference({2, 64, 100, {{"a"}, {"c"}}, {}}, settings().shards) ==
        "it has c, which redis.shards does not name; it does not have b, which redis.shards names");
}

}  // namespace
}  // namespace visitd
