// The batches that are on their way to one shard: first what the shard lost, then what it has not answered, so many at
// a time; and what is tried again while the shard refuses writes. Decides; knows no clock, loop or socket.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/shm/statistics.hpp"
#include "flusher/counting/backoff.hpp"
#include "flusher/counting/batches.hpp"
#include "flusher/counting/deployment.hpp"
#include "flusher/counting/placement.hpp"
#include "flusher/counting/session_link.hpp"

namespace visitd {

class BatchesInFlight {
 public:
  BatchesInFlight(ShardBuckets buckets, const Deployment& deployment, Batches& batches, FlusherStatistics statistics,
                  SessionLink& link);

  /// The session is up: what is known to be lost or unanswered is sent.
  void begin();
  /// Nothing of the old connection survives.
  void leave();

  /// The bucket has an unanswered batch that is durable.
  void ready(std::uint32_t bucket);
  /// Tries again, when it is time.
  void tick();
  /// Sends as many as may be on their way.
  void pump();
  /// Sends the bucket's next batch, unless one is on its way.
  void send(std::uint32_t bucket);
  /// Whether the bucket's unanswered batch may have been executed by an earlier connection.
  [[nodiscard]] bool may_be_executed(std::uint32_t bucket) const { return ever_sent_[bucket]; }

  /// Whether a batch of the bucket has no answer yet.
  [[nodiscard]] bool is_on_its_way(std::uint32_t bucket) const { return sent_here_[bucket] || sent_there_[bucket]; }
  /// The bucket is on this shard from now on: nothing of it is sent before it has arrived.
  void expect(std::uint32_t bucket) { arriving_.insert(bucket); }
  void expect_nothing() noexcept { arriving_.clear(); }
  [[nodiscard]] bool is_arriving(std::uint32_t bucket) const { return arriving_.contains(bucket); }
  [[nodiscard]] const std::set<std::uint32_t>& arriving() const noexcept { return arriving_; }
  /// Its marks are known; or it is on this shard no more, and nothing of it is on its way.
  void arrived(std::uint32_t bucket);
  void left(std::uint32_t bucket);

  /// What the shard lost of a bucket, oldest first.
  void repair(std::uint32_t bucket, std::vector<Batch> lost);
  void forget_repairs() noexcept { repairs_.clear(); }
  [[nodiscard]] bool is_repairing(std::uint32_t bucket) const { return repairs_.contains(bucket); }
  [[nodiscard]] bool is_repairing() const noexcept { return !repairs_.empty(); }

  /// These three: an answer says of the bucket what was not left there, so the shard is looked at again.
  void holds_other(std::uint32_t bucket, const std::string& field);
  void is_foreign(std::uint32_t bucket, const std::string& id);
  void is_forgotten(std::uint32_t bucket);

  /// What kept batches from being taken may be over: they are tried again without waiting any longer.
  void try_soon();
  /// No batches are taken for now.
  void refuse(std::string why);

  /// `why` no batch is sent to a replica, for people; empty: the server is none.
  void set_replica(std::string why) { replica_of_ = std::move(why); }
  /// Whether batches wait because the shard takes none now.
  [[nodiscard]] bool writes_wait() const noexcept { return !replica_of_.empty() || !refusal_.empty(); }
  [[nodiscard]] bool is_refused() const noexcept { return !refusal_.empty(); }
  /// The shard's state becomes up, or refuses_writes.
  void say_how_it_is();

 private:
  /// The batch that the bucket sends next: with `repair`, the oldest one that the shard lost, else the unanswered one;
  /// nullptr: the bucket has none.
  [[nodiscard]] const Batch* next_batch(std::uint32_t bucket, bool repair) const;
  /// Of that one, before ever_sent_ says that it was sent.
  [[nodiscard]] SendBatch request_for(std::uint32_t bucket, const Batch& batch, bool repair) const;
  void on_answer(std::uint32_t bucket, bool repair, const ShardAnswer& answer);
  void on_batch(std::uint32_t bucket, const BatchAnswer& answer);
  void on_repair(std::uint32_t bucket, const BatchAnswer& answer);
  void warn_of_low(std::uint32_t bucket, const BatchAnswer& answer);
  void on_refused(std::uint32_t bucket, std::string error);
  void on_redirect(std::uint32_t bucket, bool repair, const Redirect& redirect);
  void on_answer_there(std::uint32_t bucket, bool repair, std::uint64_t connection, const ShardAnswer& answer);
  /// The bucket's batch is sent again in a moment.
  void try_later(std::uint32_t bucket);
  /// Whether a correction may go to this shard now; where it is not known, that is looked for.
  [[nodiscard]] bool may_correct(std::uint32_t bucket);
  void writes_go_on();

  ShardBuckets buckets_;
  const Deployment& deployment_;
  Batches& batches_;
  FlusherStatistics statistics_;
  SessionLink& link_;
  std::vector<bool> ever_sent_;   ///< by bucket: its unanswered batch may have been executed
  std::vector<bool> sent_there_;  ///< by bucket: a batch of it is on its way to another node, because of a Redirect

  // of the current connection
  std::vector<bool> sent_here_;        ///< by bucket: a batch of it is on its way
  std::deque<std::uint32_t> to_send_;  ///< buckets
  std::set<std::uint32_t> arriving_;   ///< buckets that are here, and are not known yet
  std::set<std::uint32_t> moving_;     ///< buckets that take no batches, to be tried again
  std::uint64_t moving_retry_at_ms_ = 0;
  std::unordered_map<std::uint32_t, std::deque<Batch>> repairs_;  ///< by bucket: what the shard lost, oldest first
  std::unordered_map<std::uint32_t, std::uint64_t> low_;          ///< by bucket: since when a correction waits; 0: said
  std::set<std::uint32_t> stays_;    ///< buckets that move, and were not on their next shard when that was looked for
  std::set<std::uint32_t> looking_;  ///< for which it is being looked
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  ///< another shard's answer may come later than the end
  std::size_t in_flight_ = 0;
  std::string replica_of_;  ///< not empty: the server is a replica, says why no batch is sent
  std::string refusal_;     ///< not empty: the error by which the server refuses batches
  Backoff write_backoff_;
  std::uint64_t retry_at_ms_ = 0;
  bool probing_ = false;  ///< one batch is on its way to find out whether batches are taken again
};

}  // namespace visitd
