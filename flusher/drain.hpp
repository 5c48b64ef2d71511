// Lanes → pending pages and view: the flusher's step "apply". Decides; knows no clock, loop or file.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <utility>
#include <vector>

#include "common/statistics.hpp"
#include "flusher/counting_memory.hpp"
#include "flusher/flusher_view.hpp"
#include "flusher/pending_pages.hpp"

namespace visitd {

struct DrainLimits {
  std::uint32_t buckets = 0;
  std::uint32_t page_id_limit = 0;
  std::uint64_t pending_pages = 0;  ///< pages with visits that Redis has not acknowledged
};

class Drain {
 public:
  /// Called for a page that gets its first open visit since its bucket was sealed.
  using PageOpened = std::function<void(std::uint32_t page)>;

  Drain(const CountingMemory& memory, FlusherView& view, PendingPages& pages, const DrainLimits& limits,
        FlusherStatistics statistics, PageOpened page_opened);

  /// Another limit, from now on.
  void use(std::uint64_t pending_pages) noexcept { limits_.pending_pages = pending_pages; }

  /// Applies at most one burst of each lane. True: something was applied.
  bool run();
  /// Applies everything that is in the lanes at this moment, as far as there is room for it.
  void run_to_tails();
  /// Whether every lane was applied up to where its tail is now.
  [[nodiscard]] bool is_empty() const noexcept;
  /// Bytes of the lane with the most bytes that are not durable up to `head`.
  [[nodiscard]] std::uint64_t deepest(const std::vector<std::uint64_t>& head) const noexcept;

  /// Up to where each lane is applied.
  [[nodiscard]] const std::vector<std::uint64_t>& positions() const noexcept { return positions_; }
  /// Calls `each` with every page that has visits no transaction holds, which then holds them.
  template <typename Each>
  void take_unspooled(Each each) {
    for (const std::uint32_t number : std::exchange(unspooled_, {})) {
      each(std::as_const(pages_[number]));
      pages_[number].unspooled = 0;
    }
  }
  [[nodiscard]] bool has_unspooled() const noexcept { return !unspooled_.empty(); }
  /// Pages whose visits were acknowledged make room for others.
  void page_acknowledged() noexcept { --pages_with_visits_; }
  /// A page whose visits came from the spool.
  void page_recovered() noexcept { ++pages_with_visits_; }
  [[nodiscard]] std::uint64_t pages_with_visits() const noexcept { return pages_with_visits_; }
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
  /// no_room: for one more pending page. bad_page: the id is none that a frontend may record. Then nothing was changed.
  Applied apply(std::uint32_t lane, std::uint64_t next, const Record& record, std::string_view page);

  std::vector<LaneMemory> lanes_;
  std::vector<LaneRecords> records_;
  FlusherView& view_;
  PendingPages& pages_;
  DrainLimits limits_;
  FlusherStatistics statistics_;
  PageOpened page_opened_;
  std::vector<std::uint64_t> positions_;
  std::vector<std::uint32_t> unspooled_;
  std::uint64_t pages_with_visits_ = 0;
  std::uint64_t applied_visits_ = 0;
  std::vector<Damage> damage_;
};

}  // namespace visitd
