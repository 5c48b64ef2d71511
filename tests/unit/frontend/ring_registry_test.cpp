#include "common/counter/ring_registry.hpp"

#include <doctest/doctest.h>

#include <optional>
#include <vector>

#include "common/counter/lane_lease.hpp"
#include "tests/unit/frontend/frontend_host.hpp"

using namespace visitd;
using test::FrontendHost;

namespace {

constexpr RingShape shape{2, 65536, 64};

void set_state(const Ring& ring, std::uint32_t lane, LaneState state) {
  ring.lane(lane).about.state.store(static_cast<std::uint64_t>(state));
}

}  // namespace

TEST_CASE("a ring is left when nothing is in it or a flusher takes what is, and kept when none comes in time") {
  CHECK(decide_replacement(true, false, false) == Replacement::leave);
  CHECK(decide_replacement(true, false, true) == Replacement::leave);
  CHECK(decide_replacement(false, true, true) == Replacement::leave);
  CHECK(decide_replacement(false, false, false) == Replacement::wait);
  CHECK(decide_replacement(false, false, true) == Replacement::keep);
}

TEST_CASE("a ring is former once it is removed or another one is named after it") {
  FrontendHost host;
  host.directory.ensure();
  const RingRegistry registry(host.directory);
  CHECK_FALSE(registry.newest());
  Ring first = registry.make(shape);
  CHECK_FALSE(registry.is_former(first));
  Ring second = registry.make(shape);
  CHECK(registry.is_former(first));
  CHECK(first.is_superseded());
  CHECK_FALSE(registry.is_former(second));
  CHECK(std::get<Ring>(*registry.newest()).note() == second.note());
  registry.remove_former(second);
  CHECK(first.segment().status().removed);
  second.segment().remove();
  CHECK(registry.is_former(second));
}

TEST_CASE("a lane has one owner, and a ring is deserted when each lane is closed or has none") {
  FrontendHost host;
  host.directory.ensure();
  const Ring ring = RingRegistry(host.directory).make(shape);
  // Attached twice: nobody can tell from that whether somebody may add to it.
  const auto again = Ring::attach(ring.note(), SharedSegment::Access::read_only);
  const LaneOwners owners(ring, host.directory);
  CHECK(owners.is_deserted());
  auto first = LaneLease::take(ring, host.directory);
  auto second = LaneLease::take(ring, host.directory);
  REQUIRE(first);
  REQUIRE(second);
  CHECK(first->lane() == 0);
  CHECK(second->lane() == 1);
  CHECK_FALSE(LaneLease::take(ring, host.directory));
  CHECK(owners.is_owned(0));  // before its owner has opened it
  CHECK_FALSE(owners.is_deserted());
  set_state(ring, 0, LaneState::closed);
  CHECK_FALSE(owners.is_owned(0));
  CHECK_FALSE(owners.is_deserted());
  second.reset();
  CHECK(owners.is_deserted());
  CHECK_FALSE(is_closed(ring));
  set_state(ring, 1, LaneState::closed);
  CHECK(is_closed(ring));
}

TEST_CASE("what is durable is what a cache of the ring or the lane's owner says, where that can be true") {
  FrontendHost host;
  host.directory.ensure();
  const Ring ring = RingRegistry(host.directory).make(shape);
  ring.lane(0).tail.word.store(800);
  CHECK_FALSE(is_drained(ring, nullptr));
  CHECK(undurable_bytes(ring, {}) == 800);
  ring.lane(0).about.freed.store(96);
  CHECK(undurable_bytes(ring, {}) == 704);
  ring.lane(0).about.freed.store(1600);  // beyond the tail
  CHECK(freed_of(ring, 0) == 0);
  CHECK(undurable_bytes(ring, {}) == 800);
  Cache& cache = host.make_cache(ring);
  cache.header().head[0].word.store(480);
  std::vector<CacheFront> caches;
  caches.push_back(*CacheFront::attach(cache.note(), SharedSegment::Access::read_only));
  CHECK(undurable_bytes(ring, caches) == 320);
  CHECK_FALSE(is_drained(ring, &cache.header()));
  cache.header().head[0].word.store(800);
  CHECK(undurable_bytes(ring, caches) == 0);
  CHECK(is_drained(ring, &cache.header()));
}
