#include "flusher/cache_header.hpp"

#include <unistd.h>

#include <cstdint>

#include "common/counter/heartbeat.hpp"
#include "common/os/clock.hpp"
#include "common/os/invariant.hpp"
#include "common/shm/shared_text.hpp"

namespace visitd {

static void tell_shares(Cache& cache, const Placement& placement) {
  for (std::uint32_t shard = 0; shard < placement.shards(); ++shard) {
    at_index(cache.header().shard, shard).buckets.store(placement.buckets_on(shard).size(), std::memory_order_release);
  }
}

void name_shards(CacheHeader& header, const Settings& settings, std::size_t known) {
  const std::vector<ShardSettings>& shards = settings.redis.shards;
  for (std::size_t come = known; come < shards.size(); ++come) {
    store_text(at_index(header.shard, come).name, shards[come].name);
    set_shard_state(at_index(header.shard, come), ShardState::connecting, "");
  }
  header.shards.store(shards.size(), std::memory_order_release);
}

void begin_cache_header(CacheHeader& header, const Settings& settings) {
  for (Word& statistic : header.statistics) statistic.store(0, std::memory_order_relaxed);
  name_shards(header, settings, 0);
  header.ttl_ms.store(settings.cache.ttl_ms, std::memory_order_release);
  header.flusher.store(static_cast<std::uint64_t>(getpid()), std::memory_order_release);
  header.sleeping.word.store(0, std::memory_order_seq_cst);
  Heartbeat::beat(header.heartbeat_ns.word, monotonic_ns());
}

void tell_placement(Cache& cache, const Placement& placement) {
  for (std::uint32_t bucket = 0; bucket < placement.buckets(); ++bucket) {
    cache.shard_of_bucket(bucket).store(placement.shard_of(bucket), std::memory_order_release);
  }
  tell_shares(cache, placement);
}

void tell_moved(Cache& cache, const Placement& placement, std::uint32_t bucket, std::uint32_t shard) {
  cache.shard_of_bucket(bucket).store(shard, std::memory_order_release);
  tell_shares(cache, placement);
}

}  // namespace visitd
