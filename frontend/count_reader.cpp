#include "frontend/count_reader.hpp"

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
  const auto count = snapshot_.count_with(*visits);
  sighting = {count.value_or(0), snapshot_.expires, !count};
  return Look::entry;
}

std::uint64_t CountReader::chain_mark(std::uint64_t hash) const noexcept {
  return cache_.active == nullptr ? 0 : visitd::chain_mark(*cache_.active, cache_.views, hash);
}

}  // namespace visitd
