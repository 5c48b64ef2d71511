// The spool on a thread of its own, so that the loop never waits for a disk: one transaction at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "flusher/spool/spool.hpp"

struct uv_loop_s;

namespace visitd {

/// All of it is called on the loop's thread.
class SpoolThread {
 public:
  struct Outcome {
    enum class Kind {
      committed,  ///< durable
      full,       ///< the disk is full, nothing was written: submit it again when there is room
      failed      ///< the file can no longer be trusted: stop, and recover by starting again
    };
    Kind kind = Kind::committed;
    std::string message;      ///< full, failed: for the operator
    Transaction transaction;  ///< what was submitted, given back
    SpoolResult result;       ///< committed: what it gave back
    std::uint64_t took_ns = 0;
  };

  /// `done` is called on the loop once for each submit(), never from within it.
  SpoolThread(uv_loop_s* loop, Spool spool, std::function<void(Outcome)> done);
  SpoolThread(const SpoolThread&) = delete;
  SpoolThread& operator=(const SpoolThread&) = delete;
  /// Waits for the transaction under way, whose outcome is then not told. The loop is run once more afterwards.
  ~SpoolThread();

  /// Starts a transaction. Only when none is under way.
  void submit(Transaction transaction);
  /// Looks at the file, unless a transaction is under way, which does so itself.
  void look();
  /// A transaction was submitted and its outcome not yet told.
  [[nodiscard]] bool busy() const noexcept;
  /// For how long; 0: not busy.
  [[nodiscard]] std::uint64_t busy_ms() const noexcept;

 private:
  class Worker;
  Worker* worker_;  ///< goes when the loop has closed its handle
};

}  // namespace visitd
