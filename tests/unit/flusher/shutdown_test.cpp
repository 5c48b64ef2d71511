#include "flusher/counting/shutdown.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <initializer_list>

namespace visitd::test {
namespace {

using StopStep = Shutdown::Step;

constexpr std::uint64_t asked_ms = 1000;
constexpr std::uint64_t flush_ms = 300;
constexpr std::uint64_t deadline_ms = asked_ms + flush_ms;

Shutdown asked() {
  Shutdown shutdown;
  shutdown.ask(asked_ms, flush_ms);
  return shutdown;
}

/// Whose last flush has begun.
Shutdown flushing() {
  Shutdown shutdown = asked();
  REQUIRE(shutdown.next(asked_ms, {.idle = true}) == StopStep::begin_flush);
  return shutdown;
}

}  // namespace

TEST_CASE("a flusher that nobody asks to stop goes on") {
  Shutdown shutdown;
  CHECK_FALSE(shutdown.is_asked());
  CHECK(shutdown.next(~std::uint64_t{0}, {.idle = true, .flushed = true, .durable = true}) == StopStep::wait);
}

TEST_CASE("a stop empties the lanes, flushes, commits and ends") {
  Shutdown shutdown = asked();
  CHECK(shutdown.is_asked());
  // Nothing that is so of an earlier flush ends it.
  CHECK(shutdown.next(asked_ms, {.flushed = true, .durable = true}) == StopStep::wait);
  CHECK(shutdown.next(asked_ms + 1, {.idle = true, .durable = true}) == StopStep::begin_flush);
  CHECK(shutdown.next(asked_ms + 2, {.idle = true, .durable = true}) == StopStep::wait);
  CHECK(shutdown.next(asked_ms + 3, {.idle = true, .flushed = true}) == StopStep::commit);
  CHECK(shutdown.next(asked_ms + 4, {.flushed = true}) == StopStep::commit);
  CHECK(shutdown.next(asked_ms + 5, {.flushed = true, .durable = true}) == StopStep::end);
}

TEST_CASE("the last flush begins in a turn of its own, and what is durable already ends the stop at once") {
  Shutdown shutdown = asked();
  CHECK(shutdown.next(asked_ms, {.idle = true, .flushed = true, .durable = true}) == StopStep::begin_flush);
  CHECK(shutdown.next(asked_ms, {.idle = true, .flushed = true, .durable = true}) == StopStep::end);
}

TEST_CASE("lanes that never become empty hold up the last flush until its deadline") {
  Shutdown shutdown = asked();
  CHECK(shutdown.next(deadline_ms - 1, {}) == StopStep::wait);
  CHECK(shutdown.next(deadline_ms, {}) == StopStep::begin_flush);
  CHECK(shutdown.next(deadline_ms, {.flushed = true, .durable = true}) == StopStep::end);
}

TEST_CASE("a flush that is not done by its deadline leaves batches in the spool") {
  Shutdown shutdown = flushing();
  CHECK(shutdown.next(deadline_ms - 1, {.idle = true, .durable = true}) == StopStep::wait);
  CHECK(shutdown.next(deadline_ms, {.idle = true}) == StopStep::commit);
  CHECK(shutdown.next(deadline_ms + 1, {.idle = true, .durable = true}) == StopStep::end_with_batches);
}

TEST_CASE("a flush that is done while the last commits are waited for leaves none") {
  Shutdown shutdown = flushing();
  CHECK(shutdown.next(deadline_ms, {}) == StopStep::commit);
  CHECK(shutdown.next(deadline_ms + 1, {.flushed = true}) == StopStep::commit);
  CHECK(shutdown.next(deadline_ms + 2, {.flushed = true, .durable = true}) == StopStep::end);
}

TEST_CASE("a stop waits for a disk that is full or slow until the last deadline, and no longer") {
  for (const bool flushed : {true, false}) {
    Shutdown shutdown = flushing();
    CHECK(shutdown.next(deadline_ms + Shutdown::commit_ms - 1, {.flushed = flushed}) == StopStep::commit);
    CHECK(shutdown.next(deadline_ms + Shutdown::commit_ms, {.flushed = flushed}) ==
          (flushed ? StopStep::end : StopStep::end_with_batches));
  }
}

TEST_CASE("a stop without time for a flush begins one and leaves its batches") {
  Shutdown shutdown;
  shutdown.ask(asked_ms, 0);
  CHECK(shutdown.next(asked_ms, {}) == StopStep::begin_flush);
  CHECK(shutdown.next(asked_ms, {}) == StopStep::commit);
  CHECK(shutdown.next(asked_ms + 1, {.durable = true}) == StopStep::end_with_batches);
}

TEST_CASE("a stop that is asked for again keeps its deadline") {
  Shutdown shutdown = asked();
  shutdown.ask(deadline_ms - 1, 100'000);
  CHECK(shutdown.next(deadline_ms, {}) == StopStep::begin_flush);
}

}  // namespace visitd::test
