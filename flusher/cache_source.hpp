// The cache that the flusher writes: the one in use where it fits, or a new one that takes its place without a moment's
// gap.
#pragma once

#include <optional>
#include <vector>

#include "common/cache.hpp"
#include "common/runtime_directory.hpp"
#include "flusher/recovery.hpp"

namespace visitd {

class CacheSource {
 public:
  /// Attaches the cache in use, or makes one of `shape` for the ring. Reads which entries were shown until now.
  CacheSource(const RuntimeDirectory& directory, const CacheShape& shape, const Ring& ring);

  CacheSource(const CacheSource&) = delete;
  CacheSource& operator=(const CacheSource&) = delete;
  /// A new cache that never came into use goes with it: nobody would find it.
  ~CacheSource();

  [[nodiscard]] Cache& cache() noexcept { return *cache_; }
  [[nodiscard]] std::vector<CarriedEntry> take_carried() noexcept { return std::move(carried_); }
  /// Its first view is shown: from now on it is the one in use, and the former one is retired. Before any space is
  /// freed.
  void use();

 private:
  const RuntimeDirectory& directory_;
  std::optional<Cache> former_;  ///< only where another one takes its place
  std::optional<Cache> cache_;
  bool unnoted_ = false;  ///< made, and not yet named in the runtime directory
  std::vector<CarriedEntry> carried_;
};

}  // namespace visitd
