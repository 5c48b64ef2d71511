#include "flusher/counting/layout.hpp"

#include <doctest/doctest.h>

#include "flusher/counting/deployment.hpp"

namespace visitd {
namespace {

Layout first_layout() {
  return {1, 8192, 100, {{"redis_7070"}, {"redis_7071"}}, {}};
}

TEST_CASE("a layout reads as it was written, and the first version as it always was") {
  const Layout first = first_layout();
  CHECK(to_text(first) == "8192 100 redis_7070,redis_7071");
  const Layout moving = begin_move(first, {{"redis_7070"}, {"redis_7071"}, {"c", "unix:///run/c.sock?db=3"}});
  CHECK(to_text(moving) == "2 8192 100 redis_7070;redis_7071 redis_7070;redis_7071;c=unix:///run/c.sock?db=3");
  CHECK(parse_layout(to_text(moving)) == moving);
  const Layout moved = end_move(moving);
  CHECK(to_text(moved) == "3 8192 100 redis_7070;redis_7071;c=unix:///run/c.sock?db=3 -");
  CHECK(parse_layout(to_text(moved)) == moved);
  CHECK_FALSE(moved.is_moving());
  Layout slow = moving;
  slow.rate = 50;
  CHECK(to_text(slow) == to_text(moving) + " 50");
  CHECK(parse_layout(to_text(slow)) == slow);
  CHECK(end_move(slow).rate == 0);
}

TEST_CASE("what is no layout is none") {
  for (const char* text :
       {"", "2", "1 8192 100 a -", "2 8192 100 a", "2 8192 100 - -", "2 0 100 a -", "x 8192 100 a -",
        "2 8192 100 =url -", "2 8192 100 a - more", "2 8192 100 a b 0", "2 8192 100 a b 1 2", "2 8192 100 a;;b -"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_layout(text));
  }
}

TEST_CASE("a topology tells the version of its layout") {
  CHECK(parse_topology("id 2 made a 8192 100 a,b").version == 1);
  const TopologyText later = parse_topology("id 3 made a 2 8192 100 a;b a");
  CHECK(later.kind == TopologyText::Kind::deployment);
  CHECK(later.version == 2);
  CHECK(to_text(later) == "id 3 made a 2 8192 100 a;b a");
  CHECK(parse_topology("id 3 made a nonsense").kind == TopologyText::Kind::unknown);
  CHECK(parse_topology("id 4 made a nonsense").kind == TopologyText::Kind::newer);
  CHECK(parse_topology("id x made a nonsense").kind == TopologyText::Kind::unknown);
}

TEST_CASE("a third shard takes its share of the buckets, and only it takes any; removed, it gives back the same") {
  const Layout moving = begin_move(first_layout(), {{"redis_7070"}, {"redis_7071"}, {"redis_7072"}});
  const Placement placement = place_buckets(moving);
  REQUIRE(placement.shards() == 3);
  std::uint32_t taken = 0;
  for (std::uint32_t bucket = 0; bucket < placement.buckets(); ++bucket) {
    CHECK(placement.shard_of(bucket) == placement.first_of(bucket));
    if (!placement.moves(bucket)) continue;
    ++taken;
    CHECK(placement.next_of(bucket) == 2);
  }
  CHECK(taken > 8192 / 3 - 8192 * 3 / 100);
  CHECK(taken < 8192 / 3 + 8192 * 3 / 100);
  const Placement back = place_buckets(begin_move(end_move(moving), {{"redis_7070"}, {"redis_7071"}}));
  for (std::uint32_t bucket = 0; bucket < placement.buckets(); ++bucket) {
    CHECK(back.first_of(bucket) == placement.next_of(bucket));
    CHECK(back.next_of(bucket) == placement.first_of(bucket));
  }
}

TEST_CASE("a shard that goes is counted after all that are there, and one that comes after those") {
  const Layout moving = begin_move({4, 64, 100, {{"b"}, {"a"}, {"gone"}}, {}}, {{"new"}, {"a"}, {"b"}});
  std::vector<std::string> names;
  for (const ShardPlace& place : all_shards(moving)) names.push_back(place.name);
  CHECK(names == std::vector<std::string>{"b", "a", "gone", "new"});
  CHECK(deciding_shard(moving) == "a");
}

TEST_CASE("buckets go from a circle of shards to the nodes that have their slots, and the deployment's text says so") {
  ClusterMap map;
  map.slots = {{0, 8191, "n1:7000"}, {8192, 16383, "n2:7001"}};
  const Layout going = begin_move(first_layout(), {{"cluster", "cluster://n1:7000,n2:7001"}});
  CHECK(parse_layout(to_text(going)) == going);
  CHECK(cluster_of(going) == &going.next.front());
  CHECK(deciding_shard(going) == "redis_7070");
  const Placement placement = place_buckets(going, map);
  REQUIRE(placement.shards() == 4);
  const std::vector<std::uint32_t> by_slot = map.place(placement.buckets());
  for (std::uint32_t bucket = 0; bucket < placement.buckets(); ++bucket) {
    CHECK(placement.moves(bucket));
    CHECK(placement.first_of(bucket) < 2);
    CHECK(placement.next_of(bucket) == by_slot[bucket] + 2);
  }
  const Placement there = place_buckets(end_move(going), map);
  CHECK(there.shards() == 2);
  CHECK(there.shard_of_bucket() == by_slot);
}

TEST_CASE("a bucket follows its slot on the side of the cluster") {
  Placement into({0, 0}, 3, {1, 2}, 1);
  into.follow_slot(0, 2);
  CHECK(into.next_of(0) == 2);
  CHECK(into.first_of(0) == 0);
  Placement out_of({1, 2}, 3, {0, 0}, 1);
  out_of.follow_slot(1, 1);
  CHECK(out_of.first_of(1) == 1);
  CHECK(out_of.next_of(1) == 0);
}

TEST_CASE("a bucket that moved is on its next shard alone") {
  Placement placement({0, 0, 1, 0}, 2, {0, 1, 1, 1});
  CHECK_FALSE(placement.moves(0));
  CHECK(placement.moves(1));
  CHECK_FALSE(placement.moves(2));
  placement.move(1, 1);
  CHECK(placement.shard_of(1) == 1);
  CHECK(placement.buckets_on(0) == std::vector<std::uint32_t>{0, 3});
  CHECK(placement.buckets_on(1) == std::vector<std::uint32_t>{1, 2});
  CHECK(placement.first_of(1) == 0);
}

}  // namespace
}  // namespace visitd
