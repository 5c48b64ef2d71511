// What the cache's header tells frontends and visitctl of its flusher, its shards and its buckets.
#pragma once

#include <cstdint>
#include <span>

#include "common/config/settings.hpp"
#include "common/shm/cache.hpp"

namespace visitd {

/// A life of this process begins: every statistic is 0, and no shard is up.
void begin_cache_header(CacheHeader& header, const Settings& settings);
/// `placement`: the shard of each bucket.
void tell_placement(Cache& cache, std::span<const std::uint32_t> placement, std::size_t shards);

}  // namespace visitd
