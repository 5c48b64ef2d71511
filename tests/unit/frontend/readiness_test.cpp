#include "frontend/api/readiness.hpp"

#include <doctest/doctest.h>

#include <string>
#include <string_view>

#include "frontend_host.hpp"

namespace visitd {
namespace {

struct ReadinessRig {
  test::FrontendHost host;
  RingMembership membership{host.settings};

  /// "ok", "warning" or "failed", and the words behind it.
  std::string said(std::string_view name, Clocks clocks = read_clocks()) {
    for (const Check& check : check_readiness(host.settings, membership, clocks)) {
      if (check.name != name) continue;
      return std::string(name_of(check.result)) + ": " + check.detail;
    }
    return "no such check";
  }
};

TEST_CASE("a frontend is ready before there ever was a flusher, and says that there is none") {
  ReadinessRig rig;
  CHECK(rig.said("segment").starts_with("ok: ring segment "));
  CHECK(rig.said("lane") == "ok: lane 0 holds 0 of 65536 bytes");
  CHECK(rig.said("flusher") == "warning: no flusher has served this ring yet");
  CHECK(rig.said("spool") == "warning: no flusher has served this ring yet");
}

TEST_CASE("a lane that fills warns, and fails once it is full") {
  ReadinessRig rig;
  LaneProducer& records = rig.membership.records();
  while (records.tail() < 33'000) REQUIRE(records.publish(RecordKind::visit, "home", 1, 0, 1) == Published::published);
  CHECK(rig.said("lane").starts_with("warning: lane 0 holds 33024 of 65536 bytes"));
  while (records.publish(RecordKind::visit, "home", 1, 0, 1) == Published::published) continue;
  CHECK(rig.said("lane") == "failed: lane 0 holds 65536 of 65536 bytes: it is full");
}

TEST_CASE("a frontend that leaves its ring is not ready") {
  ReadinessRig rig;
  rig.membership.ring().header().superseded.store(1);
  CHECK(rig.said("segment").starts_with("failed: "));
  rig.membership.close_lane();
  CHECK(rig.said("lane").starts_with("failed: lane 0 is closed"));
}

TEST_CASE("a flusher that is silent, a spool that does not keep up and a shard that is down are warnings") {
  ReadinessRig rig;
  const Cache& cache = rig.host.make_cache(rig.membership.ring());
  rig.membership.follow_cache();
  CHECK(rig.said("flusher").starts_with("ok: "));
  CHECK(rig.said("spool") == "ok: every visit is in the spool");
  CHECK(rig.said("shard redis_7070") == "ok: up");
  Clocks later = read_clocks();
  later.monotonic_ns += 60'000'000'000;
  CHECK(rig.said("flusher", later).starts_with("warning: the flusher showed itself 60"));
  static_cast<void>(rig.membership.records().publish(RecordKind::visit, "home", 1, 1'700'000'000, 1));
  CHECK(rig.said("spool", {1, 1'700'000'002}) == "ok: the oldest visit that is not in the spool has waited 2 s");
  CHECK(rig.said("spool", {1, 1'700'000'060}) == "warning: the oldest visit that is not in the spool has waited 60 s");
  set_shard_state(cache.header().shard[1], ShardState::down, "connection refused");
  CHECK(rig.said("shard redis_7071") == "warning: down: connection refused");
}

}  // namespace
}  // namespace visitd
