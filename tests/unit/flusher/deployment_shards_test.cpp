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
  const std::vector<ShardSettings> shards = shards_of(layout, std::nullopt, settings());
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
  CHECK_THROWS_WITH_AS(static_cast<void>(shards_of({2, 64, 100, {{"a"}, {"lost"}}, {}}, std::nullopt, settings())),
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
  CHECK(settings_difference({2, 64, 100, {{"a"}, {"b"}}, {}}, settings(), "visitctl").empty());
  CHECK(settings_difference({2, 64, 100, {{"a"}, {"c"}}, {}}, settings(), "visitctl")
            .find("it has c, which redis.shards does not name; it does not have b, which redis.shards names") !=
        std::string::npos);
}

TEST_CASE("settings that name shards of a deployment in a cluster are told what to name, once buckets are there") {
  const ShardPlace cluster = parse_cluster_place("n1.example:7000,n2.example:7001");
  const Layout going = begin_move({1, 64, 100, {{"a"}, {"b"}}, {}}, {cluster});
  CHECK(settings_difference(going, settings(), "visitctl").empty());
  CHECK(settings_difference(end_move(going), settings(), "visitctl").find("redis.mode = \"cluster\"") !=
        std::string::npos);
  CHECK(settings_difference(end_move(going), settings(), "visitctl")
            .find("redis.nodes = [\"n1.example:7000\", \"n2.example:7001\"]") != std::string::npos);
}

TEST_CASE("a cluster is named by some of its nodes, all over TLS or none, without a password") {
  CHECK(parse_cluster_place("n1:7000,redis://n2:7001") == ShardPlace{"cluster", "cluster://n1:7000,n2:7001"});
  CHECK(parse_cluster_place("rediss://[::1]:7000").url == "clusters://[::1]:7000");
  const ShardPlace with_user = parse_cluster_place("rediss://us%2Cer@n1:7000,rediss://us%2Cer@n2:7001");
  CHECK(with_user.url == "clusters://us%2Cer@n1:7000,n2:7001");
  ShardSettings like;
  like.password = "shared";
  const std::vector<ShardSettings> nodes = nodes_of(with_user, like);
  REQUIRE(nodes.size() == 2);
  for (const ShardSettings& node : nodes) {
    CHECK(node.username == "us,er");
    CHECK(node.password == "shared");
    CHECK(node.over_tls);
  }
  for (const char* text : {"", "n1:7000,n1:7000", "n1:7000,rediss://n2:7001", "redis://user@n1:7000,n2:7001",
                           "redis://:secret@n1:7000", "unix:///run/n.sock", "n1:7000/3", "n1:port"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(static_cast<void>(parse_cluster_place(text)), Error);
  }
}

TEST_CASE("a life of a deployment that goes into a cluster speaks to the shards, then to the primaries") {
  ClusterMap map;
  map.slots = {{0, 8191, "n2:7001"}, {8192, 16383, "n9:7009"}};
  const Layout going = begin_move({1, 64, 100, {{"b"}, {"a"}}, {}}, {parse_cluster_place("n1:7000,n2:7001")});
  const std::vector<ShardSettings> shards = shards_of(going, map, settings());
  std::vector<std::string> names;
  for (const ShardSettings& shard : shards) names.push_back(shard.name);
  CHECK(names == shards_of_life(going, map));
  CHECK(names == std::vector<std::string>{"b", "a", "n2:7001", "n9:7009"});
  CHECK_FALSE(shards[1].in_cluster);
  CHECK(shards[3].in_cluster);
  CHECK(shards[3].host == "n9");
  CHECK(shards[3].password == "shared");
  CHECK_FALSE(shards[3].over_tls);
}

TEST_CASE("nodes that the settings name come before those that the deployment names, and have their password") {
  RedisSettings redis = settings();
  redis.mode = RedisMode::cluster;
  redis.shards = {named("n1:7000", "n1")};
  redis.shards.front().port = 7000;
  redis.shards.front().in_cluster = true;
  const std::vector<ShardSettings> seeds = seeds_of(parse_cluster_place("n2:7001,n1:7000"), redis);
  REQUIRE(seeds.size() == 2);
  CHECK(seeds[0].name == "n1:7000");
  CHECK(seeds[1].name == "n2:7001");
  CHECK(seeds[1].password == "its own");
  CHECK_THROWS_AS(static_cast<void>(seeds_of({"cluster", "cluster://"}, settings())), Error);
}

}  // namespace
}  // namespace visitd
