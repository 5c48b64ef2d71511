// The flusher dies in place of any store of the view; what readers see of it stays exact.
#include <doctest/doctest.h>

#include "tests/unit/common/view_world.hpp"

using namespace visitd::test;

namespace {

constexpr std::uint64_t seed = 20251124;

/// Lives and deaths until `kills` flushers are dead or something is wrong.
std::string fault_within(ViewWorld& world, std::uint64_t kills) {
  const std::uint64_t lives = 4 * kills;
  for (std::uint64_t life = 0; life < lives && world.kills() < kills; ++life) {
    const bool at_start = world.pick(4) == 0;
    world.live(200, at_start, 1 + world.pick(world.pick(2) == 0 ? 20 : 400));
    if (std::string fault = world.fault(); !fault.empty()) return fault;
  }
  return {};
}

}  // namespace

TEST_CASE("a flusher killed in place of any store leaves every count exact, and the next one goes on") {
  ViewWorld world(seed);
  INFO("seed ", seed);
  CHECK(fault_within(world, 150'000) == "");
  CHECK(world.kills() == 150'000);
  CHECK(world.evictions() > 50'000);
  MESSAGE("seed ", seed, ": ", world.kills(), " kills, ", world.found(), " entries made, ", world.evictions(),
          " evicted");
}

TEST_CASE("a flusher killed in place of each store of one life leaves every count exact") {
  for (std::uint64_t story = 0; story < 20; ++story) {
    INFO("story ", story);
    std::uint64_t stores = 1;
    for (bool killed = true; killed && stores < 20'000; ++stores) {
      ViewWorld world(seed + story);
      world.live(60, true, 0);
      world.live(60, true, stores);
      killed = world.kills() != 0;
      REQUIRE(world.fault() == "");
      world.live(60, true, 0);
      REQUIRE(world.fault() == "");
    }
    CHECK(stores > 200);
  }
}

TEST_CASE("a rule taken out is found") {
  const auto is_found = [](Broken broken) {
    ViewWorld world(seed, broken);
    try {
      return !fault_within(world, 20'000).empty();
    } catch (const std::logic_error&) {
      return true;  // a record that was overwritten before it was counted
    }
  };
  CHECK_FALSE(is_found(Broken::none));
  CHECK(is_found(Broken::note_after_version));
  CHECK(is_found(Broken::no_note_of_position));
  CHECK(is_found(Broken::no_note_of_base));
  CHECK(is_found(Broken::apply_open_first));
  CHECK(is_found(Broken::apply_position_first));
  CHECK(is_found(Broken::seal_without_change));
  CHECK(is_found(Broken::acknowledge_bare));
  CHECK(is_found(Broken::version_stays_odd));
  CHECK(is_found(Broken::link_before_filling));
  CHECK(is_found(Broken::link_before_next));
  CHECK(is_found(Broken::unlink_cuts_the_chain));
  CHECK(is_found(Broken::unlink_version_by_one));
  CHECK(is_found(Broken::build_in_the_shown_view));
  CHECK(is_found(Broken::show_before_building));
  CHECK(is_found(Broken::carry_any_base));
  CHECK(is_found(Broken::note_answered_after));
  CHECK(is_found(Broken::head_before_commit));
}
