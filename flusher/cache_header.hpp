// What the cache's header tells frontends and visitctl of its flusher, its shards and its buckets.
#pragma once

#include <cstdint>

#include "common/config/settings.hpp"
#include "common/shm/cache.hpp"
#include "flusher/counting/placement.hpp"

namespace visitd {

/// A life of this process begins: every statistic is 0, and no shard is up.
void begin_cache_header(CacheHeader& header, const Settings& settings);
/// So many of the shards are as they were; those after them come, or go.
void name_shards(CacheHeader& header, const Settings& settings, std::size_t known);
void tell_placement(Cache& cache, const Placement& placement);
/// The bucket is on another shard now.
void tell_moved(Cache& cache, const Placement& placement, std::uint32_t bucket, std::uint32_t shard);

}  // namespace visitd
