// When each shard is flushed: every interval, early while the memory is crowded, and later where the shard takes no
// batches. Decides; knows no clock, loop or socket.
//
// Each writer has its own moment within the interval (its phase), so that hosts that were started together do not flush
// together. The first flush of a life comes after half an interval at least, and one and a half at most.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string_view>
#include <vector>

namespace visitd {

class FlushSchedule {
 public:
  /// `writer`: says what this host's moment is.
  FlushSchedule(std::size_t shards, std::uint64_t interval_ms, std::string_view writer);

  /// Another interval, from now on. What is due sooner by the former one stays so.
  void use(std::uint64_t interval_ms, std::uint64_t now_ms) noexcept;

  /// So many shards: the last ones come, or go.
  void set_shards(std::size_t count) { shards_.resize(count); }
  /// Whether a flush of the shard begins now. `takes_batches`: the shard does; if not, its flush is overdue. `crowded`:
  /// pages with open visits take so much memory that answers have to make room.
  [[nodiscard]] bool begins(std::uint32_t shard, std::uint64_t now_ms, bool takes_batches, bool crowded) noexcept;
  /// Somebody flushes all shards now.
  void begin_all() noexcept;
  [[nodiscard]] bool is_running(std::uint32_t shard) const noexcept { return shards_[shard].running; }
  /// All that the shard's flush wanted is answered.
  void flushed(std::uint32_t shard) noexcept;
  /// Each shard is flushed in its own time: all of them at least once, since this was last true, make one.
  [[nodiscard]] bool take_flush_of_all() noexcept;

  // -- for people

  /// A flush of this number begins now; what `oldest` and later ones wanted may have no answer yet.
  void note_begin(std::uint64_t flush, std::uint64_t oldest, std::uint64_t now_ms);
  /// When that flush began, monotonic ms. What earlier lives left is as old as this one.
  [[nodiscard]] std::uint64_t begun_ms(std::uint64_t flush) const;
  /// Since when the shard's flush waits for the shard to take batches, monotonic ms; nullopt: it does not wait.
  [[nodiscard]] std::optional<std::uint64_t> overdue_since_ms(std::uint32_t shard) const noexcept;

 private:
  /// The next moment of this writer after that time.
  [[nodiscard]] std::uint64_t moment_after(std::uint64_t ms) const noexcept;

  struct Shard {
    std::uint64_t next_ms = 0;           ///< 0: not known before the first look
    std::uint64_t overdue_since_ms = 0;  ///< 0: not overdue
    bool running = false;
    bool answered = false;  ///< in full, since all of them were
  };

  std::uint64_t interval_ms_;
  std::uint64_t phase_;  ///< modulo the interval: this writer's moment
  std::vector<Shard> shards_;
  std::uint64_t started_ms_ = 0;                     ///< the first look
  std::map<std::uint64_t, std::uint64_t> begun_ms_;  ///< flushes that may have no answer yet: when they began
};

}  // namespace visitd
