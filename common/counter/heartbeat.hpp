// Whether a process is running, as others see it: by the lock that it holds, and by the heartbeat, a time that it
// stores in shared memory to show itself. One rule for all who ask, and a name for how long each of them is patient.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "common/shm/shared_word.hpp"

namespace visitd {

/// A flusher stores its heartbeat at least so often, a frontend once a second.
inline constexpr std::uint64_t flusher_beat_ms = 250;

// For how long a heartbeat is recent. The setting cache.flusher_away_ms stands between the two: it decides when counts
// are served stale.
/// Older: the flusher missed a beat. Another one may have followed it, and looking for that costs little.
inline constexpr std::uint64_t late_heartbeat_ms = 2 * flusher_beat_ms - 1;
/// For who acts on the answer or tells it to an operator: a wrong one costs more than the pause of a slow machine.
inline constexpr std::uint64_t recent_heartbeat_ms = 5000;

/// What a process shows of itself. Times are of the monotonic clock.
class Heartbeat {
 public:
  /// Of a process that never showed itself.
  constexpr Heartbeat() noexcept = default;
  explicit Heartbeat(const Word& last_ns) noexcept : last_ms_(value_of(last_ns) / 1'000'000) {}

  /// The process shows itself at this moment.
  static void beat(Word& last_ns, std::uint64_t now_ns) noexcept { last_ns.store(now_ns, std::memory_order_release); }

  /// Whether it is at most so old.
  [[nodiscard]] bool is_within(std::uint64_t limit_ms, std::uint64_t now_ms) const noexcept {
    return last_ms_ != 0 && now_ms + ahead_ms - last_ms_ <= limit_ms + ahead_ms;
  }
  /// How old it is; nullopt: the process never showed itself, or the word holds no time that can be true.
  [[nodiscard]] std::optional<std::uint64_t> age_ms(std::uint64_t now_ms) const noexcept {
    if (last_ms_ == 0 || last_ms_ > now_ms + ahead_ms) return std::nullopt;
    return last_ms_ > now_ms ? 0 : now_ms - last_ms_;
  }

 private:
  /// Who asks may have looked at its clock before the process did: at the beginning of a turn of its loop.
  static constexpr std::uint64_t ahead_ms = 60'000;

  std::uint64_t last_ms_ = 0;
};

/// How a process stands that owns something.
enum class Presence : std::uint8_t {
  running,  ///< holds its lock and shows itself
  halted,   ///< holds its lock and does not show itself: stopped by a signal, or stuck
  ended,    ///< ended or was killed: the kernel has freed its lock
};

/// `holds_lock`: it is seen to hold its lock. `may_hold_lock`: it is not, and a process of its id is there; locks of
/// other containers cannot be seen. `shows_itself`: its heartbeat is recent.
[[nodiscard]] constexpr Presence presence_of(bool holds_lock, bool may_hold_lock, bool shows_itself) noexcept {
  if (holds_lock) return shows_itself ? Presence::running : Presence::halted;
  return may_hold_lock && shows_itself ? Presence::running : Presence::ended;
}

/// As visitctl prints it.
[[nodiscard]] constexpr std::string_view name_of(Presence presence) noexcept {
  switch (presence) {
    case Presence::running:
      return "running";
    case Presence::halted:
      return "halted";
    case Presence::ended:
      return "ended";
  }
  return "unknown";
}

}  // namespace visitd
