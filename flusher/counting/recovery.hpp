// After any start: the spool and the lanes are the truth. Builds the view that is not shown from the spool, and shows
// it with one store, so that reads go on meanwhile; bases come over from the view shown until then, where they agree
// with the spool.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "flusher/counting/batches.hpp"
#include "flusher/counting/counting_memory.hpp"
#include "flusher/counting/flusher_view.hpp"
#include "flusher/counting/lookups.hpp"
#include "flusher/counting/open_visits.hpp"
#include "flusher/counting/pending_series.hpp"
#include "flusher/counting/spool_state.hpp"

namespace visitd {

/// Where a lane's counting goes on, and who said so.
struct LaneStart {
  enum class By {
    spool,         ///< it knows the ring
    cache,         ///< the spool does not know the ring; everything up to there was durable in a former one
    ring,          ///< neither knows as much as the lane's owner, who had seen up to there freed
    nobody,        ///< at the lane's beginning
    ring_blindly,  ///< the spool knows the ring, but less of it than the lane's owner: it is an old copy
  };
  std::uint64_t position = 0;
  By by = By::nobody;
  std::uint64_t spool = 0;  ///< ring_blindly: the spool's position
};

/// The spool's positions in a ring that it knows; in one that it does not know, the largest that a cache (`heads`) or
/// the lanes' owners (`freed`) saw durable: what was durable once is never counted again. A cache is the flusher's
/// word: throws Error, with what to do, where it says that the spool is older than the ring. The ring is the frontends'
/// word, who could say anything: it moves their own lanes and stops nobody.
[[nodiscard]] std::vector<LaneStart> lane_starts(const SpoolState& spool, std::uint64_t ring_id,
                                                 std::span<const std::uint64_t> heads,
                                                 std::span<const std::uint64_t> freed);
/// The positions alone, and with nothing that the ring says.
[[nodiscard]] std::vector<std::uint64_t> positions_of(const SpoolState& spool, std::uint64_t ring_id,
                                                      std::span<const std::uint64_t> heads,
                                                      std::span<const std::uint64_t> freed = {});

/// A page of an entry that was shown before, and what Redis had said of it.
struct CarriedEntry {
  std::string page;
  std::uint64_t base = 0;
  std::uint64_t expires = 0;
  std::uint64_t answered = 0;  ///< the view's note of the bucket's answered batch
  std::uint32_t bucket = 0;
  CountState state = CountState::fine;
  std::uint64_t fix = 0;
};

/// The entries of a view as they stand, also one that a dead flusher was changing. Trusts no chain.
[[nodiscard]] std::vector<CarriedEntry> carried_entries(const ViewMemory& shown, std::uint32_t buckets);

/// What a cache showed until now, and of which ring: of this one, or of the one before it.
struct ShownUntilNow {
  std::uint64_t ring_id = 0;
  std::vector<std::uint64_t> heads;  ///< of that ring's lanes: up to there all was in the spool
  std::vector<CarriedEntry> entries;
};

/// The entries, where the spool holds that ring at least up to these heads. Else none: what it lacks may be in the
/// shards by now, though its buckets seem to agree.
[[nodiscard]] std::vector<CarriedEntry> entries_known_to(const SpoolState& spool, ShownUntilNow shown);

/// Fills pending series, open visits and batches from the spool, and takes what it needs out of it.
void recover_pending(SpoolState& spool, std::uint64_t hash_seed, std::uint32_t buckets, PendingSeries& pending,
                     OpenVisits& open, Batches& batches);

/// Links the carried entries that agree with the spool, with what is pending. The view is not shown yet.
void recover_entries(const SpoolState& spool, std::span<const CarriedEntry> carried, std::uint64_t hash_seed,
                     FlusherView& view, PendingSeries& pending, const OpenVisits& open, const Batches& batches,
                     Lookups& lookups);

}  // namespace visitd
