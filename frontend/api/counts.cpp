#include "frontend/api/counts.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "common/os/clock.hpp"
#include "common/os/invariant.hpp"
#include "common/os/log.hpp"
#include "common/shm/page_id.hpp"
#include "common/shm/shared_text.hpp"

namespace visitd {

using Look = CountReader::Look;

namespace {

// A flusher in the middle of a change is done within nanoseconds; one that was preempted there is waited for on the
// parking list.
constexpr int tries_at_once = 1000;
// A flusher shows itself at least four times a second. One that does not may have been followed by another, whose cache
// is to be found: looked for so often while a read waits for it, and once a second by RingMembership::check.
constexpr std::uint64_t flusher_quiet_ms = 500;
constexpr std::uint64_t look_for_cache_ms = 10;
// A killed flusher loses requests: they are posted again.
constexpr std::uint64_t ask_again_ms = 250;
// A parked read is tried again so often although nothing of what it waits for has changed; and while there is no cache,
// or none of a flusher that lives.
constexpr std::uint64_t retry_ms = 100;
constexpr std::uint64_t retry_before_turn_ms = 1000;
constexpr std::uint64_t retry_without_flusher_ms = 20;
constexpr std::size_t most_list_window = 256;
// Lists whose turn has come ask for so many pages at a time, all together: a flusher answers some hundred a
// millisecond.
constexpr std::size_t most_pages_of_lists = 8192;
// So many lists at a time find room for their windows in the cache.
constexpr std::size_t lists_in_cache = 4;

std::vector<Backlog::Lane> lanes_of(const Ring& ring) {
  std::vector<Backlog::Lane> lanes;
  lanes.reserve(ring.shape().lanes);
  for (std::uint32_t n = 0; n < ring.shape().lanes; ++n) {
    lanes.push_back({&ring.lane(n).tail.word, LaneRecords(std::span<const Word>(ring.records(n)))});
  }
  return lanes;
}

}  // namespace

Counts::Counts(const Settings& settings, RingMembership& membership, FrontendStatistics statistics)
    : membership_(membership),
      statistics_(statistics),
      reader_(lanes_of(membership.ring()), membership.ring().header().superseded, settings.cache.backlog_index_pages),
      list_turns_(most_pages_of_lists) {
  take_settings(settings);
  use_cache();
}

void Counts::take_settings(const Settings& settings) {
  lookup_timeout_ms_ = settings.http.lookup_timeout_ms;
  flusher_away_ms_ = settings.cache.flusher_away_ms;
  stale_limit_ms_ = std::uint64_t{settings.cache.stale_limit_s} * 1000;
  too_late_ = fmt::format("the page's shard did not answer within the {} ms that http.lookup_timeout_ms allows",
                          lookup_timeout_ms_);
}

void Counts::follow_ttl() noexcept {
  if (membership_.cache() == nullptr) return;
  ask_ahead_ms_ = refresh_ahead_ms(membership_.cache()->header().ttl_ms.load(std::memory_order_acquire));
}

void Counts::use_cache() {
  if (membership_.cache() == nullptr || cache_changes_ == membership_.cache_changes()) return;
  cache_changes_ = membership_.cache_changes();
  const CacheHeader& header = membership_.cache()->header();
  reader_.use({&header.active.word, &header.retired.word, header.head, membership_.cache()->views()});
  follow_ttl();
  shards_.clear();
  const std::uint64_t shards = std::min<std::uint64_t>(header.shards.load(std::memory_order_acquire), max_shards);
  for (std::uint64_t shard = 0; shard < shards; ++shard) {
    shards_.push_back(load_text(at_index(header.shard, shard).name));
  }
}

/// True: there is another cache than before.
bool Counts::find_cache() noexcept {
  const std::uint64_t changes = membership_.cache_changes();
  try {
    membership_.follow_cache();
    use_cache();
  } catch (const std::exception& failure) {
    log::error("{}", failure.what());  // the read waits; the next look may find it mended
  }
  return membership_.cache_changes() != changes;
}

/// Where nothing is known of a flusher that lives: all reads that wait for one look for it together.
void Counts::find_cache_soon(std::uint64_t now_ms) noexcept {
  if (const Cache* const cache = membership_.cache(); cache != nullptr) {
    const std::uint64_t heartbeat_ms = cache->header().heartbeat_ns.word.load(std::memory_order_acquire) / 1'000'000;
    if (now_ms < heartbeat_ms + flusher_quiet_ms) return;
  }
  if (now_ms < looked_for_cache_ms_ + look_for_cache_ms) return;
  looked_for_cache_ms_ = now_ms;
  static_cast<void>(find_cache());
}

CountAnswer Counts::read(std::string_view page, CountRead& state, std::uint64_t now_ms) noexcept {
  if (state.deadline_ms == 0) {
    state.deadline_ms = now_ms + lookup_timeout_ms_;
    statistics_.add(FrontendStatistic::reads);
  }
  use_cache();
  find_cache_soon(now_ms);
  const std::uint64_t hash = page_hash(page, membership_.ring().hash_seed());
  CountReader::Sighting sighting;
  Look seen = Look::again;
  for (int tries = 0; tries < tries_at_once && seen == Look::again; ++tries) {
    seen = look(hash, page, sighting);
    if (seen == Look::again) statistics_.add(FrontendStatistic::snapshots_again);
  }
  statistics_.set(FrontendStatistic::reads_scanned_directly, reader_.direct_scans());
  if (seen == Look::superseded)
    return last_known(seen, sighting, now_ms, "this frontend is about to leave its ring for a newer one");
  const Cache* const cache = membership_.cache();
  if (cache == nullptr) {
    return now_ms < state.deadline_ms ? park(hash, page, seen, sighting, state, now_ms)
                                      : last_known(seen, sighting, now_ms, "no flusher has counted yet");
  }
  const CacheHeader& header = cache->header();
  const std::uint64_t shard =
      cache->shard_of_bucket(page_bucket(page, cache->shape().buckets)).load(std::memory_order_acquire);
  const std::string_view shard_name = shard < shards_.size() ? std::string_view(shards_[shard]) : std::string_view();
  if (seen == Look::entry && sighting.expires_ms > now_ms) {
    if (sighting.expires_ms - now_ms <= ask_ahead_ms_) ask_ahead(hash, page, sighting.expires_ms);
    if (sighting.damaged) return damaged();
    const auto ttl = static_cast<std::int64_t>((sighting.expires_ms - now_ms + 999) / 1000);
    return {CountAnswer::Kind::fresh, sighting.count, ttl, state.asked ? shard_name : "in-memory", {}};
  }
  const std::uint64_t heartbeat_ms = header.heartbeat_ns.word.load(std::memory_order_acquire) / 1'000'000;
  const std::uint64_t silent_ms = now_ms > heartbeat_ms ? now_ms - heartbeat_ms : 0;
  // A page that is not known waits for a flusher that may just be starting again; one that is known has an answer.
  if (silent_ms > (seen == Look::absent ? lookup_timeout_ms_ : flusher_away_ms_)) {
    return last_known(seen, sighting, now_ms, "the flusher is away");
  }
  const auto shard_state =
      shard < shards_.size()
          ? static_cast<ShardState>(at_index(header.shard, shard).state.load(std::memory_order_acquire))
          : ShardState::connecting;
  if (shard_state == ShardState::down) return last_known(seen, sighting, now_ms, "the page's shard is down");
  if (shard_state == ShardState::held)
    return last_known(seen, sighting, now_ms, "the page's shard is held for the operator");
  if (now_ms >= state.deadline_ms) return last_known(seen, sighting, now_ms, too_late_);
  if (shard_state == ShardState::connecting) {
    // It cannot be asked now, and what was asked before was in vain. Once it is up, the flusher rings.
    state.asked_at_ms = 0;
  } else {
    ask(hash, page, state, now_ms);
  }
  return park(hash, page, seen, sighting, state, now_ms);
}

/// Notes what concerns the read from now on.
CountAnswer Counts::park(std::uint64_t hash, std::string_view page, Look seen, const CountReader::Sighting& sighting,
                         CountRead& state, std::uint64_t now_ms) noexcept {
  const Cache* const cache = membership_.cache();
  const std::uint64_t heartbeat_ms =
      cache == nullptr ? 0 : cache->header().heartbeat_ns.word.load(std::memory_order_acquire) / 1'000'000;
  const bool flusher_shows_itself = now_ms < heartbeat_ms + flusher_quiet_ms;
  const std::uint64_t retry_after_ms = !flusher_shows_itself ? retry_without_flusher_ms
                                       : awaits_turn(state)  ? retry_before_turn_ms
                                                             : retry_ms;
  state.retry_at_ms = std::min(state.deadline_ms, now_ms + retry_after_ms);
  state.hash = hash;
  state.outlook = outlook();
  state.chain_mark = reader_.chain_mark(hash);
  // What was answered after the look above, and before the mark was taken, would wake nobody.
  CountReader::Sighting now;
  if (reader_.glance(hash, page, now) != seen || (seen == Look::entry && now.expires_ms != sighting.expires_ms)) {
    state.retry_at_ms = now_ms;
  }
  return {CountAnswer::Kind::parked, 0, 0, {}, {}};
}

bool Counts::concerns(const CountRead& state, std::uint64_t now_ms) noexcept {
  if (now_ms >= state.retry_at_ms) return true;
  if (awaits_turn(state)) return false;
  return (state.wants_room && may_ask_more(state)) || reader_.chain_mark(state.hash) != state.chain_mark ||
         outlook() != state.outlook;
}

/// Nothing that happens to the pages of a list concerns it before its turn has come: looking is cheap, however many
/// wait.
bool Counts::awaits_turn(const CountRead& state) const noexcept {
  return state.turn != 0 && !list_turns_.has_come(state.turn);
}

bool Counts::may_ask_more(const CountRead& state) noexcept {
  return (state.asked ? has_room_ahead() : has_room_for_lists());
}

/// Changes with the cache in use and with the state of each shard.
std::uint64_t Counts::outlook() const noexcept {
  std::uint64_t seen = membership_.cache_changes();
  const Cache* const cache = membership_.cache();
  if (cache == nullptr) return seen;
  for (std::size_t shard = 0; shard < shards_.size(); ++shard) {
    seen = seen * 31 + at_index(cache->header().shard, shard).state.load(std::memory_order_acquire);
  }
  return seen;
}

void Counts::gather(std::span<const std::string_view> pages) noexcept {
  std::vector<CountReader::Page> hashed;
  hashed.reserve(pages.size());
  for (const std::string_view page : pages) hashed.push_back({page_hash(page, membership_.ring().hash_seed()), page});
  reader_.gather(hashed);
}

std::size_t Counts::list_window(std::size_t longest) const noexcept {
  const Cache* const cache = membership_.cache();
  if (cache == nullptr) return 1;
  const CacheShape& shape = cache->shape();
  return std::clamp<std::size_t>(shape.entries / shape.cells_for(longest) / lists_in_cache, 1, most_list_window);
}

CountSource::Ahead Counts::ahead(std::string_view page, std::uint64_t now_ms) noexcept {
  if (membership_.cache() == nullptr) return Ahead::full;
  const std::uint64_t hash = page_hash(page, membership_.ring().hash_seed());
  CountReader::Sighting sighting;
  if (reader_.glance(hash, page, sighting) == Look::entry && sighting.expires_ms > now_ms) return Ahead::known;
  if (!has_room_ahead() || post(hash, page) == Published::full) return Ahead::full;
  ++asked_by_lists_;
  statistics_.add(FrontendStatistic::reads_parked);
  return Ahead::asked;
}

/// Lists take half of the room for requests: a read of one page never waits until the flusher has taken theirs.
bool Counts::has_room_for_lists() noexcept {
  LaneProducer& requests = membership_.requests();
  requests.look_at_head();
  return requests.tail() - requests.head() <= requests.capacity() / 2;
}

/// All lists together ask ahead for no more than half of what the cache has room for: with more, what one is about to
/// read makes room for what another will read, and the more lists there are the fewer get anywhere.
bool Counts::has_room_ahead() noexcept {
  const Cache* const cache = membership_.cache();
  if (cache == nullptr) return false;
  return asked_by_lists_ < cache->header().entries.load(std::memory_order_relaxed) / 2 && has_room_for_lists();
}

Look Counts::look(std::uint64_t hash, std::string_view page, CountReader::Sighting& sighting) noexcept {
  const Look seen = reader_.look(hash, page, sighting);
  if (seen != Look::retired) return seen;
  // Where none has taken its place yet, nothing is known.
  return find_cache() ? Look::again : Look::absent;
}

CountAnswer Counts::damaged() noexcept {
  statistics_.add(FrontendStatistic::reads_damaged);
  return {CountAnswer::Kind::damaged, 0, 0, {}, {}};
}

CountAnswer Counts::last_known(Look seen, const CountReader::Sighting& sighting, std::uint64_t now_ms,
                               std::string_view why) noexcept {
  if (seen == Look::entry && sighting.damaged) return damaged();
  if (seen == Look::entry && now_ms < sighting.expires_ms + stale_limit_ms_) {
    statistics_.add(FrontendStatistic::reads_stale);
    const std::int64_t past =
        now_ms > sighting.expires_ms ? static_cast<std::int64_t>((now_ms - sighting.expires_ms) / 1000) : 0;
    return {CountAnswer::Kind::stale, sighting.count, -past, "in-memory", {}};
  }
  statistics_.add(FrontendStatistic::reads_unknown);
  return {CountAnswer::Kind::unknown, 0, 0, {}, why};
}

void Counts::ask(std::uint64_t hash, std::string_view page, CountRead& state, std::uint64_t now_ms) noexcept {
  if (state.asked_at_ms != 0 && now_ms < state.asked_at_ms + ask_again_ms) return;
  // Full: the flusher has yet to take what was posted before. The next try posts it.
  if (state.is_of_list && !(list_turns_.has_come(state.turn) && has_room_for_lists())) {
    // Other lists come first: no shard was asked that could be late.
    state.wants_room = true;
    if (!state.asked) state.deadline_ms = now_ms + lookup_timeout_ms_;
    return;
  }
  if (post(hash, page) == Published::full) return;
  if (!state.asked) statistics_.add(FrontendStatistic::reads_parked);
  state.asked_at_ms = now_ms;
  state.asked = true;
}

/// A page in use is asked for before its TTL ends, so that nobody waits for its shard. Where that comes to nothing, the
/// first read past the TTL asks again.
void Counts::ask_ahead(std::uint64_t hash, std::string_view page, std::uint64_t expires_ms) noexcept {
  std::uint64_t& asked = asked_ahead_[hash % asked_ahead_.size()];
  const std::uint64_t wanted = hash ^ expires_ms;
  if (asked == wanted) return;
  asked = wanted;
  static_cast<void>(post(hash, page));
}

Published Counts::post(std::uint64_t hash, std::string_view page) noexcept {
  const Published published = membership_.requests().publish(RecordKind::request, page, 0, 0, hash);
  membership_.flusher_bell().ring();
  return published;
}

}  // namespace visitd
