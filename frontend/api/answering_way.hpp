// The ways from a vetted request to the bytes of its answer. All of them call the same handlers.
#pragma once

#include <exception>

#include "frontend/api/routes.hpp"
#include "frontend/http/output_buffer.hpp"

namespace visitd {

class AnsweringWay {
 public:
  virtual ~AnsweringWay() = default;
  /// Appends one whole answer. parked, paused: nothing was appended; call again later.
  [[nodiscard]] virtual Handled answer(const Call& call, bool keep_alive, OutputBuffer& out) noexcept = 0;
};

/// Straight from the vetted head.
class DirectWay final : public AnsweringWay {
 public:
  DirectWay(Routes& routes, const AnswerFormat& format) noexcept : routes_(routes), format_(format) {}
  [[nodiscard]] Handled answer(const Call& call, bool keep_alive, OutputBuffer& out) noexcept override {
    Handled handled = Handled::answered;
    try {
      handled = routes_.handle(call, answer_);
    } catch (...) {
      routes_.fail(call, std::current_exception(), answer_);
    }
    if (handled == Handled::answered || handled == Handled::streamed)
      format_.write(answer_, *call.head, keep_alive, out);
    return handled;
  }

 private:
  Routes& routes_;
  const AnswerFormat& format_;
  Answer answer_;
};

}  // namespace visitd
