// The sum of the counts of all pages, and the pages with the largest ones, without reading all pages: each bucket's
// hash keeps its sum and its largest count (flusher/redis/sum.lua), and what is pending here is added. Decides; knows
// no clock, loop or socket.
//
// One round at a time asks all buckets, for all who wait when it begins. Who comes later waits for the next one: a
// bucket may have answered before their visits were recorded. A count is taken when its bucket answers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/os/wide_sum.hpp"
#include "flusher/counting/askable_shards.hpp"
#include "flusher/counting/pending_parts.hpp"
#include "flusher/counting/top_pages.hpp"

namespace visitd {

class BucketSums {
 public:
  BucketSums(PendingParts parts, AskableShards& shards, ScanPort& port)
      : parts_(parts), shards_(shards), port_(port), asking_(parts.placement.shards()) {}

  struct Told {
    WideSum total;       ///< of all pages that are known
    CountedPages pages;  ///< of top(): the best ones
    std::uint64_t buckets = 0;
    std::uint64_t unknown_buckets = 0;  ///< of which nobody can say anything now, or could in time
    std::uint64_t unknown_pages = 0;    ///< in the other buckets: of which nobody can say a count
    std::string why;                    ///< the first bucket is not known; empty: all are
  };
  /// What is not known by then is said to be so.
  void total(std::uint64_t until_ms, std::function<void(Told)> done) {
    waiting_.push_back({0, until_ms, std::move(done)});
  }
  /// The `limit` best pages.
  void top(std::size_t limit, std::uint64_t until_ms, std::function<void(Told)> done) {
    waiting_.push_back({limit, until_ms, std::move(done)});
  }
  /// So many shards: the last ones come, or go, of which none has to answer.
  void set_shards(std::size_t count);
  /// Goes on; called in each turn while there is something to do.
  void tick(std::uint64_t now_ms);
  [[nodiscard]] bool is_idle() const noexcept { return waiting_.empty() && !round_; }

 private:
  struct Asker {
    std::size_t limit = 0;  ///< 0: the total
    std::uint64_t until_ms = 0;
    std::function<void(Told)> done;
  };
  struct Round {
    std::vector<Asker> askers;
    std::vector<std::deque<std::uint32_t>> to_ask;  ///< by shard: buckets
    std::vector<std::uint32_t> later = {};          ///< buckets to be asked for again
    std::uint64_t later_at_ms = 0;
    std::size_t open = 0;                                        ///< buckets that are neither known nor unknown
    std::string waits_for = "its shard did not answer in time";  ///< of what is open
    Told told = {};
    std::vector<TopPages::Bound> bounds = {};
    std::unique_ptr<TopPages> top = nullptr;
  };
  /// What goes on at a shard.
  struct Asking {
    bool is_asked = false;
    std::size_t buckets_at_once = 1;  ///< of the next command
    std::uint64_t read = 0;           ///< pages, for this one
    std::size_t known = 0;            ///< buckets of this one
  };

  void begin_round();
  void ask(std::uint32_t shard);
  [[nodiscard]] std::vector<std::uint32_t> next_buckets(std::uint32_t shard);
  void on_sums(std::uint32_t shard, const std::vector<ShardSession::SomeSum>& sums);
  void on_all(std::uint32_t shard, std::size_t asked, bool is_late);
  void take(std::uint32_t bucket, const Sums::Held& held);
  void give_up(std::uint32_t bucket, const std::string& why);
  void ask_again(std::uint32_t bucket);
  [[nodiscard]] std::vector<Asker> take_late(std::vector<Asker>& askers) const;
  void tell_late_of_waiting();
  void tell_late();
  void tell_totals();
  void find_top();
  void end_round();

  PendingParts parts_;
  AskableShards& shards_;
  ScanPort& port_;
  std::vector<Asker> waiting_;
  std::shared_ptr<Round> round_;  ///< answers of a former one are nobody's
  std::vector<Asking> asking_;    ///< by shard
  std::vector<std::string> writers_;
  bool asks_writers_ = false;
  std::uint64_t now_ms_ = 0;
};

}  // namespace visitd
