#include "frontend/server/turns.hpp"

#include <utility>

#include "frontend/server/connection.hpp"

namespace visitd {

namespace {

constexpr std::uint64_t look_interval_ms = 20;
/// Less than this, spent in vain on parked reads, is not worth a rest; of more, so many times as long.
constexpr std::uint64_t least_vain_ns = 100'000;
constexpr std::uint64_t rest_after_vain = 4;

template <typename Handle>
Turns& of(Handle* handle) noexcept {
  return *static_cast<Turns*>(handle->data);
}

bool is_active(const uv_timer_t* timer) noexcept {
  return uv_is_active(reinterpret_cast<const uv_handle_t*>(timer)) != 0;
}

}  // namespace

Turns::Turns(ConnectionShare& share)
    : share_(share),
      look_timer_(make_timer(share.loop, this)),
      pass_timer_(make_timer(share.loop, this)),
      idle_(make_idle(share.loop, this)) {}

void Turns::take_soon() noexcept {
  uv_idle_start(idle_.get(), [](uv_idle_t* idle) { of(idle).take(); });
}

void Turns::look_now_and_then() noexcept {
  if (is_active(look_timer_.get())) return;
  uv_timer_start(
      look_timer_.get(), [](uv_timer_t* timer) { of(timer).look_at_parked(); }, look_interval_ms, look_interval_ms);
}

void Turns::look_at_parked() {
  if (pass_ != Pass::none) {
    pass_ = Pass::again;
    return;
  }
  const std::uint64_t now_ns = uv_hrtime();
  if (now_ns < next_pass_ns_) {
    const std::uint64_t wait_ms = (next_pass_ns_ - now_ns) / 1'000'000 + 1;
    if (!is_active(pass_timer_.get())) {
      uv_timer_start(pass_timer_.get(), [](uv_timer_t* timer) { of(timer).look_at_parked(); }, wait_ms, 0);
    }
    return;
  }
  begin_pass();
  take();
}

void Turns::stop() noexcept {
  uv_timer_stop(look_timer_.get());
  uv_timer_stop(pass_timer_.get());
  uv_idle_stop(idle_.get());
}

/// Goes on with those that wait for their turn, and with the look at the parked reads, for as long as a turn may be.
void Turns::take() {
  const DeadlineList& paused = share_.waiting(Phase::paused);
  const std::uint64_t begun_ns = uv_hrtime();
  const auto is_over = [&](std::uint64_t now_ns) {
    return now_ns - begun_ns >= TurnBudget::most_ns || share_.turn.is_spent(uv_now(share_.loop));
  };
  share_.turn.begin(uv_now(share_.loop));
  std::uint64_t now_ns = begun_ns;
  while (!(paused.empty() && to_look_at_.empty()) && !is_over(now_ns)) {
    if (!paused.empty()) go_on(paused);
    if (to_look_at_.empty()) {
      now_ns = uv_hrtime();
      continue;
    }
    const std::uint64_t looked_ns = uv_hrtime();
    const bool in_vain = go_on(to_look_at_);
    now_ns = uv_hrtime();
    if (in_vain) vain_ns_ += now_ns - looked_ns;
  }
  if (pass_ != Pass::none && to_look_at_.empty()) end_pass(now_ns);
  if (paused.empty() && to_look_at_.empty()) {
    uv_idle_stop(idle_.get());
  } else {
    take_soon();
  }
}

/// With the first of the list. True: it is parked as before.
bool Turns::go_on(const DeadlineList& list) {
  auto& connection = *static_cast<Connection*>(list.first());
  const bool in_vain = !connection.take_turn();
  share_.owner.settled(connection);
  return in_vain;
}

void Turns::begin_pass() noexcept {
  to_look_at_.take_all(share_.waiting(Phase::parked));
  pass_ = Pass::once;
}

/// All parked reads have been looked at. Where that came to little, the next look waits, so that however many are
/// parked, looking at them takes a small part of the time.
void Turns::end_pass(std::uint64_t now_ns) {
  const bool again = std::exchange(pass_, Pass::none) == Pass::again;
  const std::uint64_t vain_ns = std::exchange(vain_ns_, 0);
  next_pass_ns_ = vain_ns < least_vain_ns ? 0 : now_ns + rest_after_vain * vain_ns;
  const bool none_parked = share_.waiting(Phase::parked).empty();
  if (none_parked) uv_timer_stop(look_timer_.get());
  if (!again || none_parked) return;
  if (next_pass_ns_ != 0) return look_at_parked();
  begin_pass();
}

}  // namespace visitd
