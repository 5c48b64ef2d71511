// Visits that are counted and not yet sealed, and where they are durable: in the journal, folded into a row of their
// bucket, or spilled. Decides; knows no clock, loop or file.
//
// The journal is appended to at every commit. Beyond a size, buckets are folded, those first whose visits stand longest
// in it: a fold writes all that is open of a bucket into one row and notes the journal's number, up to which the
// journal says nothing new of that bucket. The journal's beginning goes when every bucket is folded past it. So the
// spool grows with the number of series, not with time, and no transaction holds everything.
//
// While a shard takes no batches, what is open of its buckets would fill the memory that all shards share. Beyond half
// of it, that is spilled: appended to the spool and forgotten here, but for pages with an entry in the view, which stay
// exact. A bucket is recalled before it is sealed, and before one of its pages is read from its shard.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/shm/statistics.hpp"
#include "flusher/counting/pending_series.hpp"
#include "flusher/counting/placement.hpp"
#include "flusher/counting/spool_state.hpp"

namespace visitd {

struct OpenLimits {
  std::uint64_t memory_bytes = 0;   ///< for pages with open visits
  std::uint64_t journal_bytes = 0;  ///< from here on, or from the size of all folded rows on, buckets are folded
};

class OpenVisits {
 public:
  OpenVisits(const OpenLimits& limits, const Placement& placement, PendingSeries& pending,
             FlusherStatistics statistics);

  void use(const OpenLimits& limits) noexcept { limits_ = limits; }

  // -- recovery, in this order

  /// The number of a series in the table of what is pending.
  using FindSeries = std::function<std::uint32_t(std::string_view series)>;
  /// Takes rows and journal. Throws Error where a blob is damaged.
  void recover(const SpoolState& spool, const FindSeries& find_or_insert);
  /// What only the spool holds of these series: the entries of their pages count it too. Those of buckets that are in
  /// memory are left out.
  [[nodiscard]] std::unordered_map<std::uint32_t, std::uint64_t> spilled_of(const SpoolState& spool,
                                                                            const std::vector<std::uint32_t>& wanted,
                                                                            const FindSeries& find) const;

  // -- series

  /// The series got its first open visit since it was sealed or spilled.
  void series_opened(std::uint32_t series);
  /// Whether the bucket has open visits, in memory or spilled.
  [[nodiscard]] bool any(std::uint32_t bucket) const noexcept {
    return !buckets_[bucket].open.empty() || !is_in_memory(bucket);
  }
  /// All of the bucket's open visits are in memory: it can be sealed, and its pages read.
  [[nodiscard]] bool is_in_memory(std::uint32_t bucket) const noexcept {
    return buckets_[bucket].place == Place::memory || buckets_[bucket].place == Place::recalled;
  }

  /// Its series with open visits that are in memory.
  [[nodiscard]] const std::vector<std::uint32_t>& open_series(std::uint32_t bucket) const noexcept {
    return buckets_[bucket].open;
  }

  // -- spill and recall

  /// Whether a shard takes batches now. The open visits of one that does not may be spilled.
  void set_takes_batches(std::uint32_t shard, bool takes) noexcept { takes_batches_[shard] = takes; }
  /// So many shards: the last ones come, or go.
  void set_shards(std::size_t count);
  /// The bucket leaves its shard: before the placement says so; and is on another: afterwards.
  void leave_shard(std::uint32_t bucket) noexcept {
    const std::uint32_t shard = placement_.shard_of(bucket);
    open_series_[shard] -= buckets_[bucket].open.size();
    if (is_recalled(bucket)) --recalled_[shard];
  }
  void enter_shard(std::uint32_t bucket) noexcept {
    const std::uint32_t shard = placement_.shard_of(bucket);
    open_series_[shard] += buckets_[bucket].open.size();
    if (is_recalled(bucket)) ++recalled_[shard];
  }
  /// Asks for a spilled bucket. It comes with one of the next transactions, as far as there is memory for it.
  void want(std::uint32_t bucket);
  /// The same for somebody who waits for the count of one of its pages: before all that is to be sealed.
  void want_for_read(std::uint32_t bucket);
  /// Whether a transaction would spill, fold, or bring a bucket that is wanted.
  [[nodiscard]] bool wants_transaction() const noexcept;

  // -- transactions

  /// Takes up to `most` series of the bucket, to be sealed: the transaction being captured folds the rest.
  [[nodiscard]] std::vector<std::uint32_t> take(std::uint32_t bucket, std::size_t most);
  /// Adds to the transaction what is not durable, and what is folded, spilled and recalled by it.
  void capture(Transaction& transaction);
  /// The captured transaction is durable. Returns the buckets that were recalled.
  std::vector<std::uint32_t> committed(const SpoolResult& result, const FindSeries& find_or_insert);

 private:
  /// Where a bucket's open visits are. `spilled`: not all in memory. `recalling`: asked for by the captured
  /// transaction. `recalled`: all in memory, and the spool still holds what was spilled, until the bucket is folded.
  enum class Place : std::uint8_t { memory, spilled, recalling, recalled };
  struct Bucket {
    std::vector<std::uint32_t> open;    ///< series with open visits
    std::uint64_t unfolded_since = 0;   ///< the first row of the journal with visits that its own row lacks; 0: none
    std::uint64_t row_bytes = 0;        ///< of its folded row
    std::uint64_t spilled_bytes = 0;    ///< in all its spilled rows
    std::uint64_t compacted_bytes = 0;  ///< the same when they were last made one
    Place place = Place::memory;
    bool wanted = false;
    bool read = false;  ///< wanted for a read
    // by the transaction being captured
    bool folding = false;
    bool spilling = false;
  };
  struct Spilling {
    std::uint32_t bucket = 0;
    std::vector<std::pair<std::uint32_t, std::uint64_t>> series;  ///< number, visits
  };

  /// Or being so.
  [[nodiscard]] bool is_recalled(std::uint32_t bucket) const noexcept {
    return buckets_[bucket].place == Place::recalling || buckets_[bucket].place == Place::recalled;
  }
  void fold(std::uint32_t bucket);
  void choose_folds();
  [[nodiscard]] bool is_crowded() const noexcept;
  [[nodiscard]] bool may_seal_recalled() const noexcept;
  [[nodiscard]] bool may_recall(std::uint32_t bucket, std::uint64_t recalling_bytes) const noexcept;
  [[nodiscard]] std::uint64_t journal_limit() const noexcept;
  void choose_spills(Transaction& transaction);
  void spill(std::uint32_t bucket, Transaction& transaction);
  void choose_recalls(Transaction& transaction);
  /// The spool forgets what is spilled of a bucket that was recalled.
  void unspill(std::uint32_t bucket, Transaction& transaction);
  void write_row(std::uint32_t bucket, Transaction& transaction);
  void truncate_journal(Transaction& transaction);
  void note_spilled(std::uint32_t bucket, std::string_view blob, bool added) noexcept;
  void update_statistics() noexcept;

  OpenLimits limits_;
  const Placement& placement_;
  PendingSeries& pending_;
  FlusherStatistics statistics_;
  std::vector<Bucket> buckets_;
  std::vector<bool> takes_batches_;         ///< by shard
  std::vector<std::uint64_t> open_series_;  ///< by shard: in memory
  std::vector<std::size_t> recalled_;       ///< by shard: buckets recalled, or being so
  std::deque<std::uint32_t> wanted_;        ///< buckets to recall, the first one first
  std::size_t wanted_for_reads_ = 0;        ///< so many of them, at the front, are wanted for reads
  std::uint32_t next_spill_ = 0;            ///< bucket to look at next

  std::uint64_t journal_ = 0;  ///< number of the newest transaction
  struct JournalRow {
    std::uint64_t number;
    std::uint64_t bytes;
  };
  std::deque<JournalRow> journal_rows_;
  std::uint64_t journal_bytes_ = 0;
  std::uint64_t rows_bytes_ = 0;
  std::deque<std::pair<std::uint64_t, std::uint32_t>> unfolded_;  ///< first row and bucket, in order; some are folded
  std::uint64_t spilled_bytes_ = 0;
  std::uint64_t spilled_visits_ = 0;

  // of the captured transaction
  std::vector<std::uint32_t> folding_;
  std::vector<Spilling> spilling_;
};

}  // namespace visitd
