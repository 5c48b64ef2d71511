#include "frontend/api/lane_recorder.hpp"

#include "common/os/clock.hpp"
#include "common/shm/page_id.hpp"

namespace visitd {

Recorded LaneRecorder::record(std::string_view page, std::uint32_t visits) noexcept {
  if (closed_) {
    statistics_.add(FrontendStatistic::visits_refused_closed, visits);
    return Recorded::closed;
  }
  const std::uint64_t hash = page_hash(page, membership_.ring().hash_seed());
  if (membership_.records().publish(RecordKind::visit, page, visits, unix_seconds(), hash) == Published::full) {
    statistics_.add(FrontendStatistic::visits_refused_full, visits);
    return Recorded::full;
  }
  statistics_.add(FrontendStatistic::visits, visits);
  const Cache* const cache = membership_.cache();
  // Partner: the flusher stores that it sleeps, then looks at tail.
  membership_.records().confirm();
  if (cache != nullptr && cache->header().sleeping.word.load(std::memory_order_seq_cst) != 0)
    membership_.flusher_bell().ring();
  return Recorded::recorded;
}

}  // namespace visitd
