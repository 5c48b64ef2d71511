// How a flusher ends that was asked to: one last flush, then a last commit, each within its time. Knows no clock, loop
// or socket: it is told the time and how far the flusher is, and says what to do next.
#pragma once

#include <cstdint>

namespace visitd {

class Shutdown {
 public:
  /// After the flush's deadline, for the last commits: what is not durable then is in the lanes, or the shards answer
  /// it again.
  static constexpr std::uint64_t commit_ms = 5000;

  enum class Step : std::uint8_t {
    wait,              ///< nothing but the usual turns
    begin_flush,       ///< begin the last flush; from now on `flushed` is whether this one is done
    commit,            ///< make durable what is there without waiting for the commit interval
    end,               ///< nothing is left to do
    end_with_batches,  ///< the same, though the shards have not taken all batches: they wait in the spool
  };
  /// How far the flusher is.
  struct Progress {
    bool idle = false;     ///< lanes and requests are empty
    bool flushed = false;  ///< the last flush is done
    bool durable = false;  ///< all that was taken from lanes and shards is durable
  };

  /// The first time counts: then there are `flush_ms` for the last flush.
  void ask(std::uint64_t now_ms, std::uint64_t flush_ms) noexcept;
  [[nodiscard]] bool is_asked() const noexcept { return phase_ != Phase::running; }
  /// In each turn of the flusher. After an end it is not called again.
  [[nodiscard]] Step next(std::uint64_t now_ms, const Progress& progress) noexcept;

 private:
  enum class Phase : std::uint8_t { running, emptying_lanes, flushing, committing };

  Phase phase_ = Phase::running;
  std::uint64_t flush_deadline_ms_ = 0;
};

}  // namespace visitd
