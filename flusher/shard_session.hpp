// What is said to one shard, and when: identity first, then what it lost, then what it has not answered, then reads.
// Decides; knows no clock, loop or socket.
//
//   away → asking who it is → asking for our marks → up        (a broken connection leads back to away)
//                └──────────────────┴→ held: the shard is not what we left; looked at again now and then, or accepted
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/cache_layout.hpp"
#include "common/statistics.hpp"
#include "flusher/batches.hpp"
#include "flusher/lookups.hpp"
#include "flusher/shard_protocol.hpp"

namespace visitd {

struct SessionSettings {
  std::string shard;   ///< its name
  std::string layout;  ///< buckets, virtual nodes and shard names, as visits:topology has them behind the identity
  std::uint32_t batches_in_flight = 0;
  std::uint64_t reconnect_ms = 0;
  std::uint64_t held_recheck_ms = 0;
  bool accept_eviction = false;
  bool accept_no_append_only = false;
};

/// What a session makes happen outside.
class SessionPort {
 public:
  virtual ~SessionPort() = default;
  virtual void connect() = 0;
  virtual void close() = 0;
  virtual void send(const ShardCommand& command) = 0;
  /// The shard's state changed; `why` is for people.
  virtual void state_changed(ShardState state, const std::string& why) = 0;
  /// The server may drop counts (it evicts keys, or has no append-only file) and that was not accepted.
  virtual void unfit(const std::string& why) = 0;
};

class ShardSession {
 public:
  /// `identity`: what the spool knows of the shard; empty: nothing. `new_identity`: for a shard that has none yet.
  ShardSession(SessionSettings settings, std::string identity, std::string new_identity,
               std::vector<std::uint32_t> buckets, Batches& batches, Lookups& lookups, FlusherStatistics statistics,
               SessionPort& port);

  /// Other limits and intervals, from now on; the shard's name and layout are as they were.
  void use(SessionSettings settings) { settings_ = std::move(settings); }

  void tick(std::uint64_t now_ms);
  void on_connected();
  void on_answer(ShardAnswer answer, std::uint64_t now_ms, std::uint64_t unix_now);
  void on_broken(const std::string& why, std::uint64_t now_ms);

  /// The bucket has an unanswered batch that is durable.
  void batch_ready(std::uint32_t bucket);
  /// Reads a page's count. False: not now.
  bool look_up(std::uint32_t page, std::uint32_t bucket, const std::string& id);
  /// What the shard says of a page, for people; nullopt: it cannot be asked now, or went away.
  using Inspection = std::function<void(std::optional<Count>)>;
  void inspect(std::uint32_t bucket, const std::string& id, Inspection done);
  /// The next look at this shard takes what it holds as the truth.
  void accept(std::uint64_t now_ms);

  [[nodiscard]] ShardState state() const noexcept { return state_; }
  [[nodiscard]] const std::string& why() const noexcept { return why_; }

 private:
  enum class Step { away, connecting, facts, topology, marks, up };
  struct Sent {
    enum class Kind { facts, topology, mark, batch, repair, count, inspection };
    Kind kind = Kind::facts;
    std::uint32_t bucket = 0;
    std::uint32_t page = 0;
    std::unique_ptr<Batch> repair;  ///< lives until its answer
    Inspection inspection;
  };

  void send(Sent sent, const ShardCommand& command);
  void send_batch(std::uint32_t bucket);
  void pump();
  void on_facts(const Facts& facts);
  void on_topology(const std::string& topology);
  void adopt(const std::string& identity);
  void ask_marks();
  void on_mark(std::uint32_t bucket, const std::string& field);
  void on_marks_known();
  void on_batch_answer(std::uint32_t bucket, const BatchAnswer& answer, std::uint64_t now_ms, std::uint64_t unix_now);
  void on_count(const Sent& sent, const Count& count, std::uint64_t now_ms);
  void hold(const std::string& why);
  void reconnect(const std::string& why);
  void leave();
  void set_state(ShardState state, const std::string& why);

  SessionSettings settings_;
  std::string identity_;
  std::string new_identity_;
  std::vector<std::uint32_t> buckets_;
  Batches& batches_;
  Lookups& lookups_;
  FlusherStatistics statistics_;
  SessionPort& port_;

  Step step_ = Step::away;
  ShardState state_ = ShardState::connecting;
  std::string why_;
  std::uint64_t connect_at_ms_ = 0;
  std::uint64_t now_ms_ = 0;
  bool accepting_ = false;

  // of the current connection
  std::deque<Sent> sent_;
  std::size_t marks_awaited_ = 0;
  std::string fault_;  ///< the first bucket's that cannot be put right
  std::vector<Batch> repairs_;
  std::deque<std::uint32_t> to_send_;  ///< buckets
  std::vector<bool> sent_here_;        ///< by bucket: its unanswered batch was sent on this connection
  std::vector<bool> ever_sent_;        ///< by bucket: its unanswered batch may have been executed
  std::size_t batches_in_flight_ = 0;
};

}  // namespace visitd
