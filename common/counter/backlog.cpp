#include "common/counter/backlog.hpp"

#include <algorithm>
#include <bit>
#include <utility>

namespace visitd {

namespace {

constexpr std::size_t first_entries = 4096;

constexpr std::uint32_t no_page = ~std::uint32_t{0};

/// Where the hash lies in a table of pages, or the free place where it would.
std::size_t slot_of(std::uint64_t hash, std::span<const Backlog::Wanted> pages,
                    std::span<const std::uint32_t> slots) noexcept {
  const std::size_t mask = slots.size() - 1;
  std::size_t i = hash & mask;
  while (slots[i] != no_page && pages[slots[i]].hash != hash) i = (i + 1) & mask;
  return i;
}

}  // namespace

bool any_freed(std::span<const std::uint64_t> starts, const LonelyWord* heads) noexcept {
  if (heads == nullptr) return false;
  for (std::size_t lane = 0; lane < starts.size(); ++lane) {
    // Ordered by the acquire loads of the records before it: bytes that were written over were freed by a head that is
    // seen here.
    if (heads[lane].word.load(std::memory_order_relaxed) > starts[lane]) return true;
  }
  return false;
}

std::optional<std::uint64_t> Backlog::visits_since(std::span<const std::uint64_t> applied, const LonelyWord* heads,
                                                   std::uint64_t hash, std::string_view page) {
  applied = applied.first(lanes_.size());
  std::uint64_t bytes = 0;
  for (std::size_t lane = 0; lane < lanes_.size(); ++lane) {
    const std::uint64_t tail = lanes_[lane].tail->load(std::memory_order_acquire);
    if (tail > applied[lane]) bytes += tail - applied[lane];
  }
  const bool is_short = bytes <= short_bytes_;
  // Freed well below the length at which it is made, so that it does not come and go.
  if (bytes * 4 < short_bytes_ && (overflowed_ || !entries_.empty())) discard();
  if (!is_short || !entries_.empty()) {
    if (!overflowed_) {
      if (!update_index(applied, heads)) return std::nullopt;
      if (!overflowed_) {
        const Entry& entry = slot(hash);
        if (!entry.taken || entry.visits == 0) return 0;
        Record record;
        const LaneRecords& records = lanes_[entry.lane].records;
        const bool is_page = !entry.mixed &&
                             records.read(entry.newest, ranges_[entry.lane].end, record) == RecordCheck::whole &&
                             records.is_page(entry.newest, record, page);
        const std::uint64_t visits = entry.visits;
        if (any_freed(applied, heads)) return std::nullopt;
        if (is_page) return visits;
      }
    }
    ++direct_scans_;
  }
  std::uint64_t visits = 0;
  for (std::uint32_t lane = 0; lane < lanes_.size(); ++lane) {
    const std::uint64_t tail = lanes_[lane].tail->load(std::memory_order_acquire);
    if (tail > applied[lane]) visits += scan_lane(lane, applied[lane], tail, hash, page).visits;
  }
  if (any_freed(applied, heads)) return std::nullopt;
  return visits;
}

Backlog::LaneVisits Backlog::scan_lane(std::uint32_t lane, std::uint64_t applied, std::uint64_t tail,
                                       std::uint64_t hash, std::string_view page) const {
  const LaneRecords& records = lanes_[lane].records;
  LaneVisits found{applied, tail, applied, 0};
  if (tail <= applied) return found;
  found.end = each_visit(records, applied, tail, tail, [&](std::uint64_t position, const Record& record) {
    if (record.page_hash == hash && records.is_page(position, record, page)) found.visits += record.visits;
  });
  return found;
}

std::optional<std::vector<Backlog::LaneVisits>> Backlog::visits_by_lane(std::span<const std::uint64_t> applied,
                                                                        const LonelyWord* heads, std::uint64_t hash,
                                                                        std::string_view page) const {
  std::vector<LaneVisits> visits;
  for (std::uint32_t lane = 0; lane < lanes_.size(); ++lane) {
    const std::uint64_t tail = lanes_[lane].tail->load(std::memory_order_acquire);
    visits.push_back(scan_lane(lane, applied[lane], tail, hash, page));
  }
  if (any_freed(applied.first(lanes_.size()), heads)) return std::nullopt;
  return visits;
}

void Backlog::visits_since(std::span<Wanted> pages, const LonelyWord* heads) {
  // At most half full, so that a record of a page that nobody wants is passed over after a look or two.
  std::vector<std::uint32_t> slots(std::bit_ceil(pages.size() * 2 + 1), no_page);
  for (std::uint32_t n = 0; n < pages.size(); ++n) {
    Wanted& page = pages[n];
    page.visits = 0;
    std::uint32_t& slot = slots[slot_of(page.hash, pages, slots)];
    page.valid = slot == no_page;
    if (page.valid) slot = n;
  }
  std::uint64_t earliest[max_lanes];
  for (std::uint32_t lane = 0; lane < lanes_.size(); ++lane) earliest[lane] = scan_lane(lane, pages, slots);
  // Also for a page whose own bytes all stand: over freed ones the scan may have lost the records' beginnings.
  if (any_freed(std::span(earliest, lanes_.size()), heads)) {
    for (Wanted& page : pages) page.valid = false;
  }
  ++direct_scans_;
}

std::uint64_t Backlog::scan_lane(std::uint32_t lane, std::span<Wanted> pages,
                                 std::span<const std::uint32_t> slots) const {
  const std::uint64_t tail = lanes_[lane].tail->load(std::memory_order_acquire);
  std::uint64_t start = tail;
  for (const Wanted& page : pages) start = std::min(start, page.applied[lane]);
  // What was applied before a page's own snapshot stands in its entry already.
  const std::uint64_t end =
      each_visit(lanes_[lane].records, start, tail, tail, [&](std::uint64_t position, const Record& record) {
        const std::uint32_t found = slots[slot_of(record.page_hash, pages, slots)];
        if (found == no_page || position < pages[found].applied[lane]) return;
        if (lanes_[lane].records.is_page(position, record, pages[found].page)) pages[found].visits += record.visits;
      });
  // Whose snapshot is from behind a damaged record does not end there.
  if (end != tail) {
    for (Wanted& page : pages) page.valid = page.valid && page.applied[lane] <= end;
  }
  return start;
}

bool Backlog::update_index(std::span<const std::uint64_t> applied, const LonelyWord* heads) {
  for (int tries = 0; tries < 2; ++tries) {
    if (entries_.empty()) {
      entries_.resize(std::min(first_entries, std::bit_ceil(2 * limit_ + 2)));
      for (std::size_t lane = 0; lane < lanes_.size(); ++lane) ranges_[lane] = {applied[lane], applied[lane]};
    }
    std::uint64_t earliest[max_lanes];
    for (std::uint32_t lane = 0; lane < lanes_.size() && !overflowed_; ++lane) {
      Range& range = ranges_[lane];
      const std::uint64_t start = applied[lane];
      const std::uint64_t tail = std::max(lanes_[lane].tail->load(std::memory_order_acquire), start);
      earliest[lane] = std::min(range.start, start);
      const auto add_record = [&](std::uint64_t position, const Record& record) { add(lane, position, record); };
      if (start >= range.end) {
        // All that is held of this lane is applied. It is taken off below, before anything new is added.
        each_visit(lanes_[lane].records, range.start, range.end, range.end,
                   [&](std::uint64_t, const Record& record) { subtract(record); });
        range = {start, start};
      } else if (start > range.start) {
        each_visit(lanes_[lane].records, range.start, start, range.end,
                   [&](std::uint64_t, const Record& record) { subtract(record); });
      } else {
        // The start went back: the flusher died in a change, or started anew.
        each_visit(lanes_[lane].records, start, range.start, tail, add_record);
      }
      range.start = start;
      each_visit(lanes_[lane].records, range.end, tail, tail, add_record);
      range.end = tail;
    }
    if (overflowed_) {
      entries_ = {};
      used_ = 0;
      return true;
    }
    if (!any_freed({earliest, lanes_.size()}, heads)) return true;
    discard();
  }
  return false;
}

void Backlog::add(std::uint32_t lane, std::uint64_t position, const Record& record) {
  if (overflowed_) return;
  if ((used_ + 1) * 2 > entries_.size()) grow();
  if (overflowed_) return;
  Entry& entry = slot(record.page_hash);
  if (!entry.taken) {
    entry = {record.page_hash, 0, position, lane, true, false};
    ++used_;
  } else if (entry.visits != 0) {
    const LaneRecords& records = lanes_[entry.lane].records;
    Record newest;
    char buffer[max_page_id_bytes];
    const bool same = records.read(entry.newest, entry.newest + max_record_bytes, newest) == RecordCheck::whole &&
                      lanes_[lane].records.is_page(position, record, records.page(entry.newest, newest, buffer));
    entry.mixed |= !same;
  }
  entry.visits += record.visits;
  entry.newest = position;
  entry.lane = lane;
}

void Backlog::subtract(const Record& record) {
  Entry& entry = slot(record.page_hash);
  if (entry.taken) entry.visits -= std::min<std::uint64_t>(entry.visits, record.visits);
}

Backlog::Entry& Backlog::slot(std::uint64_t hash) noexcept {
  const std::size_t mask = entries_.size() - 1;
  std::size_t i = hash & mask;
  while (entries_[i].taken && entries_[i].hash != hash) i = (i + 1) & mask;
  return entries_[i];
}

void Backlog::grow() {
  // What nobody counts any more makes room first.
  std::vector<Entry> live;
  std::ranges::copy_if(entries_, std::back_inserter(live),
                       [](const Entry& entry) { return entry.taken && entry.visits != 0; });
  if (live.size() >= limit_) {
    overflowed_ = true;
    return;
  }
  std::size_t size = entries_.size();
  while (size < (live.size() + 1) * 4) size *= 2;
  entries_.assign(size, {});
  used_ = live.size();
  for (const Entry& entry : live) slot(entry.hash) = entry;
}

void Backlog::discard() noexcept {
  entries_ = {};
  used_ = 0;
  overflowed_ = false;
}

}  // namespace visitd
