// How a flusher of a host stops, as the decider of the real one says, and what must hold when it has.
#include <fmt/format.h>

#include "tests/simulation/simulated_host.hpp"

namespace visitd {

void SimulatedHost::stop_flusher() {
  if (engine_ == nullptr || shutdown_.is_asked()) return;
  stop_deadline_ms_ = stage_.now.ms + chance(2 * Stage::stop_flush_ms);
  shutdown_.ask(stage_.now.ms, stop_deadline_ms_ - stage_.now.ms);
}

void SimulatedHost::go_on_stopping() {
  const Shutdown::Progress progress{engine_->is_idle(), last_flush_ && engine_->flush_is_done(last_flush_->number),
                                    engine_->is_durable()};
  switch (shutdown_.next(stage_.now.ms, progress)) {
    case Shutdown::Step::wait:
      return;
    case Shutdown::Step::begin_flush:
      last_flush_ = LastFlush{engine_->begin_flush(stage_.now), {}};
      if (progress.idle) last_flush_->gained = gained_;
      if (!progress.idle && stage_.now.ms < stop_deadline_ms_)
        throw Broken("a last flush begins before the lanes are empty");
      return;
    case Shutdown::Step::commit:
      return engine_->commit_soon();
    case Shutdown::Step::end:
      ++stage_.statistics.stops_in_full;
      [[fallthrough]];
    case Shutdown::Step::end_with_batches:
      ++stage_.statistics.stops;
      check_stopped(progress);
      return end_flusher();
  }
}

/// Nothing that was recorded before the last flush waits, unless shards or disk were slower than a stop waits.
void SimulatedHost::check_stopped(const Shutdown::Progress& progress) const {
  if (!progress.durable) {
    // A correction that waits for people may keep the memory full.
    if (stage_.now.ms >= stop_deadline_ms_ + Shutdown::commit_ms) return;
    throw Broken(fmt::format("host {}: a stop ends before the last commit", number_));
  }
  if (!progress.flushed && stage_.now.ms < stop_deadline_ms_)
    throw Broken(fmt::format("host {}: a stop ends before its last flush", number_));
  const auto waiting = in_lanes();
  for (std::size_t page = 0; page < Stage::pages; ++page) {
    if (waiting[page] != 0) throw Broken(fmt::format("host {}: a stop leaves visits in the lanes", number_));
    const std::uint64_t pending =
        spool_.pending(stage_.names[page], stage_.bucket_of(page), [](const Batch&) { return false; });
    if (progress.flushed && pending > gained_[page] - last_flush_->gained[page]) {
      throw Broken(
          fmt::format("host {}: a stop leaves {} visits of {} in the spool, of which {} were recorded after "
                      "its last flush began",
                      number_, pending, stage_.names[page], gained_[page] - last_flush_->gained[page]));
    }
  }
}

}  // namespace visitd
