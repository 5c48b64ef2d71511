#include "flusher/counting/drain.hpp"

#include <algorithm>
#include <utility>

#include "common/shm/page_id.hpp"

namespace visitd {

namespace {

// A burst short enough to stay in the cache, and a look ahead long enough to hide memory: measured in
// tests/bench/lane_bench.
constexpr std::uint64_t burst_bytes = 32U << 10U;
constexpr std::uint64_t prefetch_bytes = 1U << 10U;

}  // namespace

Drain::Drain(const CountingMemory& memory, FlusherView& view, PendingSeries& pending, const DrainLimits& limits,
             FlusherStatistics statistics, SeriesOpened series_opened)
    : lanes_(memory.lanes),
      view_(view),
      pending_(pending),
      limits_(limits),
      statistics_(statistics),
      series_opened_(std::move(series_opened)) {
  for (std::uint32_t lane = 0; lane < lanes_.size(); ++lane) {
    records_.emplace_back(lanes_[lane].records);
    positions_.push_back(view_.applied(lane));
  }
  refused_tails_.resize(lanes_.size());
}

bool Drain::run() {
  bool applied = false;
  const std::uint64_t before = pending_.visits();
  for (std::uint32_t lane = 0; lane < lanes_.size(); ++lane) applied |= run_lane(lane);
  if (applied) {
    statistics_.add(FlusherStatistic::visits_applied, pending_.visits() - before);
    statistics_.set(FlusherStatistic::pending_visits, pending_.visits());
    statistics_.set(FlusherStatistic::pending_pages, pending_.with_visits());
  }
  return applied;
}

bool Drain::run_lane(std::uint32_t lane) {
  const std::uint64_t start = positions_[lane];
  std::uint64_t position = start;
  const LaneRecords& records = records_[lane];
  const std::uint64_t tail = lanes_[lane].tail->load(std::memory_order_acquire);  // partner: the producer's publish
  if (tail == start || tail == refused_tails_[lane]) return false;
  const bool tail_is_sane = tail > start && tail - start <= records.capacity() && tail % 8 == 0;
  const std::uint64_t end = tail_is_sane ? std::min(tail, start + burst_bytes) : start;
  // A tail that went back takes nothing back: what is counted stays counted. It is said once, and not looked at again.
  if (!tail_is_sane) refused_tails_[lane] = tail;
  std::uint64_t damaged = tail_is_sane ? 0 : std::max((tail + 7) / 8 * 8, start);
  char buffer[max_page_id_bytes];
  while (position < end) {
    records.prefetch(position + prefetch_bytes);
    Record record;
    if (records.read(position, tail, record) != RecordCheck::whole) {
      damaged = tail;
      break;
    }
    const std::uint64_t next = position + record.size;
    if (record.kind != RecordKind::pad) {
      const Applied outcome = record.kind == RecordKind::visit && record.visits != 0
                                  ? apply(lane, next, record, records.page(position, record, buffer))
                                  : Applied::bad_page;
      if (outcome == Applied::bad_page) damaged = tail;
      if (outcome != Applied::applied) break;
    }
    position = next;
  }
  if (damaged != 0) {
    // No record behind a damaged one can be found. What the lane held is lost, and that is said.
    statistics_.add(FlusherStatistic::records_damaged);
    damage_.push_back({lane, position, damaged > position ? damaged - position : 0});
    position = damaged;
  }
  if (position == start) return false;
  positions_[lane] = position;
  view_.set_applied(lane, position);
  return true;
}

/// A record is one effect: it adds its visits to its page's total, the series that the page's id names.
Drain::Applied Drain::apply(std::uint32_t lane, std::uint64_t next, const Record& record, std::string_view page) {
  std::uint32_t number = pending_.find(record.page_hash, page);
  if (number == PendingSeries::none) {
    // A control character in an id would let somebody who writes the ring reach the flusher's own fields in Redis; a
    // hash that is not the page's would make a second page of the same id, whose total replaces the first one's.
    if (check_page_id(page, limits_.page_id_limit) != PageIdFault::none) return Applied::bad_page;
    if (page_hash(page, limits_.hash_seed) != record.page_hash) return Applied::bad_page;
  }
  if (number == PendingSeries::none || pending_[number].in_bucket == 0) {
    const std::uint64_t taken = pending_.open_bytes() + PendingSeries::bytes_of(page.size());
    // The first page always has room: a limit that is too small must not stop everything.
    if (taken > limits_.memory_bytes && pending_.open_bytes() > 0) return Applied::no_room;
  }
  if (number == PendingSeries::none || pending_[number].unspooled == 0) {
    if (pending_.unspooled_is_full()) return Applied::no_room;
  }
  if (number == PendingSeries::none) {
    number = pending_.insert(record.page_hash, page, page_bucket(page, limits_.buckets));
  }
  SeriesVisits& total = pending_.apply(number, record.visits);
  if (total.in_bucket == 0) {
    pending_.set_in_bucket(total, true);
    series_opened_(number);
  }
  if (total.node != 0) view_.apply(total.node, record.visits, lane, next);
  return Applied::applied;
}

std::vector<std::uint64_t> Drain::tails() const {
  std::vector<std::uint64_t> tails;
  tails.reserve(lanes_.size());
  for (const LaneMemory& lane : lanes_) tails.push_back(lane.tail->load(std::memory_order_acquire));
  return tails;
}

bool Drain::has_applied(const std::vector<std::uint64_t>& tails) const noexcept {
  for (std::uint32_t lane = 0; lane < lanes_.size(); ++lane) {
    if (positions_[lane] < tails[lane] && tails[lane] != refused_tails_[lane]) return false;
  }
  return true;
}

bool Drain::is_empty() const noexcept {
  for (std::uint32_t lane = 0; lane < lanes_.size(); ++lane) {
    // Sequentially consistent, with the producer's store of tail: see the doorbell.
    const std::uint64_t tail = lanes_[lane].tail->load(std::memory_order_seq_cst);
    if (tail != positions_[lane] && tail != refused_tails_[lane]) return false;
  }
  return true;
}

std::uint64_t Drain::deepest(const std::vector<std::uint64_t>& head) const noexcept {
  std::uint64_t depth = 0;
  for (std::uint32_t lane = 0; lane < lanes_.size(); ++lane) depth = std::max(depth, positions_[lane] - head[lane]);
  return depth;
}

}  // namespace visitd
