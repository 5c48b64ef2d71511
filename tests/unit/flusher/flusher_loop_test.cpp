#include "flusher/flusher_loop.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <functional>

#include "common/os/clock.hpp"
#include "tests/unit/temporary_folder.hpp"

namespace visitd {

namespace {

constexpr std::uint64_t long_ms = 60'000;
constexpr std::uint64_t short_ms = 20;

/// Its first turn does what the test says, its second one ends it.
class TwoTurns final : public FlusherLoop::Events {
 public:
  explicit TwoTurns(std::function<void(FlusherLoop& loop)> first) : loop_(folder_ / "bell"), first_(std::move(first)) {}

  /// How long the second turn came after the first one.
  std::uint64_t gap_ms() {
    loop_.start(*this);
    loop_.run();
    return gap_ms_;
  }

 private:
  void on_turn() override {
    const std::uint64_t at_ms = monotonic_ms();
    if (first_at_ms_ != 0) {
      gap_ms_ = at_ms - first_at_ms_;
      return loop_.end(FlusherEnd::stopped);
    }
    first_at_ms_ = at_ms;
    first_(loop_);
  }
  void on_stop() override {}
  void on_reload() override {}

  test::TemporaryFolder folder_;
  FlusherLoop loop_;
  std::function<void(FlusherLoop&)> first_;
  std::uint64_t first_at_ms_ = 0;
  std::uint64_t gap_ms_ = 0;
};

}  // namespace

TEST_CASE("a turn that is far off comes sooner where something makes it possible") {
  TwoTurns turns([](FlusherLoop& loop) {
    loop.turn_in(long_ms);
    loop.turn_within(short_ms);
  });
  CHECK(turns.gap_ms() < long_ms);
}

TEST_CASE("a turn that comes sooner is not put off") {
  TwoTurns turns([](FlusherLoop& loop) {
    loop.turn_in(short_ms);
    loop.turn_within(long_ms);
  });
  CHECK(turns.gap_ms() < long_ms);
}

TEST_CASE("the next round's turn is not put off") {
  TwoTurns turns([](FlusherLoop& loop) {
    loop.turn_next();
    loop.turn_within(long_ms);
  });
  CHECK(turns.gap_ms() < long_ms);
}

}  // namespace visitd
