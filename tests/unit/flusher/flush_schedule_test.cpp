#include "flusher/counting/flush_schedule.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

using namespace visitd;

namespace {

constexpr std::uint64_t interval_ms = 30'000;
constexpr std::uint64_t start_ms = 1'000'000;

/// When a schedule's only shard is flushed, from `from_ms` on for so long.
std::vector<std::uint64_t> flushes(FlushSchedule& schedule, std::uint64_t from_ms, std::uint64_t for_ms,
                                   bool takes_batches = true) {
  std::vector<std::uint64_t> begun;
  for (std::uint64_t ms = from_ms; ms < from_ms + for_ms; ms += 10) {
    if (schedule.begins(0, ms, takes_batches, false)) begun.push_back(ms);
  }
  return begun;
}

}  // namespace

TEST_CASE("a shard is flushed every interval, for the first time after half of one at least") {
  for (int n = 0; n < 50; ++n) {
    FlushSchedule schedule(1, interval_ms, "writer-" + std::to_string(n));
    const std::vector<std::uint64_t> begun = flushes(schedule, start_ms, 10 * interval_ms);
    REQUIRE(begun.size() >= 9);
    CHECK(begun[0] >= start_ms + interval_ms / 2);
    CHECK(begun[0] < start_ms + interval_ms / 2 * 3 + 10);
    for (std::size_t i = 1; i < begun.size(); ++i) REQUIRE(begun[i] - begun[i - 1] == interval_ms);
  }
}

TEST_CASE("a fleet that was started at once does not flush at once") {
  constexpr std::size_t hosts = 1000;
  constexpr std::size_t parts = 10;
  std::vector<std::size_t> by_part(parts);
  for (std::size_t n = 0; n < hosts; ++n) {
    FlushSchedule schedule(1, interval_ms, "writer-" + std::to_string(n));
    const std::uint64_t begun = flushes(schedule, start_ms, 2 * interval_ms).front();
    ++by_part[(begun - start_ms - interval_ms / 2) * parts / (interval_ms + 10)];
  }
  CHECK(*std::ranges::min_element(by_part) > hosts / parts / 2);
  CHECK(*std::ranges::max_element(by_part) < hosts / parts * 3 / 2);
}

TEST_CASE("a writer's moment stays over a restart, and when a flush was late") {
  FlushSchedule schedule(1, interval_ms, "writer");
  const std::uint64_t moment = flushes(schedule, start_ms, 2 * interval_ms).front() % interval_ms;
  FlushSchedule next(1, interval_ms, "writer");
  CHECK(flushes(next, start_ms + 12'340, 2 * interval_ms).front() % interval_ms == moment);
  // The loop stood still for a good part of an interval.
  const std::uint64_t late_ms = start_ms + 4 * interval_ms + 7'000;
  static_cast<void>(next.begins(0, late_ms, true, false));
  for (const std::uint64_t begun : flushes(next, late_ms + 10, 3 * interval_ms)) CHECK(begun % interval_ms == moment);
}

TEST_CASE("a flush that its shard cannot take is overdue until it can") {
  FlushSchedule schedule(1, interval_ms, "writer");
  CHECK(flushes(schedule, start_ms, 2 * interval_ms, false).empty());
  const auto since_ms = schedule.overdue_since_ms(0);
  REQUIRE(since_ms);
  CHECK(*since_ms < start_ms + interval_ms / 2 * 3 + 10);
  CHECK(flushes(schedule, start_ms + 2 * interval_ms, 3 * interval_ms, false).empty());
  CHECK(schedule.overdue_since_ms(0) == since_ms);
  CHECK(schedule.begins(0, start_ms + 5 * interval_ms, true, false));
  CHECK_FALSE(schedule.overdue_since_ms(0));
  CHECK_FALSE(schedule.begins(0, start_ms + 5 * interval_ms + 1, true, false));
}

TEST_CASE("a crowded memory begins a flush early, and no second one while it runs") {
  FlushSchedule schedule(2, interval_ms, "writer");
  CHECK_FALSE(schedule.begins(0, start_ms, true, false));
  CHECK(schedule.begins(0, start_ms + 1, true, true));
  CHECK(schedule.is_running(0));
  CHECK_FALSE(schedule.begins(0, start_ms + 2, true, true));
  CHECK_FALSE(schedule.begins(1, start_ms + 2, false, true));
  schedule.flushed(0);
  CHECK_FALSE(schedule.take_flush_of_all());
  CHECK(schedule.begins(0, start_ms + 3, true, true));
  schedule.flushed(0);
  schedule.flushed(1);
  CHECK(schedule.take_flush_of_all());
  CHECK_FALSE(schedule.take_flush_of_all());
}

TEST_CASE("another interval holds from now on, and what was due sooner stays so") {
  FlushSchedule schedule(1, interval_ms, "writer");
  CHECK_FALSE(schedule.begins(0, start_ms, true, false));
  schedule.use(200, start_ms);
  CHECK(flushes(schedule, start_ms, 1000).size() >= 4);
  schedule.use(3'600'000, start_ms + 1000);
  CHECK(flushes(schedule, start_ms + 1000, 10'000).size() == 1);
}

TEST_CASE("how long a flush has been going on is known, also of one of an earlier life") {
  FlushSchedule schedule(1, interval_ms, "writer");
  CHECK_FALSE(schedule.begins(0, start_ms, true, false));
  schedule.note_begin(1, 1, start_ms + 100);
  schedule.note_begin(2, 1, start_ms + 200);
  schedule.note_begin(3, 2, start_ms + 300);
  CHECK(schedule.begun_ms(2) == start_ms + 200);
  CHECK(schedule.begun_ms(3) == start_ms + 300);
  CHECK(schedule.begun_ms(0) == start_ms);
}
