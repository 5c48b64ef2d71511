// The rings of an instance, from the first to the one in use: found, made, replaced by a newer one, and removed once
// all that they held is durable. Knows them by the runtime directory's notes and by what the segments themselves say.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "common/os/runtime_directory.hpp"
#include "common/shm/cache.hpp"
#include "common/shm/ring.hpp"

namespace visitd {

/// What a frontend that wants another ring does with the one in use.
enum class Replacement : std::uint8_t {
  leave,  ///< for ever: nothing is in it, or a flusher takes what is
  wait,   ///< its flusher may just be starting again
  keep,   ///< it holds visits that nobody would take: it stays in use
};
[[nodiscard]] constexpr Replacement decide_replacement(bool is_drained, bool flusher_runs,
                                                       bool waited_enough) noexcept {
  if (is_drained || flusher_runs) return Replacement::leave;
  return waited_enough ? Replacement::keep : Replacement::wait;
}

class RingRegistry {
 public:
  /// The directory outlives it.
  explicit RingRegistry(const RuntimeDirectory& directory) noexcept : directory_(directory) {}

  /// The ring that the runtime directory names last, attached to be written; nullopt: it names none.
  [[nodiscard]] std::optional<std::variant<Ring, AttachFault>> newest() const;
  /// Whether nobody new comes to this ring: it was removed, or another one is the newest.
  [[nodiscard]] bool is_former(const Ring& ring) const;

  // For who holds the ring's lock.
  /// Makes a ring and names it. All that came before are superseded, also those that the directory does not name.
  [[nodiscard]] Ring make(const RingShape& shape) const;
  /// Marks the ring removed, and waits until its owners have left it and it is drained. False: it holds visits that no
  /// flusher takes, and stays in use. Throws Error where it is not left within `patience`.
  [[nodiscard]] bool replace(Ring& ring, const RingShape& wanted, std::chrono::milliseconds patience) const;

  /// A flusher serves this ring, so it has drained all that came before: they go.
  void remove_former(const Ring& ring) const;

 private:
  class FlusherWatch;
  [[nodiscard]] std::string why_not_left(const Ring& ring, const CacheHeader* cache,
                                         std::chrono::milliseconds patience) const;

  const RuntimeDirectory& directory_;
};

/// What the owners of lane n had seen freed, where that can be true; 0: nothing. To be read before the lane's records.
[[nodiscard]] std::uint64_t freed_of(const Ring& ring, std::uint32_t n) noexcept;

/// Every lane is in the spool up to its tail, as the ring's cache says. nullptr: no cache says anything.
[[nodiscard]] bool is_drained(const Ring& ring, const CacheHeader* cache) noexcept;

/// Bytes of a ring beyond what any of these caches, as far as they are of this ring, or its lanes' owners say was made
/// durable.
[[nodiscard]] std::uint64_t undurable_bytes(const Ring& ring, std::span<const CacheFront> caches) noexcept;

/// Whether this cache, of this version (Cache) or of any (CacheFront), is the ring's, and in use.
template <typename AnyCache>
[[nodiscard]] bool serves(const AnyCache& cache, const Ring& ring) noexcept {
  return cache.ring_id() == ring.id() && cache.header().retired.word.load(std::memory_order_acquire) == 0;
}

}  // namespace visitd
