#include "flusher/counting/placement.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

using namespace visitd;

namespace {

constexpr std::uint32_t usual_buckets = 8192;
constexpr std::uint32_t virtual_nodes = 100;

std::vector<std::uint32_t> placed_on(const std::vector<std::string>& shards, std::uint32_t nodes = virtual_nodes,
                                     std::uint32_t buckets = usual_buckets) {
  return place_buckets(shards, nodes, buckets).shard_of_bucket();
}

/// The name of each bucket's shard.
std::vector<std::string> placed_names(const std::vector<std::string>& shards) {
  std::vector<std::string> names;
  for (const std::uint32_t shard : placed_on(shards)) names.push_back(shards.at(shard));
  return names;
}

std::vector<std::string> shards_named(std::uint32_t count) {
  std::vector<std::string> shards;
  for (std::uint32_t i = 0; i < count; ++i) shards.push_back("redis_" + std::to_string(7070 + i));
  return shards;
}

}  // namespace

TEST_CASE("names place buckets, whatever their order in the settings") {
  std::vector<std::string> shards = {"alpha", "beta", "gamma", "delta"};
  const std::vector<std::string> placed = placed_names(shards);
  std::ranges::sort(shards);
  do {
    REQUIRE(placed_names(shards) == placed);
  } while (std::ranges::next_permutation(shards).found);
}

TEST_CASE("another shard takes about its share, and nothing moves between the others") {
  for (std::uint32_t count = 1; count <= 8; ++count) {
    const std::vector<std::string> before = placed_names(shards_named(count));
    const std::vector<std::string> shards = shards_named(count + 1);
    const std::vector<std::string> after = placed_names(shards);
    std::uint32_t moved = 0;
    for (std::uint32_t b = 0; b < usual_buckets; ++b) {
      if (before[b] == after[b]) continue;
      REQUIRE(after[b] == shards.back());
      ++moved;
    }
    CAPTURE(count);
    const double share = usual_buckets / static_cast<double>(count + 1);
    CHECK(moved > share * 0.6);
    CHECK(moved < share * 1.5);
  }
}

TEST_CASE("every shard is used, about equally") {
  for (const std::uint32_t count : {2U, 3U, 5U, 16U, 64U}) {
    const std::vector<std::string> shards = shards_named(count);
    std::vector<std::uint32_t> used(count);
    for (const std::uint32_t shard : placed_on(shards)) ++used.at(shard);
    const std::uint32_t share = usual_buckets / count;
    CAPTURE(count);
    CHECK(*std::ranges::min_element(used) > share / 2);
    CHECK(*std::ranges::max_element(used) < share * 2);
  }
}

TEST_CASE("a shard alone holds everything, with one virtual node too") {
  for (const std::uint32_t nodes : {1U, 100U}) {
    const std::vector<std::string> shards = {"only"};
    CHECK(std::ranges::all_of(placed_on(shards, nodes, 100), [](std::uint32_t shard) { return shard == 0; }));
  }
}

TEST_CASE("the placement of the default shards is this one for ever") {
  const std::vector<std::string> shards = shards_named(2);
  const std::vector<std::uint32_t> placed = placed_on(shards);
  std::string first;
  for (std::uint32_t b = 0; b < 64; ++b) first += static_cast<char>('0' + placed[b]);
  CHECK(first == "0110001111011111111100110110001111010010111101111000011101110010");
  CHECK(std::ranges::count(placed, 0U) == 3726);
}

TEST_CASE("a placement knows the buckets of each shard") {
  const Placement placement({1, 0, 1, 2}, 3);
  CHECK(placement.buckets() == 4);
  CHECK(placement.shards() == 3);
  CHECK(placement.shard_of(2) == 1);
  CHECK(placement.buckets_on(0) == std::vector<std::uint32_t>{1});
  CHECK(placement.buckets_on(1) == std::vector<std::uint32_t>{0, 2});
}
