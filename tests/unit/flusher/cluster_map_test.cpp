#include "flusher/counting/cluster_map.hpp"

#include <doctest/doctest.h>

#include "flusher/counting/node_search.hpp"

namespace visitd {
namespace {

ClusterMap three_nodes() {
  return {{{0, 5460, "b:1"}, {5461, 10922, "c:1"}, {10923, 16000, "a:1"}, {16001, 16383, "b:1"}}, {"d:2", "e:2"}};
}

}  // namespace

TEST_CASE("a key's slot is the one that Redis gives it") {
  // As CLUSTER KEYSLOT of a server says them.
  CHECK(slot_of_key("123456789") == 12739);
  CHECK(slot_of_key("foo") == 12182);
  CHECK(slot_of_key("visits:{foo}") == 12182);
  CHECK(slot_of_key("{}foo") == slot_of_key("{}foo"));
  CHECK(slot_of_key("{}foo") != slot_of_key("foo"));
  CHECK(slot_of_key("x{foo") != slot_of_key("foo"));
  CHECK(slot_of_key("{foo}{bar}") == 12182);
  CHECK(slot_of_key("") == 0);
}

TEST_CASE("buckets are on the primaries that serve their slots") {
  const ClusterMap map = three_nodes();
  CHECK(map.primaries() == std::vector<std::string>{"a:1", "b:1", "c:1"});
  const auto placed = map.place(8192);
  REQUIRE(placed.size() == 8192);
  for (std::uint32_t bucket = 0; bucket < placed.size(); ++bucket) {
    const std::uint32_t slot = slot_of_key(std::to_string(bucket));
    const std::uint32_t node = slot <= 5460 || slot > 16000 ? 1 : slot <= 10922 ? 2 : 0;
    REQUIRE(placed[bucket] == node);
  }
}

TEST_CASE("a map reads as it was written") {
  const ClusterMap map = three_nodes();
  CHECK(to_text(map) == "a:1=10923-16000;b:1=0-5460,16001-16383;c:1=5461-10922;+d:2;+e:2");
  const auto read = parse_cluster_map(to_text(map));
  REQUIRE(read);
  CHECK(to_text(*read) == to_text(map));
  CHECK(read->replicas == map.replicas);
  CHECK(read->place(100) == map.place(100));
  for (const char* odd : {"a", "a=", "=0-1", "a=0", "a=0-", "a=0-16384", "a=x-1", "a=0-1;"}) {
    CAPTURE(odd);
    CHECK(parse_cluster_map(odd).has_value() == (std::string(odd) == "a=0-1;"));
  }
}

TEST_CASE("every node that is known is asked before any is asked again, and the preferred one first") {
  NodeSearch search({"seed:1", "a:1"}, three_nodes());
  CHECK(search.next(4) == std::vector<std::string>{"a:1", "b:1", "c:1", "d:2"});
  CHECK(search.next(4) == std::vector<std::string>{"e:2", "seed:1", "a:1", "b:1"});
  search.prefer("x:9");
  CHECK(search.next(2) == std::vector<std::string>{"x:9", "c:1"});
  CHECK(search.next(100).size() == 6);
  search.know({{{0, 16383, "new:1"}}, {}});
  CHECK(search.next(100) == std::vector<std::string>{"new:1", "seed:1", "a:1"});
}

}  // namespace visitd
