// Owners of libuv handles. A handle's memory is given back by the loop: run it once more after the last owner is gone.
#pragma once

#include <uv.h>

#include <memory>
#include <string_view>

#include "common/errors.hpp"

namespace visitd {

struct UvCloser {
  template <typename Handle>
  void operator()(Handle* handle) const noexcept {
    uv_close(reinterpret_cast<uv_handle_t*>(handle),
             [](uv_handle_t* closed) { delete reinterpret_cast<Handle*>(closed); });
  }
};

/// No callback comes after it is gone.
template <typename Handle>
using UvHandle = std::unique_ptr<Handle, UvCloser>;

/// Throws Error naming `what` where libuv's `result` is a failure.
inline void check_uv(int result, std::string_view what) {
  if (result < 0) throw error("{}: {}", what, uv_strerror(result));
}

/// `data`: what the handle's callbacks find in handle->data.
[[nodiscard]] inline UvHandle<uv_timer_t> make_timer(uv_loop_t* loop, void* data) {
  auto timer = std::make_unique<uv_timer_t>();
  check_uv(uv_timer_init(loop, timer.get()), "cannot make a timer");
  timer->data = data;
  return UvHandle<uv_timer_t>(timer.release());
}

/// Called in each round of the loop, which then does not wait.
[[nodiscard]] inline UvHandle<uv_idle_t> make_idle(uv_loop_t* loop, void* data) {
  auto idle = std::make_unique<uv_idle_t>();
  check_uv(uv_idle_init(loop, idle.get()), "cannot make an idle handle");
  idle->data = data;
  return UvHandle<uv_idle_t>(idle.release());
}

/// Called in each round of the loop, after it looked at the sockets.
[[nodiscard]] inline UvHandle<uv_check_t> make_check(uv_loop_t* loop, void* data) {
  auto check = std::make_unique<uv_check_t>();
  check_uv(uv_check_init(loop, check.get()), "cannot make a check handle");
  check->data = data;
  return UvHandle<uv_check_t>(check.release());
}

/// Polls a socket, which outlives the handle.
[[nodiscard]] inline UvHandle<uv_poll_t> make_poll(uv_loop_t* loop, int fd, void* data) {
  auto poll = std::make_unique<uv_poll_t>();
  check_uv(uv_poll_init(loop, poll.get(), fd), "cannot poll a socket");
  poll->data = data;
  return UvHandle<uv_poll_t>(poll.release());
}

[[nodiscard]] inline UvHandle<uv_signal_t> make_signal(uv_loop_t* loop, void* data) {
  auto signal = std::make_unique<uv_signal_t>();
  check_uv(uv_signal_init(loop, signal.get()), "cannot wait for signals");
  signal->data = data;
  return UvHandle<uv_signal_t>(signal.release());
}

/// A loop. It goes after everything on it; what was closed is given back then.
class UvLoop {
 public:
  UvLoop() { check_uv(uv_loop_init(&loop_), "cannot make an event loop"); }
  UvLoop(const UvLoop&) = delete;
  UvLoop& operator=(const UvLoop&) = delete;
  ~UvLoop() {
    uv_run(&loop_, UV_RUN_DEFAULT);
    uv_loop_close(&loop_);
  }
  [[nodiscard]] uv_loop_t* get() noexcept { return &loop_; }

 private:
  uv_loop_t loop_{};
};

}  // namespace visitd
