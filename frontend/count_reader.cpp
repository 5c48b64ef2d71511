#include "frontend/count_reader.hpp"

#include <algorithm>

namespace visitd {

CountReader::Look CountReader::look(std::uint64_t hash, std::string_view page, Sighting& sighting) {
  if (cache_.active == nullptr) return Look::absent;
  const Seen seen = take_snapshot(*cache_.active, cache_.views, hash, page, snapshot_);
  if (seen == Seen::again) return Look::again;
  if (seen == Seen::absent) return Look::absent;
  const auto visits = backlog_.visits_since(snapshot_.applied, cache_.heads, hash, page);
  // A visit that was acknowledged in a newer ring is not in these lanes.
  if (superseded_.load(std::memory_order_acquire) != 0) return Look::superseded;
  // Looked at after the records, like head: another cache may free space that this one still shows as taken.
  if (cache_.retired->load(std::memory_order_relaxed) != 0) return Look::retired;
  if (!visits) return Look::again;
  sighting = sum_of(snapshot_, *visits);
  return Look::entry;
}

CountReader::Sighting CountReader::sum_of(const Snapshot& snapshot, std::uint64_t visits) noexcept {
  Sighting sighting{snapshot.base, snapshot.expires, snapshot.is_damaged() || snapshot.base > count_limit};
  for (const std::uint64_t part : {snapshot.inflight, snapshot.open, visits}) {
    // Redis will not take them: the page's count ends there.
    sighting.damaged |= part > count_limit - std::min(sighting.count, count_limit);
    sighting.count += part;
  }
  return sighting;
}

}  // namespace visitd
