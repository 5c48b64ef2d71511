// Drain, batches and lookups around one view, as the engine puts them together, and a spool in memory beneath them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "flusher/counting/batches.hpp"
#include "flusher/counting/drain.hpp"
#include "flusher/counting/flusher_view.hpp"
#include "flusher/counting/lookups.hpp"
#include "flusher/counting/open_visits.hpp"
#include "flusher/counting/pending_series.hpp"
#include "flusher/counting/recovery.hpp"
#include "tests/simulation/simulated_spool.hpp"
#include "tests/unit/flusher/flusher_memory.hpp"

namespace visitd::test {

inline constexpr Incarnation first_life{1, 0xabc};

struct DeciderSettings {
  BatchLimits batches{1000, 600, 1U << 20U, 5000};
  OpenLimits open{1U << 20U, 1U << 20U};
  std::vector<std::uint32_t> shard_of_bucket = std::vector<std::uint32_t>(8);  ///< all of them on one
  std::uint32_t shards = 1;
  CacheShape shape{2, 16, 8, 64};
  Incarnation incarnation = first_life;
};

class Deciders {
 public:
  explicit Deciders(const DeciderSettings& settings = {})
      : memory(settings.shape),
        view(shown_view(memory)),
        placement(settings.shard_of_bucket, settings.shards),
        open(settings.open, placement, pending, memory.statistics()),
        batches(settings.batches, settings.incarnation, placement, view, pending, open, memory.statistics()),
        drain(memory.memory(), view, pending,
              {settings.shape.buckets, settings.shape.page_id_limit, FlusherMemory::hash_seed,
               settings.open.memory_bytes},
              memory.statistics(), [this](std::uint32_t page) { open.series_opened(page); }),
        lookups(memory.memory(), settings.shape.buckets, settings.batches.ttl_ms, view, pending, memory.statistics(),
                [this](std::uint32_t page) {
                  if (shard_answers) asked.emplace_back(pending[page].name());
                  return shard_answers ? Lookups::Asked::yes : Lookups::Asked::no;
                }) {
    for (std::uint32_t shard = 0; shard < settings.shards; ++shard) batches.set_takes_batches(shard, true);
  }

  Deciders(const Deciders&) = delete;
  Deciders& operator=(const Deciders&) = delete;

  /// Publishes and applies.
  void visit(std::string_view page, std::uint32_t visits = 1) {
    static_cast<void>(memory.publish(0, page, visits));
    static_cast<void>(drain.run());
  }
  [[nodiscard]] std::uint32_t number_of(std::string_view page) const {
    return pending.find(FlusherMemory::hash_of(page), page);
  }
  std::uint32_t find_or_insert(std::string_view page) {
    return pending.find_or_insert(page, FlusherMemory::hash_seed, memory.shape.buckets);
  }
  /// The page has an entry from now on.
  void give_entry(const std::string& page, std::uint64_t base, std::uint64_t now_ms = 0) {
    lookups.counted(find_or_insert(page), base, 0, now_ms);
  }

  Transaction capture(bool seal, std::uint64_t unix_now = 1000) {
    return batches.capture(seal, {FlusherMemory::ring_id, 1, false, drain.positions()}, unix_now);
  }
  /// Captures, makes it durable, and says so. Returns the transaction.
  Transaction commit(bool seal, std::uint64_t unix_now = 1000) {
    Transaction transaction = capture(seal, unix_now);
    finish(transaction);
    return transaction;
  }
  /// Makes a captured transaction durable, and says so.
  void finish(const Transaction& transaction) {
    const SpoolResult result = spool.apply(transaction);
    const auto recalled = open.committed(result, [this](std::string_view page) { return find_or_insert(page); });
    ready = batches.committed();
    for (const std::uint32_t bucket : recalled) batches.recalled(bucket);
    for (std::uint32_t lane = 0; lane < memory.shape.lanes; ++lane) {
      memory.cache().head[lane].word.store(transaction.ring->positions[lane]);
    }
  }
  /// The shard says that these are the counts after the bucket's batch.
  void answer(std::uint32_t bucket, const std::vector<std::uint64_t>& totals, std::uint64_t now_ms = 0,
              std::uint64_t unix_now = 1000) {
    batches.answered(bucket, totals, 0, now_ms, unix_now);
  }
  /// The visits that a batch holds are the totals: the shard held nothing before.
  void answer_as_first(std::uint32_t bucket, std::uint64_t unix_now = 1000) {
    std::vector<std::uint64_t> totals;
    for (const Effect& effect : batches.unanswered(bucket)->effects) totals.push_back(effect.operand);
    answer(bucket, totals, 0, unix_now);
  }
  /// One page's visits become a batch that is answered and kept.
  void count_one(const std::string& page, std::uint64_t unix_now = 1000) {
    visit(page);
    static_cast<void>(batches.begin_flush());
    static_cast<void>(commit(true, unix_now));
    answer_as_first(memory.bucket_of(page), unix_now);
    static_cast<void>(commit(false, unix_now));
  }

  FlusherMemory memory;
  FlusherView view;
  PendingSeries pending;
  Placement placement;
  OpenVisits open;
  Batches batches;
  Drain drain;
  bool shard_answers = true;
  std::vector<std::string> asked;  ///< pages that were asked of a shard
  Lookups lookups;
  SimulatedSpool spool{"simulated"};
  std::vector<std::uint32_t> ready;  ///< buckets that the last commit named

 private:
  static FlusherView shown_view(FlusherMemory& memory) {
    FlusherView view(memory.view(1));
    view.clear({});
    memory.cache().active.word.store(1);
    return view;
  }
};

}  // namespace visitd::test
