// The shared memory that the deciders work on: a ring's lanes and the cache, wherever they lie (segments, or a test's
// memory).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "common/shm/cache_layout.hpp"
#include "common/shm/lane.hpp"
#include "common/shm/view.hpp"

namespace visitd {

struct LaneMemory {
  const Word* tail = nullptr;
  const Word* requests_tail = nullptr;
  std::span<const Word> records;
  std::span<const Word> requests;
  std::uint64_t freed = 0;  ///< what the lane's header said at the start, where it can be true; 0: nothing
};

struct CountingMemory {
  std::uint64_t ring_id = 0;
  int ring_segment = -1;
  std::uint64_t hash_seed = 0;
  std::vector<LaneMemory> lanes;
  CacheHeader* cache = nullptr;
  std::array<ViewMemory, 2> views;
};

}  // namespace visitd
