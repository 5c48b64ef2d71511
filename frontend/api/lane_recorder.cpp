#include "frontend/api/lane_recorder.hpp"

#include <algorithm>

#include "common/os/clock.hpp"
#include "common/os/invariant.hpp"
#include "common/shm/page_id.hpp"

namespace visitd {

Published LaneRecorder::publish(std::string_view page, std::uint32_t visits) noexcept {
  const std::uint64_t hash = page_hash(page, membership_.ring().hash_seed());
  return membership_.records().publish(RecordKind::visit, page, visits, unix_seconds(), hash);
}

void LaneRecorder::wake_flusher() noexcept {
  const Cache* const cache = membership_.cache();
  // Partner: the flusher stores that it sleeps, then looks at tail.
  membership_.records().confirm();
  if (cache != nullptr && cache->header().sleeping.word.load(std::memory_order_seq_cst) != 0)
    membership_.flusher_bell().ring();
}

Recorded LaneRecorder::record(std::string_view page, std::uint32_t visits) noexcept {
  if (closed_) {
    statistics_.add(FrontendStatistic::visits_refused_closed, visits);
    return Recorded::closed;
  }
  if (publish(page, visits) == Published::full) {
    statistics_.add(FrontendStatistic::visits_refused_full, visits);
    return Recorded::full;
  }
  statistics_.add(FrontendStatistic::visits, visits);
  wake_flusher();
  return Recorded::recorded;
}

Recorded LaneRecorder::record_together(std::span<const std::string_view> pages) noexcept {
  if (closed_) {
    statistics_.add(FrontendStatistic::visits_refused_closed, pages.size());
    return Recorded::closed;
  }
  std::uint64_t bytes = 0;
  std::uint64_t longest = 0;
  for (const std::string_view page : pages) {
    bytes += record_bytes(page.size());
    longest = std::max(longest, record_bytes(page.size()));
  }
  if (!membership_.records().has_room(bytes, longest)) {
    statistics_.add(FrontendStatistic::visits_refused_full, pages.size());
    return Recorded::full;
  }
  for (const std::string_view page : pages) {
    must_hold(publish(page, 1) == Published::published, "a lane with room takes what it has room for");
  }
  statistics_.add(FrontendStatistic::visits, pages.size());
  wake_flusher();
  return Recorded::recorded;
}

}  // namespace visitd
