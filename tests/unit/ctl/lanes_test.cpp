#include "tests/unit/ctl/instance.hpp"

namespace visitd::test {

TEST_CASE("without any frontend there is a clear error") {
  const Instance instance;
  const Json report = lanes_report(instance.settings);
  CHECK(report["error"] == "no frontend has run with runtime directory " + instance.directory.path() + " yet");
  CHECK(lanes_text(report).empty());
}

TEST_CASE("a runtime directory that does not exist is one where nothing ran") {
  Settings settings;
  settings.paths.runtime_directory = "/nonexistent/visitd";
  CHECK(has_failed(lanes_report(settings)));
}

TEST_CASE("a ring without a flusher is all unapplied") {
  Instance instance;
  instance.make_ring();
  const FileLease lane = instance.own_lane(1);
  instance.publish(1, "home");
  const Json report = lanes_report(instance.settings);
  CHECK_FALSE(has_failed(report));
  REQUIRE(report["rings"].size() == 1);
  const Json& ring = report["rings"][0];
  CHECK(ring["in_use"] == true);
  CHECK(ring["view"] == "no flusher has run with this runtime directory yet");
  CHECK(ring["lane_bytes"] == 65536);
  REQUIRE(ring["lanes"].size() == 2);
  CHECK(ring["lanes"][0]["process"] == "unused");
  CHECK(ring["lanes"][0]["pid"].is_null());
  CHECK(ring["lanes"][1]["process"] == "running");
  CHECK(ring["lanes"][1]["pid"] == getpid());
  CHECK(ring["lanes"][1]["lane_state"] == "open");
  CHECK(ring["lanes"][1]["unapplied_bytes"] == 32);
  CHECK(ring["lanes"][1]["undurable_bytes"] == 32);
  CHECK(lanes_text(report).find("no view: no flusher has run") != std::string::npos);
}

TEST_CASE("depths are told apart: not applied, and not durable") {
  Instance instance;
  instance.make_ring();
  for (int i = 0; i < 10; ++i) instance.publish(0, "home");
  instance.make_cache();
  instance.show_view({96, 0});
  instance.cache().header().head[0].word.store(64);
  instance.cache().header().requests_read[0].store(0);
  instance.ring().lane(0).requests_tail.word.store(128);
  const Json report = lanes_report(instance.settings);
  const Json& lane = report["rings"][0]["lanes"][0];
  CHECK(report["rings"][0]["view"] == "shown");
  CHECK(lane["tail"] == 320);
  CHECK(lane["applied"] == 96);
  CHECK(lane["head"] == 64);
  CHECK(lane["unapplied_bytes"] == 224);
  CHECK(lane["undurable_bytes"] == 256);
  CHECK(lane["requests_waiting_bytes"] == 128);
}

TEST_CASE("an owner that holds its lock and is quiet is halted, and one that let go has ended") {
  Instance instance;
  instance.make_ring();
  {
    const FileLease lane = instance.own_lane(0);
    CHECK(lanes_report(instance.settings)["rings"][0]["lanes"][0]["process"] == "running");
    instance.ring().lane(0).about.heartbeat_ns.store(monotonic_ns() - 60'000'000'000);
    const Json report = lanes_report(instance.settings);
    CHECK(report["rings"][0]["lanes"][0]["process"] == "halted");
    CHECK(report["rings"][0]["lanes"][0]["heartbeat_age_ms"] >= 60'000);
  }
  CHECK(lanes_report(instance.settings)["rings"][0]["lanes"][0]["process"] == "ended");
}

TEST_CASE("looking does not take a lock from anybody") {
  Instance instance;
  instance.make_ring();
  for (int i = 0; i < 50; ++i) {
    static_cast<void>(lanes_report(instance.settings));
    CHECK(FileLease::try_take(instance.directory.lane_lock(0)));
  }
}

TEST_CASE("positions that contradict each other are a fault and no depth") {
  Instance instance;
  instance.make_ring();
  instance.make_cache();
  instance.show_view({512, 0});
  Json lane = lanes_report(instance.settings)["rings"][0]["lanes"][0];
  CHECK(lane["fault"].get<std::string>().find("contradict") != std::string::npos);
  CHECK(lane["unapplied_bytes"].is_null());
  instance.show_view();
  instance.ring().lane(0).tail.word.store(65536 + 8);
  lane = lanes_report(instance.settings)["rings"][0]["lanes"][0];
  CHECK(lane["fault"].is_string());
  instance.ring().lane(0).tail.word.store(65536);
  CHECK(lanes_report(instance.settings)["rings"][0]["lanes"][0]["fault"].is_null());
}

TEST_CASE("a ring that is being left stands beside the one in use, until it is gone") {
  Instance instance;
  Ring& old = instance.make_ring();
  const SegmentNote old_note = old.note();
  old.segment().remove();
  instance.make_ring({1, 65536, 64});
  Json report = lanes_report(instance.settings);
  REQUIRE(report["rings"].size() == 2);
  CHECK(report["rings"][0]["in_use"] == false);
  CHECK(report["rings"][0]["removed"] == true);
  CHECK(report["rings"][1]["in_use"] == true);
  CHECK(lanes_text(report).find("being left, removed") != std::string::npos);
  instance.directory.note_rings({{old_note.id, 0x7ffffff0}, instance.ring().note()});
  report = lanes_report(instance.settings);
  CHECK(report["rings"].size() == 1);
}

TEST_CASE("without a view that is shown it is said why") {
  Instance instance;
  instance.make_ring();
  instance.publish(0, "home");
  instance.make_cache();
  const auto view = [&] { return lanes_report(instance.settings)["rings"][0]["view"].get<std::string>(); };
  CHECK(view() == "the flusher has not shown a view yet");
  CHECK(lanes_report(instance.settings)["rings"][0]["lanes"][0]["unapplied_bytes"].is_null());
  instance.show_view();
  CHECK(view() == "shown");
  instance.cache().header().retired.word.store(1);
  CHECK(view().find("retired") != std::string::npos);
  instance.cache().header().retired.word.store(0);
  instance.cache().header().ring_id.store(1);
  CHECK(view().find("another ring") != std::string::npos);
  instance.remove_cache();
  CHECK(view().find("there is no such segment any more") != std::string::npos);
}

TEST_CASE("the statistics of a lane are reported by name") {
  Instance instance;
  instance.make_ring();
  FrontendStatistics(&instance.ring().lane(0).statistics[0]).add(FrontendStatistic::visits, 12);
  const Json lane = lanes_report(instance.settings)["rings"][0]["lanes"][0];
  CHECK(lane["statistics"]["visits"] == 12);
  CHECK(lane["statistics"].size() == static_cast<std::size_t>(FrontendStatistic::count));
}

}  // namespace visitd::test
