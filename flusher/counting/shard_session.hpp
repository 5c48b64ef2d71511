// What is said to one shard, and when: identity first, then what it lost, then what it has not answered, then reads.
// Decides; knows no clock, loop or socket.
//
//   away → who it is → our marks → (the deployment's identity for each bucket) → up
//              └───────────┴→ held: the shard is not what we left; looked at again now and then, or accepted
// A broken connection leads back to away. An error that the server answers is an answer: a batch is kept and tried
// again, while reads go on (`refuses_writes`); before the shard is up, the next connection waits longer each time.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/shm/cache_layout.hpp"
#include "common/shm/statistics.hpp"
#include "flusher/counting/backoff.hpp"
#include "flusher/counting/batches.hpp"
#include "flusher/counting/deployment.hpp"
#include "flusher/counting/lookups.hpp"
#include "flusher/counting/shard_protocol.hpp"

namespace visitd {

struct SessionSettings {
  std::string shard;   ///< its name
  std::string layout;  ///< buckets, virtual nodes and shard names, as visits:topology has them at its end
  std::uint32_t batches_in_flight = 0;
  std::uint64_t reconnect_ms = 0;
  std::uint64_t held_recheck_ms = 0;
  bool accept_eviction = false;
  bool accept_no_append_only = false;
  std::uint64_t check_ms = 5000;  ///< how often a living connection is asked what the server is
  std::string address = {};       ///< for people
  std::uint32_t database = 0;
  std::string visitctl = "visitctl";  ///< how its commands begin, for people
};

/// What a held shard would lose by being accepted as it is.
struct AcceptOffer {
  std::uint64_t token = 0;        ///< of what was found; another one once something else is found
  std::uint64_t buckets = 0;      ///< that hold something else than was left there
  std::uint64_t pages = 0;        ///< in them, that this host knows a count of
  std::uint64_t visits = 0;       ///< of those pages, as last seen
  std::uint64_t kept_visits = 0;  ///< that come back, out of kept batches
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
  /// Something that the operator should know, and that changes nothing.
  virtual void warn(const std::string& what) = 0;
};

class ShardSession {
 public:
  /// `identity`: what the spool knows of the shard; empty: nothing. `new_identity`: for a deployment that has none yet.
  ShardSession(SessionSettings settings, std::string identity, std::string new_identity,
               std::vector<std::uint32_t> buckets, Deployment& deployment, Batches& batches, Lookups& lookups,
               FlusherStatistics statistics, SessionPort& port);

  /// Other limits and intervals, from now on; the shard's name and layout are as they were.
  void use(SessionSettings settings) { settings_ = std::move(settings); }

  void tick(std::uint64_t now_ms);
  void on_connected();
  void on_answer(ShardAnswer answer, std::uint64_t now_ms, std::uint64_t unix_now);
  void on_broken(const std::string& why, std::uint64_t now_ms);
  /// The server answered with an error before the connection could be used.
  void on_turned_away(const std::string& why, std::uint64_t now_ms);

  /// The bucket has an unanswered batch that is durable.
  void batch_ready(std::uint32_t bucket);
  /// Reads a page's count. False: not now.
  bool look_up(std::uint32_t page, std::uint32_t bucket, const std::string& id);
  /// What the shard says of a page, for people; nullopt: it cannot be asked now, or went away.
  using Inspection = std::function<void(std::optional<Count>)>;
  void inspect(std::uint32_t bucket, const std::string& id, Inspection done);
  /// What accepting this shard would give up; throws Error where it is not held, or cannot be accepted.
  [[nodiscard]] AcceptOffer offer() const;
  /// The next look at this shard takes what it holds as the truth, if that is still what was offered. Throws Error
  /// where it cannot be accepted, or something else has been found since.
  void accept(std::uint64_t token, std::uint64_t now_ms);

  [[nodiscard]] ShardState state() const noexcept { return state_; }
  [[nodiscard]] const std::string& why() const noexcept { return why_; }

 private:
  enum class Step { away, connecting, facts, waiting, topology, marks, stamping, up };
  struct Sent {
    enum class Kind { facts, check, topology, made, marks, stamp, batch, repair, count, inspection };
    Kind kind = Kind::facts;
    std::uint32_t bucket = 0;  ///< marks, stamp: the first one's place in buckets_
    std::uint32_t page = 0;
    Inspection inspection = {};
  };
  /// A bucket that does not hold what we left there.
  struct Differing {
    std::uint32_t bucket = 0;
    std::string field;
  };

  void send(Sent sent, const ShardCommand& command);
  void send_batch(std::uint32_t bucket);
  void pump();
  void ask_facts();
  void on_facts(const Facts& facts);
  void on_check(const Facts& facts);
  void check_again();
  [[nodiscard]] bool hold_if_unfit(const Facts& facts);
  void note_role(const Facts& facts);
  void note_server(const Facts& facts);
  void on_topology(const std::string& topology);
  void on_no_topology();
  [[nodiscard]] std::string why_topology_is_missed() const;
  void on_former(const TopologyText& topology);
  void on_deployment(const TopologyText& topology);
  void make_topology(const std::string& identity);
  void finish_making();
  void wait_for_identity();
  void note_identity();
  void ask_marks(const std::string& stamp);
  void on_marks(const Sent& sent, const Marks& marks);
  void on_mark(std::uint32_t bucket, const Marks::Held& held);
  void on_marks_known();
  [[nodiscard]] bool accept_marks();
  void on_stamped(const Sent& sent, const Marks& marks);
  void come_up();
  void on_sent_answer(const Sent& sent, ShardAnswer answer, std::uint64_t unix_now);
  void on_refused(const Sent& sent, const std::string& error);
  void on_write_refused(std::uint32_t bucket, const std::string& error);
  void writes_go_on();
  void on_batch_answer(std::uint32_t bucket, const BatchAnswer& answer, std::uint64_t unix_now);
  void on_repair_answer(std::uint32_t bucket, const BatchAnswer& answer);
  void on_count(const Sent& sent, const Count& count);
  void fault(const std::string& why, bool acceptable);
  void hold(const std::string& why, bool acceptable = false);
  void reconnect(const std::string& why);
  void leave();
  void turn_away(const std::string& why);
  void say_how_it_is();
  void set_state(ShardState state, const std::string& why);
  /// Whether batches wait because the shard takes none now.
  [[nodiscard]] bool writes_wait() const noexcept { return !replica_of_.empty() || !refusal_.empty(); }
  [[nodiscard]] bool in_batches(std::uint32_t bucket, const std::string& field) const;
  [[nodiscard]] std::uint64_t digest_of_differing() const;
  /// What the operator enters to accept this shard.
  [[nodiscard]] std::string accept_command() const;

  SessionSettings settings_;
  std::string identity_;
  std::string new_identity_;
  std::vector<std::uint32_t> buckets_;
  Deployment& deployment_;
  Batches& batches_;
  Lookups& lookups_;
  FlusherStatistics statistics_;
  SessionPort& port_;

  Step step_ = Step::away;
  ShardState state_ = ShardState::connecting;
  std::string why_;
  std::uint64_t connect_at_ms_ = 0;
  std::uint64_t now_ms_ = 0;
  Backoff reconnect_backoff_;
  bool accepting_ = false;
  std::uint64_t accepted_token_ = 0;
  bool warned_ = false;  ///< that the server does not say how it is set up

  // of a held shard
  bool acceptable_ = false;
  std::uint64_t token_ = 0;
  std::vector<Differing> held_differing_;

  // of the current connection
  std::deque<Sent> sent_;
  std::string topology_;  ///< as it stands on the shard
  bool stamp_ = false;    ///< buckets may lack the identity
  bool made_ = false;     ///< the topology says that every bucket has it
  bool making_ended_ = false;
  std::uint64_t changes_seen_ = 0;  ///< of the deployment
  std::uint64_t up_since_ms_ = 0;
  std::uint64_t check_at_ms_ = 0;
  bool checking_ = false;
  std::size_t marks_awaited_ = 0;
  std::string fault_;  ///< the first one found
  bool fault_acceptable_ = false;
  std::vector<Differing> differing_;
  std::unordered_map<std::uint32_t, std::deque<Batch>> repairs_;  ///< by bucket: what the shard lost, oldest first
  std::deque<std::uint32_t> to_send_;                             ///< buckets
  std::vector<bool> sent_here_;                                   ///< by bucket: a batch of it is on its way
  std::vector<bool> ever_sent_;  ///< by bucket: its unanswered batch may have been executed
  std::size_t batches_in_flight_ = 0;
  std::string replica_of_;  ///< not empty: the server is a replica, says why no batch is sent
  std::string refusal_;     ///< not empty: the error by which the server refuses batches
  Backoff write_backoff_;
  std::uint64_t retry_at_ms_ = 0;
  bool probing_ = false;  ///< one batch is on its way to find out whether batches are taken again
};

}  // namespace visitd
