#include "flusher/counting/room_for_moves.hpp"

#include <doctest/doctest.h>

namespace visitd {
namespace {

std::optional<Facts> server(std::uint64_t used, std::uint64_t limit) {
  Facts facts;
  facts.memory_bytes = used;
  facts.memory_limit_bytes = limit;
  return facts;
}

/// Two shards with all buckets, and a third one that takes its part.
Layout third_added() {
  return begin_move({1, 8192, 100, {{"a"}, {"b"}}, {}}, {{"a"}, {"b"}, {"c"}});
}

TEST_CASE("a shard has room for a third of what two others hold, or it is refused") {
  const Layout layout = third_added();
  CHECK(why_no_room(layout, std::nullopt, {server(3'000'000, 0), server(3'000'000, 0), server(1'000'000, 4'000'000)})
            .empty());
  const std::string why =
      why_no_room(layout, std::nullopt, {server(3'000'000, 0), server(3'000'000, 0), server(1'000'000, 2'000'000)});
  CHECK(why.find("shard c has too little memory: it uses 1000000 of 2000000 bytes") == 0);
}

TEST_CASE("the limit of a shard that gives buckets away does not matter") {
  CHECK(why_no_room(third_added(), std::nullopt,
                    {server(3'000'000, 3'000'000), server(3'000'000, 1), server(0, 9'000'000)})
            .empty());
}

TEST_CASE("a server has room that has no limit, or does not say") {
  CHECK(why_no_room(third_added(), std::nullopt, {server(1U << 30U, 0), server(1U << 30U, 0), server(1, 0)}).empty());
  CHECK(why_no_room(third_added(), std::nullopt, {server(1U << 30U, 0), std::nullopt, Facts{}}).empty());
  CHECK(why_no_room(third_added(), std::nullopt, {server(1U << 30U, 0), server(1U << 30U, 0), std::nullopt}).empty());
}

TEST_CASE("shards that stay need room for what a removed one leaves") {
  const Layout layout = begin_move({1, 8192, 100, {{"a"}, {"b"}}, {}}, {{"b"}});
  CHECK(why_no_room(layout, std::nullopt, {server(3'000'000, 0), server(1'000'000, 4'000'000)}).empty());
  CHECK_FALSE(why_no_room(layout, std::nullopt, {server(3'000'001, 0), server(1'000'000, 4'000'000)}).empty());
}

}  // namespace
}  // namespace visitd
