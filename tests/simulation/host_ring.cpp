// The ring of a host: made, left for the next one as the decider of the real flusher says, and what must hold then.
#include <fmt/format.h>

#include <algorithm>

#include "tests/simulation/simulated_host.hpp"

namespace visitd {

void SimulatedHost::make_lanes() {
  for (std::uint32_t n = 0; n < lanes; ++n) {
    Lane& lane = lanes_.emplace_back();
    lane.producer = std::make_unique<LaneProducer>(lane.tail.word, lane.records, &cache().head[n].word, &lane.freed);
    lane.asker = std::make_unique<LaneProducer>(lane.requests_tail.word, lane.requests, &cache().requests_read[n]);
  }
  for (std::size_t reader = 0; reader < readers(); ++reader) {
    std::vector<Backlog::Lane> seen;
    for (Lane& lane : lanes_) seen.push_back({&lane.tail.word, LaneRecords(std::span<const Word>(lane.records))});
    // The second reader's backlog is long from the first byte on: it always reads through its index. The third one's
    // index holds a page or two: it always scans, once for all pages.
    readers_.emplace_back(std::move(seen), superseded_, reader == list_reader ? 0 : 1024,
                          reader == 0 ? Backlog::usual_short_bytes : 0);
    const LonelyWord* const heads = stage_.mutant == Mutant::backlog_trusts_freed_bytes ? nullptr : cache().head;
    readers_.back().follow({&cache(), heads, memory().views, {}});
  }
}

void SimulatedHost::leave_ring() {
  if (must_leave_) return;
  must_leave_ = true;
  deserted_at_ms_ = stage_.now.ms + chance(60);
}

void SimulatedHost::look_at_ring() {
  const RingHandover::Step step = handover_.look(must_leave_, is_deserted());
  if (step != RingHandover::Step::stay) engine_->commit_soon();
  if (step == RingHandover::Step::finish) engine_->finish_ring();
}

void SimulatedHost::look_at_end_of_ring() {
  if (handover_.committed(engine_->ring_is_finished()) != RingHandover::Step::end) return;
  end_flusher();
}

/// The ring is finished: what frontends record from now on is in the next one, which has a cache of its own. That takes
/// over the entries.
void SimulatedHost::take_next_ring() {
  const auto waiting = in_lanes();
  if (!is_deserted() || std::ranges::any_of(waiting, [](std::uint64_t visits) { return visits != 0; }))
    throw Broken(fmt::format("host {}: a ring is finished that still holds visits, or is written to", number_));
  ++stage_.statistics.rings;
  ++rings_;
  must_leave_ = false;
  shown_of_former_ = shown_until_now();
  readers_.clear();
  lanes_.clear();
  for (Line& line : cache_memory_) {
    for (Word& word : line.words) word.store(0, std::memory_order_relaxed);
  }
  make_lanes();
  for (std::uint64_t visits = chance(4); visits > 0; --visits) publish(chance(Stage::pages), 1);
}

}  // namespace visitd
