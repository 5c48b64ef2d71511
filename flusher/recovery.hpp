// After any start: the spool and the lanes are the truth. Builds the view that is not shown from the spool, and shows
// it with one store, so that reads go on meanwhile; bases come over from the view shown until then, where they agree
// with the spool.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "flusher/batches.hpp"
#include "flusher/counting_memory.hpp"
#include "flusher/drain.hpp"
#include "flusher/flusher_view.hpp"
#include "flusher/lookups.hpp"
#include "flusher/pending_pages.hpp"
#include "flusher/spool.hpp"

namespace visitd {

/// The positions that the spool has of this ring; of a ring that it does not know, what the cache's `heads` say is
/// durable. Throws Error, with what to do, where the spool is older than the ring.
[[nodiscard]] std::vector<std::uint64_t> positions_of(const SpoolState& spool, std::uint64_t ring_id,
                                                      std::span<const std::uint64_t> heads);

/// A page of an entry that was shown before, and what Redis had said of it.
struct CarriedEntry {
  std::string page;
  std::uint64_t base = 0;
  std::uint64_t expires = 0;
  std::uint64_t answered = 0;  ///< the view's note of the bucket's answered batch
  std::uint32_t bucket = 0;
  CountState state = CountState::fine;
};

/// The entries of a view as they stand, also one that a dead flusher was changing. Trusts no chain.
[[nodiscard]] std::vector<CarriedEntry> carried_entries(const ViewMemory& shown, std::uint32_t buckets);

/// Fills pending pages and batches from the spool.
void recover_pending(SpoolState& spool, std::uint64_t hash_seed, std::uint32_t buckets, PendingPages& pages,
                     Batches& batches, Drain& drain);

/// Links the carried entries that agree with the spool, with what is pending. The view is not shown yet.
void recover_entries(std::span<const CarriedEntry> carried, std::uint64_t hash_seed, FlusherView& view,
                     PendingPages& pages, const Batches& batches, Lookups& lookups);

}  // namespace visitd
