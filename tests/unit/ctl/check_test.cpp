#include "tests/unit/ctl/instance.hpp"

namespace visitd::test {
namespace {

std::string error_of(const Json& report) {
  return report.contains("error") ? report["error"].get<std::string>() : "";
}

bool says(const Json& report, std::string_view words) {
  return error_of(report).find(words) != std::string::npos;
}

}  // namespace

TEST_CASE("a frontend that holds its lane and shows itself works") {
  Instance instance;
  instance.make_ring();
  const FileLease lane = instance.own_lane(0);
  const Json report = check_report(instance.settings, "frontend");
  CHECK(error_of(report).empty());
  REQUIRE(report["processes"].size() == 1);
  CHECK(report["processes"][0]["works"] == true);
  CHECK(report["processes"][0]["pid"] == getpid());
  CHECK(check_text(report).find("frontend at lane 0") != std::string::npos);
}

TEST_CASE("without a frontend there is none that works, and the report says why") {
  Instance instance;
  CHECK(says(check_report(instance.settings, "frontend"), "no frontend has run with runtime directory"));
  instance.make_ring();
  CHECK(says(check_report(instance.settings, "frontend"), "no frontend that can be seen from here"));
  {
    const FileLease ended = instance.own_lane(1);
  }
  CHECK(says(check_report(instance.settings, "frontend"), "no frontend that can be seen from here"));
}

TEST_CASE("one frontend that does not work among others is a failure") {
  Instance instance;
  instance.make_ring();
  const FileLease works = instance.own_lane(0);
  const FileLease other = instance.own_lane(1);
  auto& about = instance.ring().lane(1).about;

  SUBCASE("it stands still") {
    about.heartbeat_ns.store(monotonic_ns() - 60'000'000'000);
    CHECK(says(check_report(instance.settings, "frontend"), "frontend at lane 1: it stands still"));
  }
  SUBCASE("it leaves its ring") {
    about.state.store(static_cast<std::uint64_t>(LaneState::closed));
    CHECK(says(check_report(instance.settings, "frontend"), "frontend at lane 1: it is leaving its ring"));
  }
  SUBCASE("its lane is full") {
    while (instance.ring().shape().lane_bytes - instance.tail(1) >= max_record_bytes) instance.publish(1, "home");
    CHECK(says(check_report(instance.settings, "frontend"), "frontend at lane 1: its lane is full"));
  }
  CHECK(check_report(instance.settings, "frontend")["processes"].size() == 2);
}

TEST_CASE("a frontend of a ring that another one replaced is leaving") {
  Instance instance;
  instance.make_ring();
  const FileLease lane = instance.own_lane(0);
  instance.make_ring();
  CHECK(says(check_report(instance.settings, "frontend"), "it is leaving its ring"));
}

TEST_CASE("the flusher works while it holds its lock and shows itself") {
  Instance instance;
  CHECK(says(check_report(instance.settings, "flusher"), "it has ended"));
  {
    const auto flusher = FileLease::try_take(instance.directory.flusher_lock());
    CHECK(says(check_report(instance.settings, "flusher"), "it waits for the first frontend"));
    instance.make_ring();
    instance.make_cache();
    instance.show_view();
    const Json report = check_report(instance.settings, "flusher");
    CHECK(error_of(report).empty());
    CHECK(report["processes"][0]["works"] == true);
    // Shards that are down are for somebody else to mend.
    CHECK(status_report(instance.settings)["shards"][1]["state"] == "down");
    instance.cache().header().heartbeat_ns.word.store(monotonic_ns() - 60'000'000'000);
    CHECK(says(check_report(instance.settings, "flusher"), "it stands still: it showed itself 1 min 0 s ago"));
  }
  CHECK(says(check_report(instance.settings, "flusher"), "it has ended"));
}

}  // namespace visitd::test
