// Owners of libuv handles. A handle's memory is given back by the loop: run it once more after the last owner is gone.
#pragma once

#include <uv.h>

#include <memory>
#include <string_view>

#include "common/os/errors.hpp"

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

/// `init`: libuv's initialisation of such a handle. `data`: what the handle's callbacks find in handle->data.
template <typename Handle, typename Init>
[[nodiscard]] UvHandle<Handle> make_handle(void* data, std::string_view fault, Init init) {
  auto handle = std::make_unique<Handle>();
  check_uv(init(handle.get()), fault);
  handle->data = data;
  return UvHandle<Handle>(handle.release());
}

[[nodiscard]] inline UvHandle<uv_timer_t> make_timer(uv_loop_t* loop, void* data) {
  return make_handle<uv_timer_t>(data, "cannot make a timer",
                                 [&](uv_timer_t* made) { return uv_timer_init(loop, made); });
}

/// Called in each round of the loop, which then does not wait.
[[nodiscard]] inline UvHandle<uv_idle_t> make_idle(uv_loop_t* loop, void* data) {
  return make_handle<uv_idle_t>(data, "cannot make an idle handle",
                                [&](uv_idle_t* made) { return uv_idle_init(loop, made); });
}

/// Called in each round of the loop, after it looked at the sockets.
[[nodiscard]] inline UvHandle<uv_check_t> make_check(uv_loop_t* loop, void* data) {
  return make_handle<uv_check_t>(data, "cannot make a check handle",
                                 [&](uv_check_t* made) { return uv_check_init(loop, made); });
}

/// Polls a socket, which outlives the handle.
[[nodiscard]] inline UvHandle<uv_poll_t> make_poll(uv_loop_t* loop, int fd, void* data) {
  return make_handle<uv_poll_t>(data, "cannot poll a socket",
                                [&](uv_poll_t* made) { return uv_poll_init(loop, made, fd); });
}

[[nodiscard]] inline UvHandle<uv_signal_t> make_signal(uv_loop_t* loop, void* data) {
  return make_handle<uv_signal_t>(data, "cannot wait for signals",
                                  [&](uv_signal_t* made) { return uv_signal_init(loop, made); });
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
