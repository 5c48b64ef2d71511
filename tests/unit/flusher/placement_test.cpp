#include "flusher/counting/placement.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "common/shm/page_id.hpp"
#include "tests/unit/flusher/placement_vectors.hpp"

using namespace visitd;

namespace {

constexpr std::uint32_t usual_buckets = 8192;
constexpr std::uint32_t virtual_nodes = 100;

std::vector<std::uint32_t> placed_on(const std::vector<std::string>& shards, std::uint32_t nodes = virtual_nodes,
                                     std::uint32_t buckets = usual_buckets) {
  return place_on_circle(shards, nodes, buckets);
}

/// The name of each bucket's shard.
std::vector<std::string> placed_names(const std::vector<std::string>& shards) {
  std::vector<std::string> names;
  for (const std::uint32_t shard : placed_on(shards)) names.push_back(shards.at(shard));
  return names;
}

/// A hash that is not the one which places.
std::uint64_t fnv_1a(const std::string& text) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char byte : text) hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3;
  return hash;
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

TEST_CASE("pages are in these buckets, and buckets on these shards, for ever") {
  for (const test::PageVector& vector : test::page_vectors()) {
    CAPTURE(vector.page);
    CHECK(page_bucket(vector.page, 8192) == vector.of_8192);
    CHECK(page_bucket(vector.page, 256) == vector.of_256);
    CHECK(page_bucket(vector.page, 65536) == vector.of_65536);
  }
  for (const test::PlacementVector& vector : test::placement_vectors()) {
    const Placement placement(place_on_circle(vector.shards, vector.virtual_nodes, vector.buckets),
                              static_cast<std::uint32_t>(vector.shards.size()));
    std::string digits;
    for (const std::uint32_t shard : placement.shard_of_bucket()) digits += static_cast<char>('0' + shard);
    CHECK(digits.size() == vector.buckets);
    CHECK(digits.substr(0, 64) == vector.first);
    CHECK(fnv_1a(digits) == vector.digest);
    for (std::uint32_t shard = 0; shard < vector.shards.size(); ++shard) {
      CHECK(placement.buckets_on(shard).size() == vector.counts[shard]);
    }
  }
}

TEST_CASE("a third shard takes a third of the buckets of two, and gives back exactly these when it goes") {
  const std::vector<std::string> two = placed_names(shards_named(2));
  const std::vector<std::string> three = placed_names(shards_named(3));
  std::uint32_t taken = 0;
  for (std::uint32_t b = 0; b < usual_buckets; ++b) {
    if (three[b] == two[b]) continue;
    REQUIRE(three[b] == "redis_7072");
    ++taken;
  }
  CHECK(taken == std::ranges::count(three, "redis_7072"));
  CHECK(taken > usual_buckets * 0.97 / 3);
  CHECK(taken < usual_buckets * 1.03 / 3);
  // Whichever of the three goes, its buckets alone move.
  for (const std::string& gone : shards_named(3)) {
    std::vector<std::string> left = shards_named(3);
    std::erase(left, gone);
    const std::vector<std::string> after = placed_names(left);
    for (std::uint32_t b = 0; b < usual_buckets; ++b) {
      REQUIRE((after[b] == three[b]) == (three[b] != gone));
    }
  }
}

TEST_CASE("a placement knows the buckets of each shard") {
  const Placement placement({1, 0, 1, 2}, 3);
  CHECK(placement.buckets() == 4);
  CHECK(placement.shards() == 3);
  CHECK(placement.shard_of(2) == 1);
  CHECK(placement.buckets_on(0) == std::vector<std::uint32_t>{1});
  CHECK(placement.buckets_on(1) == std::vector<std::uint32_t>{0, 2});
}
