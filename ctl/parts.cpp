#include "ctl/parts.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "ctl/progress_line.hpp"

namespace visitd {

namespace {

// Each waits for a disk of the flusher, or of a shard, and one turn of theirs serves several. The flusher takes 16
// connections, of which others want some too.
constexpr std::size_t parts_at_once = 4;

class Parts {
 public:
  Parts(std::size_t parts, std::string_view what, const std::function<void(std::size_t part)>& work)
      : parts_(parts), what_(what), work_(work) {}

  void run() {
    std::vector<std::thread> threads;
    threads.reserve(parts_at_once);
    for (std::size_t i = 0; i < std::min(parts_at_once, parts_); ++i) threads.emplace_back([this] { do_some(); });
    for (std::thread& thread : threads) thread.join();
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  void do_some() {
    for (std::size_t part = next_++; part < parts_; part = next_++) {
      try {
        work_(part);
        const std::lock_guard lock(mutex_);
        if (failure_) return;
        show_progress(++done_);
      } catch (...) {
        const std::lock_guard lock(mutex_);
        if (!failure_) failure_ = std::current_exception();
        next_ = parts_;
      }
    }
  }
  void show_progress(std::size_t done) {
    const double part = static_cast<double>(done) / static_cast<double>(parts_);
    line_.show(fmt::format("{} of {} {}, about {:.0f} s to go", done, parts_, what_, time_.seconds_left(part)));
    if (done == parts_) line_.keep();
  }

  std::size_t parts_;
  std::string_view what_;
  const std::function<void(std::size_t part)>& work_;
  TimeTaken time_;
  std::atomic<std::size_t> next_{0};
  std::mutex mutex_;
  ProgressLine line_;
  std::size_t done_ = 0;
  std::exception_ptr failure_;
};

}  // namespace

void each_part(std::size_t parts, std::string_view what, const std::function<void(std::size_t part)>& work) {
  Parts(parts, what, work).run();
}

}  // namespace visitd
