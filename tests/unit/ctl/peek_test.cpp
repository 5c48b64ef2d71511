#include "tests/unit/ctl/instance.hpp"

namespace visitd::test {

TEST_CASE("the records between applied and tail are shown, oldest first") {
  Instance instance;
  instance.make_ring();
  instance.publish(0, "first");
  instance.publish(0, "second", 3);
  instance.publish(0, "third");
  instance.publish(1, "other");
  instance.make_cache();
  instance.show_view({32, 32});
  const Json report = peek_report(instance.settings, 100, {});
  CHECK_FALSE(has_failed(report));
  const Json& lanes = report["rings"][0]["lanes"];
  REQUIRE(lanes.size() == 2);
  CHECK(lanes[0]["unapplied_bytes"] == 64);
  CHECK(lanes[0]["bytes_not_shown"] == 0);
  CHECK(lanes[0]["records"] == Json{{{"position", 32}, {"time", 1'700'000'000}, {"visits", 3}, {"page", "second"}},
                                    {{"position", 64}, {"time", 1'700'000'000}, {"visits", 1}, {"page", "third"}}});
  CHECK(lanes[1]["records"].empty());
  CHECK(peek_text(report).find("second") != std::string::npos);
}

TEST_CASE("only as many records are shown as were asked for, and of the lane asked for") {
  Instance instance;
  instance.make_ring();
  for (int i = 0; i < 10; ++i) instance.publish(1, "home");
  const Json report = peek_report(instance.settings, 4, 1);
  REQUIRE(report["rings"][0]["lanes"].size() == 1);
  const Json& lane = report["rings"][0]["lanes"][0];
  CHECK(lane["lane"] == 1);
  CHECK(lane["records"].size() == 4);
  CHECK(lane["bytes_not_shown"] == 6 * 32);
  CHECK(peek_text(report).find("192 B more") != std::string::npos);
  CHECK(peek_report(instance.settings, 4, 2)["error"] == "no ring has a lane 2");
}

TEST_CASE("records are shown across the end of the lane") {
  Instance instance;
  instance.make_ring({2, 4096, 64});
  instance.make_cache();
  instance.show_view();
  for (int i = 0; i < 127; ++i) instance.publish(0, "home");  // 32 bytes are left
  instance.cache().header().head[0].word.store(4064);
  instance.cache().view(1).applied(0).store(4064);
  instance.publish(0, "a page of more bytes than are left");
  const Json lane = peek_report(instance.settings, 10, 0)["rings"][0]["lanes"][0];
  REQUIRE(lane["records"].size() == 1);
  CHECK(lane["records"][0]["position"] == 4096);
  CHECK(lane["records"][0]["page"] == "a page of more bytes than are left");
}

TEST_CASE("a damaged record is named, and what stands before it is shown") {
  Instance instance;
  instance.make_ring();
  instance.publish(0, "whole");
  instance.publish(0, "broken");
  instance.ring().records(0)[4].store(0x123456789);
  const Json report = peek_report(instance.settings, 10, 0);
  const Json& lane = report["rings"][0]["lanes"][0];
  CHECK(lane["records"].size() == 1);
  CHECK(lane["damaged_at"] == 32);
  CHECK(lane["bytes_not_shown"] == 32);
  CHECK(peek_text(report).find("the record at 32 is damaged") != std::string::npos);
}

TEST_CASE("nothing to show is said") {
  Instance instance;
  instance.make_ring();
  CHECK(peek_text(peek_report(instance.settings, 10, {})) == "every record is applied\n");
}

TEST_CASE("without a view, what is not applied is not known") {
  Instance instance;
  instance.make_ring();
  instance.publish(0, "home");
  instance.make_cache();
  const Json report = peek_report(instance.settings, 10, 0);
  CHECK(report["rings"][0]["lanes"][0]["records"].empty());
  CHECK(peek_text(report).find("the flusher has not shown a view yet") != std::string::npos);
}

}  // namespace visitd::test
