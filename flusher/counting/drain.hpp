// Lanes → pending pages and view: the flusher's step "apply". Decides; knows no clock, loop or file.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "common/shm/statistics.hpp"
#include "flusher/counting/counting_memory.hpp"
#include "flusher/counting/flusher_view.hpp"
#include "flusher/counting/pending_series.hpp"

namespace visitd {

struct DrainLimits {
  std::uint32_t buckets = 0;
  std::uint32_t page_id_limit = 0;
  std::uint64_t hash_seed = 0;     ///< the ring's
  std::uint64_t memory_bytes = 0;  ///< for pages with open visits
};

class Drain {
 public:
  /// Called for a series that gets its first open visit since its bucket was sealed.
  using SeriesOpened = std::function<void(std::uint32_t series)>;

  Drain(const CountingMemory& memory, FlusherView& view, PendingSeries& pending, const DrainLimits& limits,
        FlusherStatistics statistics, SeriesOpened series_opened);

  /// Another limit, from now on.
  void use(std::uint64_t memory_bytes) noexcept { limits_.memory_bytes = memory_bytes; }

  /// Applies at most one burst of each lane. True: something was applied.
  bool run();
  /// Up to where each lane is written now.
  [[nodiscard]] std::vector<std::uint64_t> tails() const;
  /// Whether everything up to these positions is applied.
  [[nodiscard]] bool has_applied(const std::vector<std::uint64_t>& tails) const noexcept;
  /// Whether every lane was applied up to where its tail is now.
  [[nodiscard]] bool is_empty() const noexcept;
  /// Bytes of the lane with the most bytes that are not durable up to `head`.
  [[nodiscard]] std::uint64_t deepest(const std::vector<std::uint64_t>& head) const noexcept;

  /// Up to where each lane is applied.
  [[nodiscard]] const std::vector<std::uint64_t>& positions() const noexcept { return positions_; }
  /// What was skipped because a record was damaged: lane and bytes since the last call.
  struct Damage {
    std::uint32_t lane;
    std::uint64_t position;
    std::uint64_t bytes;
  };
  [[nodiscard]] std::vector<Damage> take_damage() { return std::exchange(damage_, {}); }

 private:
  bool run_lane(std::uint32_t lane);

  enum class Applied { applied, no_room, bad_page };
  /// no_room: the table has none for one more series. bad_page: no frontend may record such an id. Both change nothing.
  Applied apply(std::uint32_t lane, std::uint64_t next, const Record& record, std::string_view page);

  std::vector<LaneMemory> lanes_;
  std::vector<LaneRecords> records_;
  FlusherView& view_;
  PendingSeries& pending_;
  DrainLimits limits_;
  FlusherStatistics statistics_;
  SeriesOpened series_opened_;
  std::vector<std::uint64_t> positions_;
  std::vector<std::optional<std::uint64_t>> refused_tails_;  ///< tails that cannot be: said once
  std::vector<Damage> damage_;
};

}  // namespace visitd
