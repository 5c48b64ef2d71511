#include "common/counter/count_reader.hpp"

#include <algorithm>

#include "common/counter/heartbeat.hpp"
#include "common/os/invariant.hpp"
#include "common/shm/page_id.hpp"

namespace visitd {

namespace {

// A flusher in the middle of a change is done within nanoseconds; one that was preempted there, or a damaged cache, is
// not waited for here.
constexpr std::uint32_t tries_at_once = 1000;

}  // namespace

CountReader::Reading CountReader::read(std::uint64_t hash, std::string_view page, std::uint64_t now_ms) {
  Reading reading;
  Why why = try_read(hash, page, reading);
  while (why == Why::changing && ++reading.tries_again < tries_at_once) why = try_read(hash, page, reading);
  judge(why, page, now_ms, reading);
  return reading;
}

CountReader::Why CountReader::try_read(std::uint64_t hash, std::string_view page, Reading& reading) {
  if (!gathered_.empty() && take_gathered(hash, page, reading)) return why_untrue();
  if (const Why why = take_snapshot(hash, page, snapshot_); why != Why::none) return why;
  const auto visits = backlog_.visits_since(snapshot_.applied, cache_.heads, hash, page);
  if (const Why why = why_untrue(); why != Why::none) return why;
  if (!visits) return Why::changing;
  sum_up(snapshot_, *visits, reading);
  return Why::none;
}

CountReader::Why CountReader::take_snapshot(std::uint64_t hash, std::string_view page,
                                            Snapshot& snapshot) const noexcept {
  if (cache_.header == nullptr) return Why::no_cache;
  switch (visitd::take_snapshot(cache_.header->active.word, cache_.views, hash, page, snapshot)) {
    case SnapshotOutcome::entry:
      return Why::none;
    case SnapshotOutcome::absent:
      return Why::absent;
    case SnapshotOutcome::again:
      break;
  }
  return Why::changing;
}

/// Why what was read of an entry and the lanes is not the truth any more: looked at after them. none: it is.
CountReader::Why CountReader::why_untrue() const noexcept {
  // A visit that was acknowledged in a newer ring is not in these lanes.
  if (superseded_.load(std::memory_order_acquire) != 0) return Why::superseded;
  // Looked at after the records, like head: another cache may free space that this one still shows as taken.
  if (cache_.header->retired.word.load(std::memory_order_relaxed) != 0) return Why::retired;
  return Why::none;
}

void CountReader::sum_up(const Snapshot& snapshot, std::uint64_t visits, Reading& reading) noexcept {
  const auto count = snapshot.count_with(visits);
  reading.has_entry = true;
  reading.damaged = !count;
  reading.count = count.value_or(0);
  reading.expires_ms = snapshot.expires;
}

/// What may be shown now of what was read.
void CountReader::judge(Why why, std::string_view page, std::uint64_t now_ms, Reading& reading) const noexcept {
  if (why == Why::none && reading.expires_ms > now_ms) [[likely]] {
    reading.kind = reading.damaged ? Kind::unknown : Kind::fresh;
    reading.why = reading.damaged ? Why::damaged : Why::none;
    return;
  }
  // What stood in a gathered reading is not the truth any more.
  if (why != Why::none) reading = {.tries_again = reading.tries_again};
  if (why == Why::superseded) {
    reading.why = why;
    return;
  }
  reading.kind = Kind::wait;
  if (why == Why::no_cache) {
    reading.why = why;
    return;
  }
  reading.cache_retired = why == Why::retired;
  reading.why = why == Why::none ? Why::expired : reading.cache_retired ? Why::absent : why;
  // A page that is not known waits for a flusher that may just be starting again; one that is known has an answer.
  const std::uint64_t away_ms = reading.why == Why::absent ? limits_.flusher_start : limits_.flusher_away;
  if (!Heartbeat(cache_.header->heartbeat_ns.word).is_within(away_ms, now_ms)) {
    reading = last_known(reading, Why::flusher_away, now_ms);
    return;
  }
  const ShardState shard = state_of_shard(page);
  if (shard == ShardState::down) reading = last_known(reading, Why::shard_down, now_ms);
  if (shard == ShardState::held) reading = last_known(reading, Why::shard_held, now_ms);
  if (shard == ShardState::connecting) reading.why = Why::shard_connecting;
}

CountReader::Reading CountReader::last_known(const Reading& reading, Why why, std::uint64_t now_ms) const noexcept {
  Reading last = reading;
  last.why = last.damaged ? Why::damaged : why;
  const bool may_be_shown = last.has_entry && !last.damaged && now_ms < last.expires_ms + limits_.stale;
  last.kind = may_be_shown ? Kind::stale : Kind::unknown;
  return last;
}

std::optional<std::uint64_t> CountReader::shard_of(std::string_view page) const noexcept {
  if (cache_.shard_of_bucket.empty()) return std::nullopt;
  const auto buckets = static_cast<std::uint32_t>(cache_.shard_of_bucket.size());
  const std::uint64_t shard = value_of(cache_.shard_of_bucket[page_bucket(page, buckets)]);
  const std::uint64_t shards = std::min<std::uint64_t>(value_of(cache_.header->shards), max_shards);
  return shard < shards ? std::optional(shard) : std::nullopt;
}

/// A page that is not placed has a flusher that is starting.
ShardState CountReader::state_of_shard(std::string_view page) const noexcept {
  const auto shard = shard_of(page);
  if (!shard) return ShardState::connecting;
  return static_cast<ShardState>(value_of(at_index(cache_.header->shard, *shard).state));
}

std::optional<std::uint64_t> CountReader::expiry(std::uint64_t hash, std::string_view page) noexcept {
  const Why why = take_snapshot(hash, page, snapshot_);
  if (why == Why::changing) return std::nullopt;
  return why == Why::none ? snapshot_.expires : 0;
}

std::uint64_t CountReader::chain_mark(std::uint64_t hash) const noexcept {
  return cache_.header == nullptr ? 0 : visitd::chain_mark(cache_.header->active.word, cache_.views, hash);
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
    if (take_snapshot(page.hash, page.page, snapshot) == Why::none) {
      wanted.push_back({page.hash, page.page, snapshot.applied});
    } else {
      snapshots.pop_back();  // read() takes it by itself
    }
  }
  backlog_.visits_since(wanted, cache_.heads);
  for (std::size_t n = 0; n < wanted.size(); ++n) {
    if (!wanted[n].valid) continue;
    Gathered& gathered = gathered_.emplace_back(Gathered{{wanted[n].hash, wanted[n].page}, {}});
    sum_up(snapshots[n], wanted[n].visits, gathered.reading);
  }
  std::ranges::reverse(gathered_);
}

bool CountReader::take_gathered(std::uint64_t hash, std::string_view page, Reading& reading) noexcept {
  const Gathered& next = gathered_.back();
  if (next.page.hash != hash || next.page.page != page) return false;
  reading = next.reading;
  gathered_.pop_back();
  return true;
}

CountReader::Parts CountReader::parts(std::uint64_t hash, std::string_view page) {
  Parts parts;
  parts.why = take_snapshot(hash, page, parts.snapshot);
  for (std::uint32_t tries = 1; parts.why == Why::changing && tries < tries_at_once; ++tries) {
    parts.why = take_snapshot(hash, page, parts.snapshot);
  }
  if (parts.why == Why::changing) return parts;
  auto lanes = backlog_.visits_by_lane(parts.snapshot.applied, cache_.heads, hash, page);
  if (cache_.header != nullptr) {
    if (const Why why = why_untrue(); why != Why::none) parts.why = why;
  }
  if (!lanes) parts.why = Why::changing;
  if (lanes) parts.lanes = std::move(*lanes);
  return parts;
}

}  // namespace visitd
