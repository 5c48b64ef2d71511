#include "flusher/counting/askable_shards.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "common/shm/cache.hpp"

namespace visitd {

namespace {

// The server does nothing else while it answers what came at once: these take it about a millisecond.
constexpr std::size_t asked_at_once = 16;
// A burst that goes on reads no more: a quarter of a second of the server's time. The sums of 8,192 buckets, and the
// best 1,000 pages, are one burst of one shard.
constexpr std::size_t most_pages_of_burst = 400'000;
// A shard that is away only for a moment, as after a failover, is waited for.
constexpr std::uint64_t away_patience_ms = 2000;
// A server that is far away, rather than busy, is not waited for longer.
constexpr std::uint64_t longest_rest_us = 2'000'000;
// So long a time in which nothing was read may be made up for. All 8,192 buckets of two shards, with few pages, take
// 1.3 s at the usual rate.
constexpr std::uint64_t longest_credit_us = 2'000'000;

}  // namespace

std::string AskableShards::why_unknown(std::uint32_t number) {
  Shard& shard = shards_[number];
  const ShardState state = port_.state(number);
  const bool is_away = state != ShardState::up && state != ShardState::refuses_writes;
  // What was seen of it when nobody asked for pages says nothing.
  const bool is_news = !shard.away_since_ms || now_ms_ > shard.looked_ms + away_patience_ms;
  if (is_away && is_news) shard.away_since_ms = now_ms_;
  if (!is_away) shard.away_since_ms.reset();
  shard.looked_ms = now_ms_;
  if (!is_away || (state != ShardState::held && now_ms_ < *shard.away_since_ms + away_patience_ms)) return {};
  return fmt::format("shard {} is {}", port_.name(number), name_of(state));
}

bool AskableShards::may_ask(std::uint32_t number) const {
  const Shard& shard = shards_[number];
  return shard.asked < asked_at_once && port_.now_us() >= shard.rests_until_us;
}

void AskableShards::asked(std::uint32_t number) {
  Shard& shard = shards_[number];
  if (!shard.in_burst) shard.begun_us = port_.now_us();
  if (shard.paid_until_us == 0) shard.paid_until_us = shard.begun_us;
  shard.in_burst = true;
  ++shard.asking;
  ++shard.asked;
}

void AskableShards::not_sent(std::uint32_t number) noexcept {
  Shard& shard = shards_[number];
  --shard.asking;
  --shard.asked;
  if (shard.asked == 0 && shard.pages == 0) shard.in_burst = false;
}

void AskableShards::answered(std::uint32_t number, std::size_t pages, Burst burst) {
  Shard& shard = shards_[number];
  --shard.asking;
  shard.pages += pages;
  if (burst == Burst::goes_on && shard.pages < most_pages_of_burst) {
    --shard.asked;
    return;
  }
  if (shard.asking == 0) rest(shard);
}

void AskableShards::end(std::uint32_t number) {
  Shard& shard = shards_[number];
  if (shard.in_burst && shard.asking == 0) rest(shard);
}

void AskableShards::rest(Shard& shard) {
  const std::uint64_t now_us = port_.now_us();
  const std::uint64_t took_us = now_us - shard.begun_us;
  const std::uint64_t oldest_us = shard.begun_us - std::min(shard.begun_us, longest_credit_us);
  shard.paid_until_us = std::max(shard.paid_until_us, oldest_us) + shard.pages * 1'000'000 / pages_per_s_;
  // A server that takes long is busy, whatever the pages.
  shard.rests_until_us =
      std::min(std::max(shard.paid_until_us, shard.begun_us + 2 * took_us), now_us + longest_rest_us);
  shard.in_burst = false;
  shard.asked = 0;
  shard.pages = 0;
}

}  // namespace visitd
