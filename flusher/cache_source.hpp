// The cache that the flusher writes: the one in use where it fits, or a new one that takes its place without a moment's
// gap.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "common/os/runtime_directory.hpp"
#include "common/shm/cache.hpp"
#include "flusher/counting/recovery.hpp"

namespace visitd {

/// Says in the log from where the lanes are counted on where the spool does not say it. Throws as lane_starts does.
void say_where_lanes_start(const SpoolState& spool, const Ring& ring, const CacheHeader& cache);

class CacheSource {
 public:
  /// Attaches the cache in use, or makes one of `shape` for the ring. Reads which entries were shown until now.
  CacheSource(const RuntimeDirectory& directory, const CacheShape& shape, const Ring& ring);

  CacheSource(const CacheSource&) = delete;
  CacheSource& operator=(const CacheSource&) = delete;
  /// A new cache that never came into use goes with it: nobody would find it.
  ~CacheSource();

  [[nodiscard]] Cache& cache() noexcept { return *cache_; }
  [[nodiscard]] ShownUntilNow take_shown() noexcept { return std::move(shown_); }
  /// Frontends of another version follow no cache of this one: tells those that leave the ring, in the cache that they
  /// know, that their lanes are durable up to there.
  void tell_former_version(std::span<const std::uint64_t> heads) noexcept;
  /// Its first view is shown: from now on it is the one in use, and the former one is retired. Before any space is
  /// freed.
  void bring_into_use();

 private:
  /// Takes over what another cache of this ring knows more of.
  void continue_from(const CacheHeader& former) noexcept;

  const RuntimeDirectory& directory_;
  std::optional<Cache> former_;              ///< only where another one takes its place
  std::optional<CacheFront> other_version_;  ///< the same, where its layout is another version's
  std::optional<Cache> cache_;
  bool unnoted_ = false;  ///< made, and not yet named in the runtime directory
  ShownUntilNow shown_;
};

}  // namespace visitd
