// Takes what owners ask the flusher for, for tests of the server, and answers each with the next of its answers.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "frontend/api/backend.hpp"

namespace visitd {

/// On the server's thread.
class FakeQuestions final : public Questions {
 public:
  std::deque<OwnerAnswer> answers;  ///< given one after the other; without one, a question waits
  std::vector<OwnerQuestion> asked;

  [[nodiscard]] std::uint64_t ask(const OwnerQuestion& question) override {
    asked.push_back(question);
    return asked.size();
  }
  [[nodiscard]] std::optional<OwnerAnswer> take_answer(std::uint64_t) override {
    if (answers.empty()) return std::nullopt;
    OwnerAnswer answer = std::move(answers.front());
    answers.pop_front();
    return answer;
  }
  [[nodiscard]] bool concerns(std::uint64_t, std::uint64_t) noexcept override { return true; }
  void forget(std::uint64_t) noexcept override {}
};

}  // namespace visitd
