#include "flusher/flusher_loop.hpp"

#include <csignal>

#include "common/config/live_settings.hpp"

namespace visitd {

namespace {

/// The loop that a handle is of.
template <typename Handle>
FlusherLoop& of(Handle* handle) noexcept {
  return *static_cast<FlusherLoop*>(handle->data);
}

}  // namespace

FlusherLoop::FlusherLoop(const std::string& bell)
    : bell_(Doorbell::open(bell)),
      timer_(make_timer(loop_.get(), this)),
      more_work_(make_idle(loop_.get(), this)),
      sockets_looked_at_(make_check(loop_.get(), this)),
      bell_poll_(make_poll(loop_.get(), bell_.fd(), this)),
      terminate_(make_signal(loop_.get(), this)),
      interrupt_(make_signal(loop_.get(), this)),
      hangup_(make_signal(loop_.get(), this)) {}

FlusherLoop::~FlusherLoop() {
  hold_reload_signal();
}

void FlusherLoop::take_signal(const UvHandle<uv_signal_t>& handle, int number, void (*then)(uv_signal_t*, int)) {
  check_uv(uv_signal_start(handle.get(), then, number), "cannot wait for signals");
}

void FlusherLoop::start(Events& events) {
  events_ = &events;
  check_uv(uv_poll_start(bell_poll_.get(), UV_READABLE,
                         [](uv_poll_t* poll, int, int) {
                           of(poll).bell_.hush();
                           of(poll).turn();
                         }),
           "cannot poll the doorbell");
  const auto stop = [](uv_signal_t* signal, int) { of(signal).guarded([signal] { of(signal).events_->on_stop(); }); };
  take_signal(terminate_, SIGTERM, stop);
  take_signal(interrupt_, SIGINT, stop);
  take_signal(hangup_, SIGHUP,
              [](uv_signal_t* signal, int) { of(signal).guarded([signal] { of(signal).events_->on_reload(); }); });
  // libuv calls it after each look at the sockets.
  check_uv(uv_check_start(sockets_looked_at_.get(), [](uv_check_t* check) { of(check).looked_at_sockets_ = true; }),
           "cannot follow the loop");
  turn_next();
  release_reload_signal();
}

/// libuv may have another one on its way when the loop is told to end.
void FlusherLoop::turn() noexcept {
  if (!ending_) guarded([this] { events_->on_turn(); });
}

void FlusherLoop::turn_in(std::uint64_t ms) {
  uv_idle_stop(more_work_.get());
  uv_timer_start(timer_.get(), [](uv_timer_t* timer) { of(timer).turn(); }, ms, 0);
}

void FlusherLoop::turn_within(std::uint64_t ms) {
  const bool at_once = uv_is_active(reinterpret_cast<const uv_handle_t*>(more_work_.get())) != 0;
  if (!at_once && uv_timer_get_due_in(timer_.get()) > ms) turn_in(ms);
}

void FlusherLoop::turn_next() {
  uv_timer_stop(timer_.get());
  uv_idle_start(more_work_.get(), [](uv_idle_t* idle) { of(idle).turn(); });
}

void FlusherLoop::end_with(const std::string& fault) noexcept {
  fault_ = fault;
  uv_stop(loop_.get());
}

void FlusherLoop::end(FlusherEnd end) noexcept {
  end_ = end;
  ending_ = true;
  uv_stop(loop_.get());
}

FlusherEnd FlusherLoop::outcome() const {
  if (!fault_.empty()) throw Error(fault_);
  return end_;
}

}  // namespace visitd
