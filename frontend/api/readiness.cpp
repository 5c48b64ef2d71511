#include "frontend/api/readiness.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "common/counter/heartbeat.hpp"
#include "common/os/invariant.hpp"
#include "common/shm/shared_text.hpp"

namespace visitd {

namespace {

using Result = Check::Result;

Check check_segment(const RingMembership& membership) {
  const int segment = membership.ring().note().segment;
  if (membership.ring().is_superseded()) {
    return {"segment", Result::failed, fmt::format("ring segment {} was replaced by a newer one", segment)};
  }
  return {"segment", Result::ok, fmt::format("ring segment {} is attached", segment)};
}

Check check_lane(const RingMembership& membership) {
  const std::uint32_t lane = membership.lane();
  if (membership.ring().lane_state(lane) != LaneState::open) {
    return {"lane", Result::failed, fmt::format("lane {} is closed: this frontend is leaving", lane)};
  }
  const std::uint64_t capacity = membership.ring().shape().lane_bytes;
  const std::uint64_t used = std::min(uncommitted_bytes(membership.ring(), membership.cache(), lane), capacity);
  const std::string detail = fmt::format("lane {} holds {} of {} bytes", lane, used, capacity);
  if (capacity - used < max_record_bytes) return {"lane", Result::failed, detail + ": it is full"};
  return {"lane", used > capacity / 2 ? Result::warning : Result::ok, detail};
}

Check check_flusher(const Settings& settings, const Cache* cache, std::uint64_t now_ns) {
  if (cache == nullptr) return {"flusher", Result::warning, "no flusher has served this ring yet"};
  const Heartbeat heartbeat(cache->header().heartbeat_ns.word);
  const std::uint64_t now_ms = now_ns / 1'000'000;
  return {"flusher", heartbeat.is_within(settings.cache.flusher_away_ms, now_ms) ? Result::ok : Result::warning,
          fmt::format("the flusher showed itself {} ms ago", heartbeat.age_ms(now_ms).value_or(now_ms))};
}

/// Unix time of the oldest record that the spool does not hold; 0: it holds all.
std::uint64_t oldest_uncommitted_s(const Ring& ring, const Cache& cache) noexcept {
  std::uint64_t oldest_s = 0;
  for (std::uint32_t lane = 0; lane < ring.shape().lanes; ++lane) {
    const std::uint64_t head = value_of(at_index(cache.header().head, lane).word);
    const std::uint64_t tail = value_of(ring.lane(lane).tail.word);
    const LaneRecords records(std::span<const Word>(ring.records(lane)));
    Record record;
    if (tail <= head || records.read(head, tail, record) != RecordCheck::whole || record.kind != RecordKind::visit) {
      continue;
    }
    if (oldest_s == 0 || record.time < oldest_s) oldest_s = record.time;
  }
  return oldest_s;
}

Check check_spool(const Settings& settings, const RingMembership& membership, std::uint64_t unix_s) {
  constexpr std::uint64_t least_late_s = 5;
  constexpr std::uint64_t late_commits = 20;
  const Cache* const cache = membership.cache();
  if (cache == nullptr) return {"spool", Result::warning, "no flusher has served this ring yet"};
  const std::uint64_t oldest_s = oldest_uncommitted_s(membership.ring(), *cache);
  if (oldest_s == 0) return {"spool", Result::ok, "every visit is in the spool"};
  const std::uint64_t waited_s = unix_s > oldest_s ? unix_s - oldest_s : 0;
  const bool late = waited_s > std::max(least_late_s, late_commits * settings.flusher.commit_interval_ms / 1000);
  return {"spool", late ? Result::warning : Result::ok,
          fmt::format("the oldest visit that is not in the spool has waited {} s", waited_s)};
}

Check check_pages(const Cache& cache) {
  const std::uint64_t pages =
      value_of(cache.header().statistics[static_cast<std::size_t>(FlusherStatistic::pages_uncountable)]);
  if (pages == 0) return {"pages", Result::ok, "every page that was asked for can be counted"};
  return {"pages", Result::warning,
          fmt::format("{} pages cannot be counted in Redis: the flusher's log names them, and what to mend", pages)};
}

Check check_shard(const ShardSlot& slot) {
  const auto state = static_cast<ShardState>(value_of(slot.state));
  const std::string reason = shard_reason(slot);
  return {"shard " + load_text(slot.name), state == ShardState::up ? Result::ok : Result::warning,
          reason.empty() ? std::string(name_of(state)) : fmt::format("{}: {}", name_of(state), reason)};
}

}  // namespace

std::vector<Check> check_readiness(const Settings& settings, const RingMembership& membership, const Clocks& now) {
  std::vector<Check> checks{check_segment(membership), check_lane(membership),
                            check_flusher(settings, membership.cache(), now.monotonic_ns),
                            check_spool(settings, membership, now.unix_s)};
  if (const Cache* const cache = membership.cache()) {
    checks.push_back(check_pages(*cache));
    const std::uint64_t shards = std::min<std::uint64_t>(value_of(cache->header().shards), max_shards);
    for (std::uint64_t shard = 0; shard < shards; ++shard)
      checks.push_back(check_shard(at_index(cache->header().shard, shard)));
  }
  return checks;
}

}  // namespace visitd
