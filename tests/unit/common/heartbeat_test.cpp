#include "common/counter/heartbeat.hpp"

#include <doctest/doctest.h>

using namespace visitd;

namespace {

constexpr std::uint64_t now_ms = 100'000'000;

/// A heartbeat of so long before now; negative: after it.
Word shown(std::int64_t before_ms) {
  return Word((now_ms - static_cast<std::uint64_t>(before_ms)) * 1'000'000);
}

}  // namespace

TEST_CASE("a heartbeat is recent up to its limit, and says its age") {
  const Word last = shown(500);
  CHECK(Heartbeat(last).is_within(500, now_ms));
  CHECK_FALSE(Heartbeat(last).is_within(499, now_ms));
  CHECK(Heartbeat(last).age_ms(now_ms) == 500);
}

TEST_CASE("a heartbeat that came after the look at the clock is of just now") {
  const Word last = shown(-1500);
  CHECK(Heartbeat(last).is_within(0, now_ms));
  CHECK(Heartbeat(last).age_ms(now_ms) == 0);
}

TEST_CASE("who never showed itself, or at a time that cannot be true, does not show itself") {
  const Word never{0};
  CHECK_FALSE(Heartbeat(never).is_within(recent_heartbeat_ms, 10));
  CHECK_FALSE(Heartbeat(never).age_ms(10));
  for (const std::uint64_t wrong : {~std::uint64_t{0}, (now_ms + 3'600'000) * 1'000'000}) {
    const Word last{wrong};
    CHECK_FALSE(Heartbeat(last).is_within(recent_heartbeat_ms, now_ms));
    CHECK_FALSE(Heartbeat(last).age_ms(now_ms));
  }
}

TEST_CASE("what is shown is seen") {
  Word last{0};
  Heartbeat::beat(last, now_ms * 1'000'000);
  CHECK(Heartbeat(last).age_ms(now_ms) == 0);
}

TEST_CASE("the lock says whether a process has ended, the heartbeat whether it is halted") {
  CHECK(presence_of(true, false, true) == Presence::running);
  CHECK(presence_of(true, true, false) == Presence::halted);
  CHECK(presence_of(false, false, true) == Presence::ended);
  CHECK(presence_of(false, true, false) == Presence::ended);
  CHECK(presence_of(false, true, true) == Presence::running);  // in another container, whose locks are not listed
}
