#include "common/counter/count_reader.hpp"

#include <algorithm>

namespace visitd {

CountReader::Look CountReader::look(std::uint64_t hash, std::string_view page, Sighting& sighting) {
  if (!gathered_.empty() && take_gathered(hash, page, sighting)) return judge();
  if (const Look found = find(hash, page); found != Look::entry) return found;
  const auto visits = backlog_.visits_since(snapshot_.applied, cache_.heads, hash, page);
  if (const Look judged = judge(); judged != Look::entry) return judged;
  if (!visits) return Look::again;
  sighting = sighting_of(snapshot_, *visits);
  return Look::entry;
}

CountReader::Look CountReader::glance(std::uint64_t hash, std::string_view page, Sighting& sighting) {
  if (const Look found = find(hash, page); found != Look::entry) return found;
  sighting.expires_ms = snapshot_.expires;
  return judge();
}

CountReader::Look CountReader::find(std::uint64_t hash, std::string_view page) noexcept {
  if (cache_.active == nullptr) return Look::absent;
  const Seen seen = take_snapshot(*cache_.active, cache_.views, hash, page, snapshot_);
  if (seen == Seen::again) return Look::again;
  return seen == Seen::entry ? Look::entry : Look::absent;
}

/// Whether what was read of an entry and the lanes is still the truth: looked at after them.
CountReader::Look CountReader::judge() const noexcept {
  // A visit that was acknowledged in a newer ring is not in these lanes.
  if (superseded_.load(std::memory_order_acquire) != 0) return Look::superseded;
  // Looked at after the records, like head: another cache may free space that this one still shows as taken.
  if (cache_.retired->load(std::memory_order_relaxed) != 0) return Look::retired;
  return Look::entry;
}

CountReader::Sighting CountReader::sighting_of(const Snapshot& snapshot, std::uint64_t visits) noexcept {
  const auto count = snapshot.count_with(visits);
  return {count.value_or(0), snapshot.expires, !count};
}

void CountReader::gather(std::span<const Page> pages) {
  forget();
  if (!gathers()) return;
  // The rules of a read hold for each page: its own snapshot comes first, then the scan, from where that snapshot says,
  // then the look at head.
  std::vector<Snapshot> snapshots;
  std::vector<Backlog::Wanted> wanted;
  snapshots.reserve(pages.size());  // `wanted` points into it
  wanted.reserve(pages.size());
  for (const Page& page : pages) {
    Snapshot& snapshot = snapshots.emplace_back();
    if (take_snapshot(*cache_.active, cache_.views, page.hash, page.page, snapshot) == Seen::entry) {
      wanted.push_back({page.hash, page.page, snapshot.applied});
    } else {
      snapshots.pop_back();  // look() takes it by itself
    }
  }
  backlog_.visits_since(wanted, cache_.heads);
  for (std::size_t n = 0; n < wanted.size(); ++n) {
    if (!wanted[n].valid) continue;
    gathered_.push_back({{wanted[n].hash, wanted[n].page}, sighting_of(snapshots[n], wanted[n].visits)});
  }
  std::ranges::reverse(gathered_);
}

bool CountReader::take_gathered(std::uint64_t hash, std::string_view page, Sighting& sighting) noexcept {
  const Gathered& next = gathered_.back();
  if (next.page.hash != hash || next.page.page != page) return false;
  sighting = next.sighting;
  gathered_.pop_back();
  return true;
}

std::uint64_t CountReader::chain_mark(std::uint64_t hash) const noexcept {
  return cache_.active == nullptr ? 0 : visitd::chain_mark(*cache_.active, cache_.views, hash);
}

}  // namespace visitd
