// Asks the flusher what the owner asks for: one question at a time, in the lane's slot of the ring, until its answer
// stands in the cache. Knows no socket.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>

#include "common/counter/ring_membership.hpp"
#include "frontend/api/backend.hpp"

namespace visitd {

class LaneQuestions final : public Questions {
 public:
  explicit LaneQuestions(RingMembership& membership);
  LaneQuestions(const LaneQuestions&) = delete;
  LaneQuestions& operator=(const LaneQuestions&) = delete;
  /// Nothing of a question stays in the ring.
  ~LaneQuestions() override;

  [[nodiscard]] std::uint64_t ask(const OwnerQuestion& question) override;
  [[nodiscard]] std::optional<OwnerAnswer> take_answer(std::uint64_t number) override;
  [[nodiscard]] bool concerns(std::uint64_t number, std::uint64_t now_ms) noexcept override;
  void forget(std::uint64_t number) noexcept override;

 private:
  struct Waiting {
    std::uint64_t number = 0;
    std::uint64_t until_ms = 0;
    bool changes = false;  ///< counts
    std::string text;
  };

  void look();
  void post() noexcept;
  void end_first() noexcept;
  [[nodiscard]] TextSlot slot() const noexcept { return membership_.ring().question(membership_.lane()); }

  RingMembership& membership_;
  std::deque<Waiting> waiting_;  ///< the first one is asked
  std::map<std::uint64_t, OwnerAnswer> answers_;
};

}  // namespace visitd
