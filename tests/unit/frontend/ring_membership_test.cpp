#include "common/counter/ring_membership.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "common/os/errors.hpp"
#include "tests/unit/contains.hpp"
#include "tests/unit/frontend/frontend_host.hpp"

using namespace visitd;
using test::contains;
using test::FrontendHost;

namespace {

void visit(RingMembership& membership, std::string_view page = "home") {
  const std::uint64_t hash = page_hash(page, membership.ring().hash_seed());
  REQUIRE(membership.records().publish(RecordKind::visit, page, 1, 0, hash) == Published::published);
}

/// `ipcrm -m` of the ring in use.
void remove_ring(const FrontendHost& host) {
  auto segment = SharedSegment::attach(host.directory.rings().back().segment, SharedSegment::Access::read_only);
  REQUIRE(segment);
  segment->remove();
}

/// The message with which a frontend does not start; empty: it starts.
std::string why_not(const Settings& settings) {
  try {
    const RingMembership membership(settings);
    return {};
  } catch (const std::exception& failure) {
    return failure.what();
  }
}

}  // namespace

// ---- lanes

TEST_CASE("the first frontend makes the ring, the next ones join it, each with a lane of its own") {
  FrontendHost host;
  RingMembership first(host.settings);
  RingMembership second(host.settings);
  CHECK(first.lane() == 0);
  CHECK(second.lane() == 1);
  CHECK(first.ring().note() == second.ring().note());
  CHECK(host.directory.rings() == std::vector<SegmentNote>{first.ring().note()});
  CHECK(first.ring().shape() == RingShape{2, 65536, 64});
  CHECK(first.ring().lane_state(1) == LaneState::open);
  CHECK(second.lane_header().about.owner.load() == static_cast<std::uint64_t>(getpid()));
  CHECK(second.lane_header().about.owners.load() == 1);
  CHECK(first.own_bell());
  CHECK(first.flusher_bell());
  visit(second);
  CHECK(first.ring().lane(1).tail.word.load() == second.records().tail());
  CHECK(first.check().empty());
  CHECK_FALSE(first.ring().is_superseded());
}

TEST_CASE("when all lanes are taken the error names who holds them") {
  FrontendHost host;
  const RingMembership first(host.settings);
  const RingMembership second(host.settings);
  const std::string why = why_not(host.settings);
  CHECK(contains(why, "all 2 lanes of the ring are taken"));
  CHECK(contains(why, "raise ring.lanes"));
  CHECK(contains(why, "\n  lane 0: process " + std::to_string(getpid())));
  CHECK(contains(why, "\n  lane 1: process " + std::to_string(getpid())));
}

TEST_CASE("the next owner of a lane appends behind what the former one left") {
  FrontendHost host;
  const RingMembership other(host.settings);
  std::uint64_t tail = 0;
  {
    RingMembership former(host.settings);
    visit(former);
    tail = former.records().tail();
  }
  RingMembership next(host.settings);
  CHECK(next.lane() == 1);
  CHECK(next.records().tail() == tail);
  CHECK(next.lane_header().about.owners.load() == 2);
  visit(next, "about");
  const auto seen = test::records_between(next.ring().records(1), 0, next.records().tail());
  REQUIRE(seen.size() == 2);
  CHECK(seen[0].page == "home");
  CHECK(seen[1].page == "about");
}

TEST_CASE("a closed lane is nobody's any more, and a ring of closed lanes is followed by another") {
  FrontendHost host;
  SegmentNote former;
  {
    RingMembership first(host.settings);
    former = first.ring().note();
    first.close_lane();
  }
  {
    RingMembership second(host.settings);
    CHECK(second.ring().note() == former);
    CHECK(second.lane() == 1);
    second.close_lane();
  }
  const RingMembership third(host.settings);
  CHECK(third.ring().note() != former);
  CHECK(third.lane() == 0);
  CHECK(host.directory.rings() == std::vector<SegmentNote>{former, third.ring().note()});
}

TEST_CASE("what a frontend recorded is durable when the flusher's head says so") {
  FrontendHost host;
  RingMembership membership(host.settings);
  CHECK_FALSE(membership.is_durable());  // nobody could say so
  visit(membership);
  const Cache& cache = host.make_cache(membership.ring());
  membership.follow_cache();
  CHECK_FALSE(membership.is_durable());
  cache.header().head[0].word.store(membership.records().tail());
  CHECK(membership.is_durable());
  visit(membership);
  CHECK_FALSE(membership.is_durable());
}

// ---- another ring

TEST_CASE("a ring that was removed is told to its frontends, and the next one makes another") {
  FrontendHost host;
  RingMembership former(host.settings);
  visit(former);
  remove_ring(host);
  CHECK(contains(former.check(), "was removed"));
  CHECK_FALSE(former.ring().is_superseded());
  const RingMembership next(host.settings);  // lane 0 of it is still locked by the former ring's frontend
  CHECK(next.ring().note() != former.ring().note());
  CHECK(next.lane() == 1);
  CHECK(former.ring().is_superseded());
  CHECK_FALSE(next.ring().is_superseded());
  // The flusher finds both, the older one first.
  CHECK(host.directory.rings() == std::vector<SegmentNote>{former.ring().note(), next.ring().note()});
}

TEST_CASE("a lane has no two owners when its lock file was replaced: a new ring is made, the old one is superseded") {
  FrontendHost host;
  RingMembership former(host.settings);
  std::filesystem::remove(host.directory.lane_lock(0));
  CHECK(contains(former.check(), "was replaced or removed"));
  RingMembership next(host.settings);
  CHECK(next.ring().note() != former.ring().note());
  CHECK(next.lane() == 0);
  CHECK(former.ring().is_superseded());
  CHECK(next.check().empty());
}

TEST_CASE("a runtime directory that was made anew hides no ring") {
  FrontendHost host;
  RingMembership former(host.settings);
  visit(former);
  std::filesystem::remove_all(host.directory.path());
  CHECK_FALSE(former.check().empty());
  const RingMembership next(host.settings);
  CHECK(next.ring().note() != former.ring().note());
  CHECK(former.ring().is_superseded());
  CHECK(host.directory.rings() == std::vector<SegmentNote>{former.ring().note(), next.ring().note()});
}

TEST_CASE("rings that are gone are forgotten when another is made") {
  FrontendHost host;
  {
    const RingMembership former(host.settings);
  }
  remove_ring(host);
  const RingMembership next(host.settings);
  CHECK(host.directory.rings() == std::vector<SegmentNote>{next.ring().note()});
}

TEST_CASE("a ring whose records only another version can read is left alone, and the error says what to do") {
  FrontendHost host;
  const RingMembership first(host.settings);
  first.ring().header().record_format.store(record_format + 1);
  const std::string why = why_not(host.settings);
  CHECK(contains(why, "another version"));
  CHECK(contains(why, "ipcrm -m " + std::to_string(first.ring().note().segment)));
  first.ring().header().record_format.store(record_format);
}

TEST_CASE("a ring whose maker died over it is followed by another") {
  FrontendHost host;
  const RingMembership first(host.settings);
  first.ring().header().magic.store(0);
  const RingMembership second(host.settings);
  CHECK(second.ring().note() != first.ring().note());
  first.ring().header().magic.store(ring_magic);
}

// ---- other settings

TEST_CASE("settings that ask for another ring get one when the former holds nothing that is not in the spool") {
  FrontendHost host;
  SegmentNote former;
  std::optional<Ring> kept_attached;
  {
    RingMembership membership(host.settings);
    visit(membership);
    former = membership.ring().note();
    const Cache& cache = host.make_cache(membership.ring());
    cache.header().head[0].word.store(membership.records().tail());
    auto attached = Ring::attach(former, SharedSegment::Access::read_only);
    kept_attached = std::get<Ring>(std::move(attached));
  }
  host.settings.ring.lanes = 3;
  const RingMembership next(host.settings);
  CHECK(next.ring().shape() == RingShape{3, 65536, 64});
  CHECK(kept_attached->segment().status().removed);
}

TEST_CASE("visits that no flusher has taken keep their ring in use, whatever the settings say") {
  FrontendHost host;
  SegmentNote former;
  {
    RingMembership membership(host.settings);
    visit(membership);
    former = membership.ring().note();
  }
  host.settings.ring.lanes = 3;
  host.settings.ring.lane_bytes = 131072;
  const RingMembership next(host.settings);
  CHECK(next.ring().note() == former);
  CHECK(next.ring().shape() == RingShape{2, 65536, 64});
  CHECK_FALSE(next.ring().segment().status().removed);
}

TEST_CASE("with a flusher at work a frontend of other settings waits until the former ring is left and drained") {
  FrontendHost host;
  auto former = std::make_unique<RingMembership>(host.settings);
  visit(*former);
  const Cache& cache = host.make_cache(former->ring());
  former->follow_cache();
  const auto flusher = FileLease::try_take(host.directory.flusher_lock());
  REQUIRE(flusher);
  Settings other = host.settings;
  other.ring.lane_bytes = 131072;
  cache.header().heartbeat_ns.word.store(monotonic_ns());
  auto joining = std::async(std::launch::async, [&] { return std::make_unique<RingMembership>(other); });
  const auto is_waiting = [&] {
    return joining.wait_for(std::chrono::milliseconds(60)) == std::future_status::timeout;
  };

  std::string why;
  for (int i = 0; i < 100 && why.empty(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    why = former->check();
  }
  CHECK(contains(why, "was removed"));
  CHECK(is_waiting());
  former->close_lane();
  CHECK(is_waiting());  // left, and not drained
  cache.header().head[0].word.store(former->records().tail());
  const std::unique_ptr<RingMembership> next = joining.get();
  CHECK(next->ring().shape() == RingShape{2, 131072, 64});
  CHECK(next->ring().note() != former->ring().note());
}

TEST_CASE("a ring of other settings that is not left in time is an error that names who uses it, and what is there") {
  FrontendHost host;
  RingMembership former(host.settings);
  visit(former);
  const Cache& cache = host.make_cache(former.ring());
  const auto flusher = FileLease::try_take(host.directory.flusher_lock());
  REQUIRE(flusher);
  Settings other = host.settings;
  other.ring.lane_bytes = 131072;
  cache.header().heartbeat_ns.word.store(monotonic_ns());
  std::string why;
  try {
    const RingMembership next(other, RingMaker::each_frontend, {.leave = std::chrono::milliseconds(100)});
  } catch (const Error& failure) {
    why = failure.what();
  }
  CHECK(contains(why, "was not left within"));
  CHECK(contains(why, "lane 0 is still used by process"));
  CHECK(contains(why, "bytes that the flusher has not made durable"));
  // It was marked removed: the next start makes another beside it, which the flusher takes after it.
  const RingMembership next(other, RingMaker::each_frontend, {.leave = std::chrono::milliseconds(100)});
  CHECK(next.ring().note() != former.ring().note());
  CHECK(host.directory.rings().size() == 2);
  CHECK(former.ring().is_superseded());
}

TEST_CASE("who may not make a ring for too long says who keeps it from that") {
  FrontendHost host;
  host.directory.ensure();
  const auto other = FileLease::try_take(host.directory.ring_lock());
  REQUIRE(other);
  CHECK_THROWS_WITH_AS(RingMembership(host.settings, RingMaker::each_frontend, {.make = std::chrono::milliseconds(30)}),
                       doctest::Contains("has held the lock"), Error);
}

// ---- the cache

TEST_CASE("a cache is found when it serves this ring, and followed when another takes its place") {
  FrontendHost host;
  RingMembership membership(host.settings);
  CHECK(membership.cache() == nullptr);
  CHECK(membership.cache_changes() == 0);
  CHECK(membership.check().empty());
  CHECK(membership.cache() == nullptr);

  const Cache& first = host.make_cache(membership.ring());
  CHECK(membership.check().empty());
  REQUIRE(membership.cache() != nullptr);
  CHECK(membership.cache()->note() == first.note());
  CHECK(membership.cache_changes() == 1);
  membership.follow_cache();
  CHECK(membership.cache_changes() == 1);

  const Cache& second = host.make_cache(membership.ring());
  first.header().retired.word.store(1);
  membership.follow_cache();
  CHECK(membership.cache()->note() == second.note());
  CHECK(membership.cache_changes() == 2);

  // Retired, and none takes its place yet: it stays attached, for whoever asks how it is.
  second.header().retired.word.store(1);
  membership.follow_cache();
  CHECK(membership.cache()->note() == second.note());
  CHECK(membership.cache_changes() == 2);
}

TEST_CASE("a cache of another ring is none") {
  FrontendHost host;
  FrontendHost elsewhere;
  const RingMembership other(elsewhere.settings);
  RingMembership membership(host.settings);
  static_cast<void>(host.make_cache(other.ring()));
  membership.follow_cache();
  CHECK(membership.cache() == nullptr);
}

TEST_CASE("a new cache's head frees space, and never takes any back") {
  FrontendHost host;
  host.settings.ring.lane_bytes = 4096;
  RingMembership membership(host.settings);
  const auto fill = [&] {
    int published = 0;
    while (membership.records().publish(RecordKind::visit, "home", 1, 0, 1) == Published::published) ++published;
    return published;
  };
  CHECK(fill() == 128);
  const Cache& first = host.make_cache(membership.ring());
  first.header().head[0].word.store(10 * 32);
  membership.follow_cache();
  CHECK(fill() == 10);
  const Cache& second = host.make_cache(membership.ring());
  first.header().retired.word.store(1);
  membership.follow_cache();
  CHECK(membership.records().head() == 10 * 32);
  CHECK(fill() == 0);
  second.header().head[0].word.store(15 * 32);
  CHECK(fill() == 5);
}

TEST_CASE("a flusher that serves this ring has drained those before it: they are removed") {
  FrontendHost host;
  RingMembership former(host.settings);
  std::filesystem::remove(host.directory.lane_lock(0));
  RingMembership next(host.settings);
  CHECK_FALSE(former.ring().segment().status().removed);
  static_cast<void>(host.make_cache(next.ring()));
  CHECK(next.check().empty());
  CHECK(former.ring().segment().status().removed);
  CHECK_FALSE(next.ring().segment().status().removed);
}

TEST_CASE("a check shows that the frontend lives") {
  FrontendHost host;
  RingMembership membership(host.settings);
  membership.lane_header().about.heartbeat_ns.store(0);
  const std::uint64_t before = monotonic_ns();
  CHECK(membership.check().empty());
  CHECK(membership.lane_header().about.heartbeat_ns.load() >= before);
}

// ---- a ring that was prepared

TEST_CASE("a frontend that makes nothing says who does, and finds all it needs once that was done") {
  FrontendHost host;
  try {
    const RingMembership membership(host.settings, RingMaker::prepared, {.prepare = std::chrono::milliseconds(30)});
    FAIL("it started without a ring");
  } catch (const std::exception& failure) {
    CHECK(contains(failure.what(), "run visit-frontend --prepare"));
  }
  CHECK(host.directory.rings().empty());

  prepare_ring(host.settings);
  const auto entries = [&] {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(host.directory.path()))
      names.push_back(entry.path().filename());
    std::ranges::sort(names);
    return names;
  };
  const std::vector<std::string> prepared = entries();
  const SegmentNote ring = host.directory.rings().back();
  {
    RingMembership first(host.settings, RingMaker::prepared);
    const RingMembership second(host.settings, RingMaker::prepared);
    CHECK(first.ring().note() == ring);
    CHECK(second.lane() == 1);
    visit(first);
    CHECK(first.check().empty());
    // Again while all lanes are taken: there is nothing to make.
    prepare_ring(host.settings);
  }
  CHECK(host.directory.rings() == std::vector<SegmentNote>{ring});
  CHECK(entries() == prepared);
}

TEST_CASE("a ring that was removed is made anew by preparing, and by no frontend that makes nothing") {
  FrontendHost host;
  prepare_ring(host.settings);
  const SegmentNote former = host.directory.rings().back();
  remove_ring(host);
  CHECK_THROWS_AS(RingMembership(host.settings, RingMaker::prepared, {.prepare = std::chrono::milliseconds(30)}),
                  Error);
  // One that starts while the ring is being made waits for it.
  auto started = std::async(std::launch::async, [&] {
    return std::make_unique<RingMembership>(host.settings, RingMaker::prepared,
                                            RingPatience{.prepare = std::chrono::seconds(30)});
  });
  CHECK(started.wait_for(std::chrono::milliseconds(50)) == std::future_status::timeout);
  prepare_ring(host.settings);
  CHECK(host.directory.rings().back() != former);
  const std::unique_ptr<RingMembership> membership = started.get();
  CHECK(membership->ring().note() == host.directory.rings().back());
}
