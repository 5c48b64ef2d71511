// Counters that live in shared memory: one writer each, read by anybody. A name, a unit and a sentence for each stand
// in one table.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "common/shm/shared_word.hpp"

namespace visitd {

inline constexpr std::size_t frontend_statistics_words = 104;
inline constexpr std::size_t flusher_statistics_words = 64;

enum class FrontendStatistic : std::uint8_t {
  requests,
  visits,
  visits_refused_full,
  visits_refused_closed,
  reads,
  reads_parked,
  reads_stale,
  reads_unknown,
  reads_scanned_directly,
  snapshots_again,
  requests_refused,
  connections_open,
  connections_accepted,
  connections_evicted,
  connections_timed_out,
  connections_over_address_limit,
  reads_damaged,
  connections_evicted_sending,
  visits_ignored,
  count
};
/// From this word on, how often each kind of refusal was answered; refusal_kinds.hpp numbers and names them.
inline constexpr std::size_t frontend_refusals_first_word = 40;

enum class FlusherStatistic : std::uint8_t {
  visits_applied,
  records_damaged,
  lookups,
  commits,
  commit_failures,
  seals,
  batches_sent,
  batches_answered,
  batches_duplicate,
  batches_sent_again,
  pages_set_aside,
  pending_pages,
  pending_visits,
  entries,
  entries_evicted,
  unanswered_batches,
  kept_batches,
  kept_bytes,
  last_commit_ns,
  last_flush_ns,
  flushes,
  pending_bytes,
  spilled_visits,
  spilled_bytes,
  journal_bytes,
  pages_uncountable,
  kept_overdue_batches,
  kept_dropped_batches,
  count
};

static_assert(static_cast<std::size_t>(FrontendStatistic::count) <= frontend_refusals_first_word);
static_assert(static_cast<std::size_t>(FlusherStatistic::count) <= flusher_statistics_words);

/// A counter grows until its process ends; a gauge goes up and down; a moment is a time, in ns of the monotonic clock.
enum class StatisticKind : std::uint8_t { counter, gauge, moment };

struct StatisticInfo {
  std::string_view name;
  std::string_view unit;
  std::string_view help;
  StatisticKind kind = StatisticKind::counter;
};

inline constexpr StatisticInfo frontend_statistics[] = {
    {"requests", "requests", "HTTP requests read"},
    {"visits", "visits", "visits recorded"},
    {"visits_refused_full", "visits", "visits refused because the lane was full"},
    {"visits_refused_closed", "visits", "visits refused because the ring was being left"},
    {"reads", "reads", "counts read"},
    {"reads_parked", "reads", "reads that waited for the flusher to ask Redis"},
    {"reads_stale", "reads", "reads answered with a last known count"},
    {"reads_unknown", "reads", "reads answered 503 because the count was not known"},
    {"reads_scanned_directly", "reads", "reads whose backlog did not fit its index"},
    {"snapshots_again", "tries", "snapshots of an entry that had to be taken again"},
    {"requests_refused", "requests", "requests refused, for whatever reason"},
    {"connections_open", "connections", "connections open now", StatisticKind::gauge},
    {"connections_accepted", "connections", "connections accepted"},
    {"connections_evicted", "connections", "connections closed to make room for others"},
    {"connections_timed_out", "connections", "connections that took too long over a request or its answer"},
    {"connections_over_address_limit", "connections", "connections refused because their address had too many"},
    {"reads_damaged", "reads", "reads answered 503 because the page cannot be counted in Redis"},
    {"connections_evicted_sending", "connections",
     "connections closed because answers that clients did not take filled their room"},
    {"visits_ignored", "visits", "visits answered with success and not counted, as the settings say"},
};
static_assert(std::size(frontend_statistics) == static_cast<std::size_t>(FrontendStatistic::count));

inline constexpr StatisticInfo flusher_statistics[] = {
    {"visits_applied", "visits", "visits counted from the lanes since this flusher's start"},
    {"records_damaged", "records", "records that were malformed; the rest of their lane up to its tail was skipped"},
    {"lookups", "reads", "counts asked of Redis"},
    {"commits", "commits", "transactions made durable in the spool"},
    {"commit_failures", "commits", "transactions that found the spool's disk full"},
    {"seals", "batches", "batches sealed"},
    {"batches_sent", "batches", "batches sent"},
    {"batches_answered", "batches", "batches answered"},
    {"batches_duplicate", "batches", "batches that the shard had already applied"},
    {"batches_sent_again", "batches", "kept batches sent again to a shard that had lost them"},
    {"pages_set_aside", "pages", "pages whose visits a shard cannot take"},
    {"pending_pages", "pages", "pages in memory with visits that Redis has not acknowledged", StatisticKind::gauge},
    {"pending_visits", "visits", "visits applied and not yet acknowledged by Redis", StatisticKind::gauge},
    {"entries", "entries", "entries in the view", StatisticKind::gauge},
    {"entries_evicted", "entries", "entries evicted from the view"},
    {"unanswered_batches", "batches", "sealed batches without an answer", StatisticKind::gauge},
    {"kept_batches", "batches", "answered batches kept for a shard that loses its tail", StatisticKind::gauge},
    {"kept_bytes", "bytes", "bytes of the kept batches", StatisticKind::gauge},
    {"last_commit_ns", "ns", "when the last commit was; 0: never", StatisticKind::moment},
    {"last_flush_ns", "ns", "when a flush was last answered in full; 0: never", StatisticKind::moment},
    {"flushes", "flushes", "flushes answered in full"},
    {"pending_bytes", "bytes", "memory of the pending pages", StatisticKind::gauge},
    {"spilled_visits", "visits", "pending visits that wait in the spool alone for a shard", StatisticKind::gauge},
    {"spilled_bytes", "bytes", "room in the spool of what waits there alone for a shard", StatisticKind::gauge},
    {"journal_bytes", "bytes", "room in the spool of visits that are not folded by bucket", StatisticKind::gauge},
    {"pages_uncountable", "pages", "pages known whose field in Redis holds no count, or has no room for their visits",
     StatisticKind::gauge},
    {"kept_overdue_batches", "batches",
     "kept batches older than flusher.keep_batches_s that stay because their shard's replicas do not have them",
     StatisticKind::gauge},
    {"kept_dropped_batches", "batches",
     "kept batches dropped before their shard's replicas had them, because flusher.keep_batches_bytes was full"},
};
static_assert(std::size(flusher_statistics) == static_cast<std::size_t>(FlusherStatistic::count));

/// Written by one thread; a plain add without a read-modify-write.
template <typename Statistic>
class Statistics {
 public:
  explicit Statistics(Word* words) noexcept : words_(words) {}
  void add(Statistic which, std::uint64_t amount = 1) noexcept { set(which, get(which) + amount); }
  void set(Statistic which, std::uint64_t value) noexcept { set(static_cast<std::size_t>(which), value); }
  /// By number of its word, for what has no name here.
  void set(std::size_t word, std::uint64_t value) noexcept { words_[word].store(value, std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t get(Statistic which) const noexcept {
    return words_[static_cast<std::size_t>(which)].load(std::memory_order_relaxed);
  }

 private:
  Word* words_;
};

using FrontendStatistics = Statistics<FrontendStatistic>;
using FlusherStatistics = Statistics<FlusherStatistic>;

}  // namespace visitd
