// What the cache says of shards and of where pages are placed.
#pragma once

#include <cstdint>
#include <string>

#include "common/shm/cache.hpp"
#include "ctl/report.hpp"

namespace visitd {

/// The shards as the flusher last showed them, in the order of its settings.
[[nodiscard]] Json shards_seen(const CacheHeader& header, std::uint64_t now_ns);

/// Where the page is placed: bucket, shard and shard_state into `report`, which has null for them.
void report_placement(const Cache& cache, const std::string& page, Json& report);

}  // namespace visitd
