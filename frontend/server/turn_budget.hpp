// How much of a turn dear requests may take, so that a client that asks for one count does not wait for them. What is
// not done by then goes on in the next turn, after the sockets were looked at.
#pragma once

#include <cstdint>

namespace visitd {

class TurnBudget {
 public:
  /// `now_ms`: as the loop saw it at the beginning of the turn.
  [[nodiscard]] bool is_spent(std::uint64_t now_ms) noexcept {
    if (now_ms != turn_ms_) begin(now_ms);
    return spent_ns_ >= most_ns;
  }
  void begin(std::uint64_t now_ms) noexcept {
    turn_ms_ = now_ms;
    spent_ns_ = 0;
  }
  void spend(std::uint64_t ns) noexcept { spent_ns_ += ns; }

  static constexpr std::uint64_t most_ns = 1'000'000;

 private:
  std::uint64_t turn_ms_ = 0;
  std::uint64_t spent_ns_ = 0;
};

}  // namespace visitd
