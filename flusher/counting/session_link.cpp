#include "flusher/counting/session_link.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace visitd {

std::string without_script(const std::string& error) {
  return error.substr(0, error.find(" script: "));
}

void SessionLink::connect_when_due() {
  if (now_ms_ < connect_at_ms_) return;
  step_ = Step::connecting;
  port_.connect();
}

void SessionLink::come_up() noexcept {
  step_ = Step::up;
  up_since_ms_ = now_ms_;
  ++connections_;
}

void SessionLink::on_broken(const std::string& why) {
  // One that broke soon is not tried without end.
  const bool lasted = is_up() && now_ms_ - up_since_ms_ >= settings_.reconnect_ms;
  leave(lasted ? now_ms_ : now_ms_ + settings_.reconnect_ms);
  if (state_ != ShardState::held) set_state(ShardState::down, why);
}

void SessionLink::turn_away(const std::string& why) {
  leave(now_ms_ + reconnect_backoff_.next_ms(settings_.reconnect_ms));
  if (state_ != ShardState::held) set_state(ShardState::down, why);
}

void SessionLink::on_refused(const Refused& refused) {
  port_.close();
  turn_away(fmt::format("shard {} answers: {}", settings_.shard, without_script(refused.error)));
}

void SessionLink::reconnect(const std::string& why) {
  port_.close();
  leave(now_ms_ + reconnect_backoff_.next_ms(settings_.reconnect_ms));
  set_state(ShardState::connecting, why);
}

void SessionLink::hold(const std::string& why, bool acceptable) {
  parts_.on_hold(acceptable);
  port_.close();
  leave(now_ms_ + settings_.held_recheck_ms);
  set_state(ShardState::held, why);
}

void SessionLink::look_again() {
  port_.close();
  leave(now_ms_);
}

void SessionLink::try_soon() noexcept {
  reconnect_backoff_.reset();
  if (state_ != ShardState::held) connect_at_ms_ = std::min(connect_at_ms_, now_ms_);
}

void SessionLink::leave(std::uint64_t connect_at_ms) {
  step_ = Step::away;
  connect_at_ms_ = connect_at_ms;
  parts_.on_leave();
}

void SessionLink::set_state(ShardState state, const std::string& why) {
  if (state == state_ && why == why_) return;
  state_ = state;
  why_ = why;
  port_.state_changed(state, why);
}

std::string SessionLink::accept_command() const {
  return fmt::format("{} accept {}", settings_.visitctl, settings_.shard);
}

}  // namespace visitd
