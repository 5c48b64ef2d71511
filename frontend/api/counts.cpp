#include "frontend/api/counts.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "common/counter/heartbeat.hpp"
#include "common/counter/reader_memory.hpp"
#include "common/os/invariant.hpp"
#include "common/os/log.hpp"
#include "common/shm/page_id.hpp"
#include "common/shm/shared_text.hpp"

namespace visitd {

using Kind = CountReader::Kind;
using Reading = CountReader::Reading;
using Why = CountReader::Why;

namespace {

// Where the flusher has missed a beat its successor's cache is looked for: so often while a read waits for it, and once
// a second by RingMembership::check.
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

/// Why there is no count, for the client. Empty: the page's shard did not answer in time.
std::string_view describe(Why why) noexcept {
  switch (why) {
    case Why::superseded:
      return "this frontend is about to leave its ring for a newer one";
    case Why::no_cache:
      return "no flusher has counted yet";
    case Why::flusher_away:
      return "the flusher is away";
    case Why::shard_down:
      return "the page's shard is down";
    case Why::shard_held:
      return "the page's shard is held for the operator";
    default:
      return {};
  }
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
  reader_.limit({settings.cache.flusher_away_ms, settings.http.lookup_timeout_ms,
                 std::uint64_t{settings.cache.stale_limit_s} * 1000});
  too_late_ = fmt::format("the page's shard did not answer within the {} ms that http.lookup_timeout_ms allows",
                          lookup_timeout_ms_);
}

void Counts::follow_ttl() noexcept {
  if (membership_.cache() == nullptr) return;
  ask_ahead_ms_ = refresh_ahead_ms(membership_.cache()->header().ttl_ms.load(std::memory_order_acquire));
}

/// Before each look at the reader's memory: RingMembership::check may have taken another cache since.
void Counts::use_cache() {
  if (membership_.cache() == nullptr || cache_changes_ == membership_.cache_changes()) return;
  cache_changes_ = membership_.cache_changes();
  reader_.follow(memory_of(*membership_.cache()));
  follow_ttl();
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

bool Counts::flusher_is_late(std::uint64_t now_ms) const noexcept {
  const Cache* const cache = membership_.cache();
  return cache == nullptr || !Heartbeat(cache->header().heartbeat_ns.word).is_within(late_heartbeat_ms, now_ms);
}

/// Where nothing is known of a flusher that is running: all reads that wait for one look for it together.
void Counts::find_cache_soon(std::uint64_t now_ms) noexcept {
  if (!flusher_is_late(now_ms) || now_ms < looked_for_cache_ms_ + look_for_cache_ms) return;
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
  Reading reading = reader_.read(hash, page, now_ms);
  // Where none has taken its place yet, nothing is known.
  if (reading.cache_retired && find_cache()) reading = reader_.read(hash, page, now_ms);
  if (reading.tries_again != 0) statistics_.add(FrontendStatistic::snapshots_again, reading.tries_again);
  statistics_.set(FrontendStatistic::reads_scanned_directly, reader_.direct_scans());
  if (reading.kind == Kind::fresh || reading.why == Why::damaged) {
    const std::uint64_t left_ms = reading.expires_ms > now_ms ? reading.expires_ms - now_ms : 0;
    if (left_ms != 0 && left_ms <= ask_ahead_ms_) ask_ahead(hash, page, reading.expires_ms);
  }
  if (reading.kind != Kind::wait) return answer(page, reading, state, now_ms);
  if (now_ms >= state.deadline_ms) return answer(page, reader_.give_up(reading, now_ms), state, now_ms);
  if (reading.why == Why::shard_connecting) {
    // It cannot be asked now, and what was asked before was in vain. Once it is up, the flusher rings.
    state.asked_at_ms = 0;
  } else if (reading.why != Why::no_cache) {
    ask(hash, page, state, now_ms);
  }
  return park(hash, page, reading, state, now_ms);
}

bool Counts::is_known(std::string_view page, std::uint64_t now_ms) noexcept {
  use_cache();
  const Reading reading = reader_.read(page_hash(page, membership_.ring().hash_seed()), page, now_ms);
  return reading.has_entry && (reading.damaged || reading.count != 0);
}

CountAnswer Counts::answer(std::string_view page, const Reading& reading, const CountRead& state,
                           std::uint64_t now_ms) noexcept {
  if (reading.kind == Kind::fresh) {
    const auto ttl_s = static_cast<std::int64_t>((reading.expires_ms - now_ms + 999) / 1000);
    return {CountAnswer::Kind::fresh, reading.count, ttl_s, state.asked ? shard_name(page) : "in-memory", {}};
  }
  if (reading.why == Why::damaged) {
    statistics_.add(FrontendStatistic::reads_damaged);
    return {CountAnswer::Kind::damaged, 0, 0, {}, {}};
  }
  if (reading.kind == Kind::stale) {
    statistics_.add(FrontendStatistic::reads_stale);
    const std::uint64_t past_ms = now_ms > reading.expires_ms ? now_ms - reading.expires_ms : 0;
    return {CountAnswer::Kind::stale, reading.count, -static_cast<std::int64_t>(past_ms / 1000), "in-memory", {}};
  }
  statistics_.add(FrontendStatistic::reads_unknown);
  const std::string_view why = describe(reading.why);
  return {CountAnswer::Kind::unknown, 0, 0, {}, why.empty() ? std::string_view(too_late_) : why};
}

/// Shards come and go while the flusher runs: the name is the one of this moment.
std::string_view Counts::shard_name(std::string_view page) noexcept {
  const auto shard = reader_.shard_of(page);
  if (!shard) return {};
  shard_name_ = load_text(at_index(membership_.cache()->header().shard, *shard).name);
  return shard_name_;
}

/// Notes what concerns the read from now on.
CountAnswer Counts::park(std::uint64_t hash, std::string_view page, const Reading& reading, CountRead& state,
                         std::uint64_t now_ms) noexcept {
  const std::uint64_t retry_after_ms = flusher_is_late(now_ms) ? retry_without_flusher_ms
                                       : awaits_turn(state)    ? retry_before_turn_ms
                                                               : retry_ms;
  state.retry_at_ms = std::min(state.deadline_ms, now_ms + retry_after_ms);
  state.hash = hash;
  state.outlook = outlook();
  state.chain_mark = reader_.chain_mark(hash);
  // What was answered after the reading, and before the mark was taken, would wake nobody.
  const auto expiry = reader_.expiry(hash, page);
  if (expiry && *expiry != reading.expires_ms) state.retry_at_ms = now_ms;
  return {CountAnswer::Kind::parked, 0, 0, {}, {}};
}

bool Counts::concerns(const CountRead& state, std::uint64_t now_ms) noexcept {
  if (now_ms >= state.retry_at_ms) return true;
  if (awaits_turn(state)) return false;
  use_cache();
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
  const std::uint64_t shards = std::min<std::uint64_t>(value_of(cache->header().shards), max_shards);
  for (std::uint64_t shard = 0; shard < shards; ++shard) {
    seen = seen * 31 + at_index(cache->header().shard, shard).state.load(std::memory_order_acquire);
  }
  return seen;
}

void Counts::gather(std::span<const std::string_view> pages) noexcept {
  std::vector<CountReader::Page> hashed;
  hashed.reserve(pages.size());
  use_cache();
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
  use_cache();
  const std::uint64_t hash = page_hash(page, membership_.ring().hash_seed());
  if (reader_.expiry(hash, page).value_or(0) > now_ms) return Ahead::known;
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
