// The loop of a flusher's life: when the next turn is, the doorbell, the signals, and how the life ends.
#pragma once

#include <cstdint>
#include <exception>
#include <string>
#include <utility>

#include "common/os/doorbell.hpp"
#include "common/os/uv_handles.hpp"

namespace visitd {

/// Why a flusher's life on one ring ended.
enum class FlusherEnd {
  stopped,  ///< asked to by SIGTERM or SIGINT
  again,    ///< its ring was left, or its runtime directory or cache replaced: to be run once more, from the spool
};

class FlusherLoop {
 public:
  /// What happens on it.
  class Events {
   public:
    virtual ~Events() = default;
    /// It is time for a turn, or the doorbell rang.
    virtual void on_turn() = 0;
    /// SIGTERM or SIGINT.
    virtual void on_stop() = 0;
    /// SIGHUP.
    virtual void on_reload() = 0;
  };

  /// `bell`: path of the doorbell.
  explicit FlusherLoop(const std::string& bell);
  FlusherLoop(const FlusherLoop&) = delete;
  FlusherLoop& operator=(const FlusherLoop&) = delete;
  /// Holds SIGHUP back until the next life has its own handle.
  ~FlusherLoop();

  [[nodiscard]] uv_loop_t* get() noexcept { return loop_.get(); }

  /// Takes the signals and the doorbell from now on; the first turn is the next thing that happens. `events` outlives
  /// the loop's run.
  void start(Events& events);
  /// `ms`: at least 1. A timer of 0 that starts itself again would be run by libuv before 1.45 until it is not due any
  /// more, and no socket looked at meanwhile.
  void turn_in(std::uint64_t ms);
  /// The same, unless the next turn comes sooner.
  void turn_within(std::uint64_t ms);
  /// A turn in each round of the loop, which looks at all sockets in between.
  void turn_next();
  /// Whether the sockets were looked at since it was asked last.
  [[nodiscard]] bool take_looked_at_sockets() noexcept { return std::exchange(looked_at_sockets_, false); }

  /// What C libraries call goes through here: nothing is thrown through them. A failure that this flusher cannot go on
  /// from ends its life; the next one recovers.
  template <typename Event>
  void guarded(Event event) noexcept {
    try {
      event();
    } catch (const std::exception& failure) {
      end_with(failure.what());
    }
  }
  void end_with(const std::string& fault) noexcept;
  /// Nothing is done after it.
  void end(FlusherEnd end) noexcept;
  [[nodiscard]] bool is_ending() const noexcept { return ending_; }

  /// Until it ends.
  void run() { uv_run(loop_.get(), UV_RUN_DEFAULT); }
  /// How it ended. Throws Error with what ended it otherwise.
  [[nodiscard]] FlusherEnd outcome() const;

 private:
  void turn() noexcept;
  void take_signal(const UvHandle<uv_signal_t>& handle, int number, void (*then)(uv_signal_t*, int));

  UvLoop loop_;
  Doorbell bell_;
  UvHandle<uv_timer_t> timer_;
  UvHandle<uv_idle_t> more_work_;
  UvHandle<uv_check_t> sockets_looked_at_;
  UvHandle<uv_poll_t> bell_poll_;
  UvHandle<uv_signal_t> terminate_;
  UvHandle<uv_signal_t> interrupt_;
  UvHandle<uv_signal_t> hangup_;
  Events* events_ = nullptr;  ///< from start() on
  bool looked_at_sockets_ = false;
  bool ending_ = false;
  std::string fault_;
  FlusherEnd end_ = FlusherEnd::stopped;
};

}  // namespace visitd
