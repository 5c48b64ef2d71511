#include "flusher/counting/shutdown.hpp"

namespace visitd {

void Shutdown::ask(std::uint64_t now_ms, std::uint64_t flush_ms) noexcept {
  if (is_asked()) return;
  phase_ = Phase::emptying_lanes;
  flush_deadline_ms_ = now_ms + flush_ms;
}

Shutdown::Step Shutdown::next(std::uint64_t now_ms, const Progress& progress) noexcept {
  const bool late = now_ms >= flush_deadline_ms_;
  switch (phase_) {
    case Phase::running:
      return Step::wait;
    case Phase::emptying_lanes:
      if (!progress.idle && !late) return Step::wait;
      phase_ = Phase::flushing;
      return Step::begin_flush;
    case Phase::flushing:
      if (!progress.flushed && !late) return Step::wait;
      phase_ = Phase::committing;
      [[fallthrough]];
    case Phase::committing:
      break;
  }
  if (!progress.durable && now_ms < flush_deadline_ms_ + commit_ms) return Step::commit;
  return progress.flushed ? Step::end : Step::end_with_batches;
}

}  // namespace visitd
