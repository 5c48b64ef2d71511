// Takes what owners ask the flusher for, for tests of the server; no flusher ever answers.
#pragma once

#include <optional>

#include "frontend/api/backend.hpp"

namespace visitd {

/// On the server's thread.
class FakeQuestions final : public Questions {
 public:
  [[nodiscard]] std::uint64_t ask(const OwnerQuestion&) override { return ++asked_; }
  [[nodiscard]] std::optional<OwnerAnswer> take_answer(std::uint64_t) override { return std::nullopt; }
  [[nodiscard]] bool concerns(std::uint64_t, std::uint64_t) noexcept override { return true; }
  void forget(std::uint64_t) noexcept override {}

 private:
  std::uint64_t asked_ = 0;
};

}  // namespace visitd
