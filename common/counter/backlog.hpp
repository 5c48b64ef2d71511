// What stands in the lanes and is not applied yet: a page's visits between `applied` and `tail` of every lane. A short
// backlog is scanned; of a long one an index of this process's own is kept up to date, so that a stopped flusher does
// not make reads dear. Knows no clock, socket or file.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "common/shm/lane.hpp"

namespace visitd {

/// Calls each(position, record) for the visits from `from` up to `to`. Returns where it ended: at `to`, or at a damaged
/// record. The flusher will skip what is behind one, so nobody counts it.
template <typename Each>
std::uint64_t each_visit(const LaneRecords& records, std::uint64_t from, std::uint64_t to, std::uint64_t tail,
                         Each each) {
  if (tail - from > records.capacity()) return from;
  while (from < to) {
    records.prefetch(from + 1024);
    Record record;
    if (records.read(from, tail, record) != RecordCheck::whole) return from;
    if (record.kind == RecordKind::visit) each(from, record);
    from += record.size;
  }
  return from;
}

/// Whether a head has passed a lane's `starts`: what was read from there on may have been freed, and written over,
/// meanwhile. To be asked after the reads. `heads`: the cache's; nullptr: none.
[[nodiscard]] bool any_freed(std::span<const std::uint64_t> starts, const LonelyWord* heads) noexcept;

class Backlog {
 public:
  struct Lane {
    const Word* tail = nullptr;
    LaneRecords records;
  };

  /// About 512 records of a short page id: below, a scan is cheaper than an index.
  static constexpr std::uint64_t usual_short_bytes = 20U << 10U;

  /// `index_limit`: the most pages the index may hold; beyond, the backlog is scanned. `short_bytes`: up to where it is
  /// always scanned.
  Backlog(std::vector<Lane> lanes, std::size_t index_limit, std::uint64_t short_bytes = usual_short_bytes)
      : lanes_(std::move(lanes)), ranges_(lanes_.size()), limit_(index_limit), short_bytes_(short_bytes) {}

  /// Visits of the page from `applied[lane]` to each lane's tail. `heads`: the cache's; nullptr: none. nullopt: bytes
  /// that were read have been freed meanwhile; take a new snapshot and try again.
  [[nodiscard]] std::optional<std::uint64_t> visits_since(std::span<const std::uint64_t> applied,
                                                          const LonelyWord* heads, std::uint64_t hash,
                                                          std::string_view page);

  /// A page of many whose visits are read together: from where on each lane counts for it, as its own snapshot says.
  struct Wanted {
    std::uint64_t hash = 0;
    std::string_view page;
    std::span<const std::uint64_t> applied;
    std::uint64_t visits = 0;
    /// False: bytes that were read have been freed meanwhile, or another of the pages has the same hash.
    bool valid = false;
  };
  /// Whether a page's visits are found only by a scan of a long backlog, as far as is known from the last read.
  [[nodiscard]] bool is_scanned() const noexcept { return overflowed_; }
  /// The same for many pages with one scan. Sets `visits` and `valid` of each.
  void visits_since(std::span<Wanted> pages, const LonelyWord* heads);

  /// The page's visits in one lane, from `applied` to `tail`. `end`: the tail, or where a damaged record keeps readers
  /// from what is behind it.
  struct LaneVisits {
    std::uint64_t applied = 0;
    std::uint64_t tail = 0;
    std::uint64_t end = 0;
    std::uint64_t visits = 0;
  };
  /// The same of one page, for each lane by itself, always with a scan.
  [[nodiscard]] std::optional<std::vector<LaneVisits>> visits_by_lane(std::span<const std::uint64_t> applied,
                                                                      const LonelyWord* heads, std::uint64_t hash,
                                                                      std::string_view page) const;

  /// How often a long backlog was scanned because it did not fit the index, or two pages shared a hash.
  [[nodiscard]] std::uint64_t direct_scans() const noexcept { return direct_scans_; }
  /// Pages in the index now.
  [[nodiscard]] std::size_t indexed_pages() const noexcept { return used_; }

 private:
  struct Range {
    std::uint64_t start = 0;
    std::uint64_t end = 0;
  };
  struct Entry {
    std::uint64_t hash = 0;
    std::uint64_t visits = 0;
    std::uint64_t newest = 0;  ///< position of its newest record
    std::uint32_t lane = 0;
    bool taken = false;
    bool mixed = false;  ///< two pages have this hash
  };

  [[nodiscard]] LaneVisits scan_lane(std::uint32_t lane, std::uint64_t applied, std::uint64_t tail, std::uint64_t hash,
                                     std::string_view page) const;
  [[nodiscard]] bool update_index(std::span<const std::uint64_t> applied, const LonelyWord* heads);
  void add(std::uint32_t lane, std::uint64_t position, const Record& record);
  void subtract(const Record& record);
  [[nodiscard]] Entry& slot(std::uint64_t hash) noexcept;
  /// Returns from where on it has read the lane.
  std::uint64_t scan_lane(std::uint32_t lane, std::span<Wanted> pages, std::span<const std::uint32_t> slots) const;
  void grow();
  void discard() noexcept;

  std::vector<Lane> lanes_;
  std::vector<Range> ranges_;  ///< what the index holds of each lane
  std::vector<Entry> entries_;
  std::size_t used_ = 0;
  std::size_t limit_;
  std::uint64_t short_bytes_;
  bool overflowed_ = false;
  std::uint64_t direct_scans_ = 0;
};

}  // namespace visitd
