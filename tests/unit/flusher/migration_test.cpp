#include "flusher/migration.hpp"

#include <doctest/doctest.h>

#include "common/os/errors.hpp"
#include "flusher/deployment_shards.hpp"

namespace visitd {
namespace {

const Layout on_shards{1, 64, 100, {{"a"}, {"b"}}, {}};

ShardSettings node(const std::string& name) {
  ShardSettings settings;
  settings.name = name;
  return settings;
}

/// A node of a cluster of two primaries that is well.
ShardProbe::Seen seen_node() {
  ShardProbe::Seen seen;
  seen.nodes.emplace();
  seen.nodes->map.slots = {{0, 8191, "n1:1"}, {8192, 16383, "n2:2"}};
  return seen;
}

bool says(const std::string& text, const char* what) {
  return text.find(what) != std::string::npos;
}

TEST_CASE("a deployment goes into a cluster only from shards, and to shards only from a cluster") {
  const ShardPlace cluster{"cluster", "cluster://n1:1"};
  const Layout there = end_move(into_cluster(on_shards, cluster));
  CHECK(there.shards == std::vector<ShardPlace>{cluster});
  CHECK_THROWS_AS(static_cast<void>(into_cluster(there, cluster)), Error);
  CHECK_THROWS_AS(static_cast<void>(into_cluster({1, 64, 100, {{"cluster"}}, {}}, cluster)), Error);
  CHECK(out_of_cluster(there, {{"c", "redis://c:1/0"}}, {}).next.front().name == "c");
  CHECK_THROWS_AS(static_cast<void>(out_of_cluster(on_shards, {{"c", "redis://c:1/0"}}, {})), Error);
}

TEST_CASE("one that was made in a cluster notes from then on which nodes its settings named") {
  ShardSettings named;
  named.host = "n1.example";
  named.port = 7000;
  const Layout made{1, 64, 100, {{"cluster", "cluster://"}}, {}};
  CHECK(out_of_cluster(made, {{"c", "redis://c:1/0"}}, {named}).shards.front().url == "cluster://n1.example:7000");
}

TEST_CASE("shards are named each once, and none as the cluster is") {
  CHECK(parse_shard_places("a=redis://a:1 b=redis://b:1").size() == 2);
  for (const char* text : {"", "a=redis://a:1 a=redis://b:1", "a=redis://a:1 b=redis://a:1", "cluster=redis://a:1"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(static_cast<void>(parse_shard_places(text)), Error);
  }
}

TEST_CASE("nodes are refused that are no nodes, or of a cluster that is not well, or of different ones") {
  const std::vector<ShardSettings> nodes{node("n1:1"), node("n2:2")};
  CHECK(fault_of_cluster(nodes, {seen_node(), seen_node()}, 2).empty());
  ShardProbe::Seen away = seen_node();
  away.failure = "no answer";
  CHECK(says(fault_of_cluster(nodes, {seen_node(), away}, 2), "the node n2:2 cannot be used: no answer"));
  CHECK(says(fault_of_cluster(nodes, {seen_node(), {}}, 2), "not a node of a cluster"));
  ShardProbe::Seen down = seen_node();
  down.nodes->fault = "the cluster is down";
  CHECK(says(fault_of_cluster(nodes, {down, seen_node()}, 2), "n1:1 says: the cluster is down"));
  ShardProbe::Seen part = seen_node();
  part.nodes->map.slots.pop_back();
  CHECK(says(fault_of_cluster(nodes, {part, seen_node()}, 2), "8192 of 16384 slots"));
  ShardProbe::Seen other = seen_node();
  other.nodes->map.slots[1].node = "n3:3";
  CHECK(says(fault_of_cluster(nodes, {seen_node(), other}, 2), "not of one cluster"));
  CHECK(says(fault_of_cluster(nodes, {seen_node(), seen_node()}, 1000), "at most"));
}

TEST_CASE("a server is taken that is empty, or where only this deployment's markers stayed") {
  const RedisSettings settings;
  const auto fault = [&](const ShardProbe::Seen& seen) { return fault_of_target("s", seen, "id", settings); };
  ShardProbe::Seen seen;
  seen.buckets = {{0, {}}, {1, {"id 2", "", "cluster 2"}}};
  CHECK(fault(seen).empty());
  seen.facts.topology = "id 3 made s 3 64 100 cluster=cluster://n1:1 -";
  CHECK(fault(seen).empty());
  seen.buckets.push_back({2, {"id 2", ""}});
  CHECK(says(fault(seen), "belongs to a deployment already"));
  seen.facts.topology.clear();
  CHECK(says(fault(seen), "holds counts already, in visits:{2}"));
  seen.buckets = {{5, {"other 2", "", "s 2"}}};
  CHECK(says(fault(seen), "visits:{5}"));
  seen.buckets.clear();
  seen.facts.topology = "other 2 made s 64 100 s";
  CHECK(says(fault(seen), "belongs to a deployment already"));
  seen.facts = {};
  seen.facts.role = "slave";
  CHECK(says(fault(seen), "is a replica"));
}

}  // namespace
}  // namespace visitd
