// What a CountReader reads of segments that are attached.
#pragma once

#include <vector>

#include "common/counter/count_reader.hpp"
#include "common/shm/cache.hpp"
#include "common/shm/ring.hpp"

namespace visitd {

[[nodiscard]] inline std::vector<Backlog::Lane> lanes_of(const Ring& ring) {
  std::vector<Backlog::Lane> lanes;
  lanes.reserve(ring.shape().lanes);
  for (std::uint32_t n = 0; n < ring.shape().lanes; ++n) {
    lanes.push_back({&ring.lane(n).tail.word, LaneRecords(std::span<const Word>(ring.records(n)))});
  }
  return lanes;
}

/// Of a cache that stays attached as long as the reader follows it.
[[nodiscard]] inline CountReader::CacheMemory memory_of(const Cache& cache) noexcept {
  const CacheHeader& header = cache.header();
  return {&header, header.head, cache.views(), {&cache.shard_of_bucket(0), cache.shape().buckets}};
}

}  // namespace visitd
