#include "frontend/api/answering_way.hpp"

#include <exception>

namespace visitd {

Handled DirectWay::answer(const Call& call, bool keep_alive, OutputBuffer& out) noexcept {
  Handled handled = Handled::answered;
  try {
    handled = routes_.handle(call, answer_);
  } catch (...) {
    routes_.fail(call, std::current_exception(), answer_);
  }
  if (handled == Handled::answered) format_.write(answer_, *call.head, keep_alive, out);
  return handled;
}

}  // namespace visitd
