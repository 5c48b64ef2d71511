#include "flusher/spool/spool_thread.hpp"

#include <uv.h>

#include <cassert>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "common/os/clock.hpp"
#include "common/os/log.hpp"

namespace visitd {

class SpoolThread::Worker {
 public:
  Worker(uv_loop_t* loop, Spool spool, std::function<void(Outcome)> done)
      : spool_(std::move(spool)), done_(std::move(done)) {
    if (const int failed = uv_async_init(loop, &wake_, tell); failed != 0) {
      throw error("the loop cannot be woken by the spool's thread: {}", uv_strerror(failed));
    }
    wake_.data = this;
    thread_ = std::thread([this] { work(); });
  }

  void submit(Transaction transaction) {
    assert(!busy_);
    busy_ = true;
    busy_since_ms_ = monotonic_ms();
    {
      const std::lock_guard lock(mutex_);
      wanted_ = std::move(transaction);
    }
    change_.notify_one();
  }

  void look() {
    if (busy_) return;
    {
      const std::lock_guard lock(mutex_);
      look_wanted_ = true;
    }
    change_.notify_one();
  }

  [[nodiscard]] bool busy() const noexcept { return busy_; }
  [[nodiscard]] std::uint64_t busy_ms() const noexcept { return busy_ ? monotonic_ms() - busy_since_ms_ : 0; }

  /// Joins, then goes with its handle.
  void end() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    change_.notify_one();
    thread_.join();
    uv_close(reinterpret_cast<uv_handle_t*>(&wake_),
             [](uv_handle_t* handle) { const std::unique_ptr<Worker> last(static_cast<Worker*>(handle->data)); });
  }

 private:
  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      change_.wait(lock, [this] { return stopping_ || wanted_ || look_wanted_; });
      if (std::exchange(look_wanted_, false) && !wanted_ && !stopping_) {
        lock.unlock();
        look_at_file();
        lock.lock();
        continue;
      }
      if (!wanted_) break;
      Outcome outcome;
      outcome.transaction = std::move(*wanted_);
      wanted_.reset();
      lock.unlock();
      apply(outcome);
      lock.lock();
      outcome_ = std::move(outcome);
      uv_async_send(&wake_);
    }
    spool_.reset();  // closed when the thread is joined: another Spool can be opened on the file
  }

  /// What cannot be mended fails the next transaction too, which tells the loop.
  void look_at_file() {
    try {
      spool_->look();
    } catch (const std::exception& failure) {
      log::error("{}", failure.what());
    }
  }

  void apply(Outcome& outcome) {
    const std::uint64_t began = monotonic_ns();
    try {
      outcome.result = spool_->apply(outcome.transaction);
    } catch (const SpoolFull& full) {
      outcome.kind = Outcome::Kind::full;
      outcome.message = full.what();
    } catch (const std::exception& failed) {
      outcome.kind = Outcome::Kind::failed;
      outcome.message = failed.what();
    }
    outcome.took_ns = monotonic_ns() - began;
  }

  static void tell(uv_async_t* wake) {
    Worker& worker = *static_cast<Worker*>(wake->data);
    std::optional<Outcome> outcome;
    {
      const std::lock_guard lock(worker.mutex_);
      outcome.swap(worker.outcome_);
    }
    if (!outcome) return;
    worker.busy_ = false;
    worker.done_(std::move(*outcome));
  }

  std::optional<Spool> spool_;
  std::function<void(Outcome)> done_;
  uv_async_t wake_{};
  bool busy_ = false;  // the loop's
  std::uint64_t busy_since_ms_ = 0;

  std::mutex mutex_;
  std::condition_variable change_;
  std::optional<Transaction> wanted_;
  std::optional<Outcome> outcome_;
  bool look_wanted_ = false;
  bool stopping_ = false;
  std::thread thread_;
};

SpoolThread::SpoolThread(uv_loop_s* loop, Spool spool, std::function<void(Outcome)> done)
    : worker_(new Worker(loop, std::move(spool), std::move(done))) {}

SpoolThread::~SpoolThread() {
  worker_->end();
}

void SpoolThread::submit(Transaction transaction) {
  worker_->submit(std::move(transaction));
}

void SpoolThread::look() {
  worker_->look();
}

bool SpoolThread::busy() const noexcept {
  return worker_->busy();
}

std::uint64_t SpoolThread::busy_ms() const noexcept {
  return worker_->busy_ms();
}

}  // namespace visitd
