// A session's link to its shard: how far the connection has come, what the shard's state is, and all that leads away
// from it. Decides; knows no clock, loop or socket.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>

#include "common/shm/cache_layout.hpp"
#include "flusher/counting/backoff.hpp"
#include "flusher/counting/shard_protocol.hpp"

namespace visitd {

struct SessionSettings {
  std::string shard;          ///< its name
  std::string layout;         ///< as visits:topology has it at its end
  std::uint64_t version = 1;  ///< of the layout
  bool joins = false;         ///< buckets go to it that were on other shards; it had none
  bool in_cluster = false;    ///< it is a node of a cluster: which buckets it has, the cluster says
  std::uint32_t batches_in_flight = 0;
  std::uint64_t reconnect_ms = 0;
  std::uint64_t held_recheck_ms = 0;
  bool accept_eviction = false;
  bool accept_no_append_only = false;
  std::uint64_t check_ms = 5000;  ///< how often a living connection is asked what the server is
  std::string address = {};       ///< for people
  std::uint32_t database = 0;
  std::string visitctl = "visitctl";  ///< how its commands begin, for people
  std::uint32_t wait_replicas = 0;    ///< these three: see ReplicaWatch
  bool wait_aof = false;
  std::uint64_t wait_ms = 3000;     ///< how long the server may take to say whether they follow
  std::uint64_t unix_ahead_ms = 0;  ///< Unix time in milliseconds, when the clock of the turns began
};

/// What a session makes happen outside.
class SessionPort {
 public:
  virtual ~SessionPort() = default;
  virtual void connect() = 0;
  /// Every command without an answer is Lost before it returns.
  virtual void close() = 0;
  /// `done` comes back with the answer, as an argument of ShardSession::on_answer; or it is called with Lost, when the
  /// connection is closed, or just before it is told as broken. AskReplicas goes over a connection of its own.
  virtual void send(const ShardCommand& command, Completion done) = 0;
  /// The shard's state changed; `why` is for people.
  virtual void state_changed(ShardState state, const std::string& why) = 0;
  /// The server may drop counts (it evicts keys, or has no append-only file) and that was not accepted.
  virtual void unfit(const std::string& why) = 0;
  /// The shard says that the bucket has moved, by this marker. The bucket may be on another shard afterwards.
  virtual void moved(std::uint32_t bucket, const std::string& marker) = 0;
  /// In a cluster: another node serves the bucket. The bucket may be on that one afterwards.
  virtual void redirected(std::uint32_t bucket, const std::string& node) = 0;
  /// Sends the command to that node of the cluster, where it can be reached: otherwise it is Lost.
  virtual void ask_node(const std::string& node, const ShardCommand& command, Completion done) = 0;
  /// Looks whether the next shard has the bucket, which moves there, already. `done` gets whether it is still here;
  /// false also where that is not known, or where the bucket was found there and is on that shard from now on.
  virtual void look_at_next(std::uint32_t bucket, std::function<void(bool is_here)> done) = 0;
  /// A shard says a later layout than the one known.
  virtual void layout_changed(const std::string& layout) = 0;
  /// A bucket that moved here has come.
  virtual void arrived(std::uint32_t bucket) = 0;
  /// Something that the operator should know, and that changes nothing.
  virtual void warn(const std::string& what) = 0;
};

class SessionLink {
 public:
  enum class Step { away, connecting, facts, waiting, topology, marks, stamping, up };

  /// The parts of the session.
  class Parts {
   public:
    /// The shard is about to be held; `acceptable`: the operator may take it as it is.
    virtual void on_hold(bool acceptable) = 0;
    /// Nothing of the old connection survives.
    virtual void on_leave() = 0;

   protected:
    ~Parts() = default;
  };

  SessionLink(SessionSettings settings, SessionPort& port, Parts& parts)
      : settings_(std::move(settings)), port_(port), parts_(parts) {}

  void use(SessionSettings settings) { settings_ = std::move(settings); }
  /// The time of the event that is told: monotonic, and seconds to note down.
  void set_time(std::uint64_t now_ms, std::uint64_t unix_now) noexcept {
    now_ms_ = now_ms;
    unix_now_ = unix_now;
  }
  void set_time(std::uint64_t now_ms) noexcept { now_ms_ = now_ms; }

  void connect_when_due();
  void begin(Step step) noexcept { step_ = step; }
  /// Everything is known: batches and reads may be sent.
  void come_up() noexcept;
  /// The shard did what it was asked: the next connection need not wait longer.
  void worked() noexcept { reconnect_backoff_.reset(); }

  void send(const ShardCommand& command, Completion done) { port_.send(command, std::move(done)); }
  /// A command without whose answer there is no way to go on: where it is an error, the next connection is made later.
  template <typename Answer, typename Then>
  void ask(const ShardCommand& command, const Then& then) {
    send(command, [this, then](ShardAnswer answer) {
      if (std::holds_alternative<Lost>(answer)) return;
      if (const auto* refused = std::get_if<Refused>(&answer)) return on_refused(*refused);
      if (const auto* redirect = std::get_if<Redirect>(&answer)) return on_refused({"MOVED to " + redirect->node});
      then(std::get<Answer>(std::move(answer)));
    });
  }

  // -- what leads away

  void on_broken(const std::string& why);
  /// An error where there is no other way to go on: not asked again without end.
  void turn_away(const std::string& why);
  void reconnect(const std::string& why);
  void hold(const std::string& why, bool acceptable = false);
  /// Connects again at once.
  void look_again();
  /// What kept the shard away may be over: the next connection need not wait.
  void try_soon() noexcept;

  void set_state(ShardState state, const std::string& why);

  [[nodiscard]] const SessionSettings& settings() const noexcept { return settings_; }
  [[nodiscard]] SessionPort& port() noexcept { return port_; }
  [[nodiscard]] std::uint64_t now_ms() const noexcept { return now_ms_; }
  [[nodiscard]] std::uint64_t unix_now() const noexcept { return unix_now_; }
  /// Unix time in milliseconds.
  [[nodiscard]] std::uint64_t unix_ms() const noexcept { return now_ms() + settings_.unix_ahead_ms; }
  [[nodiscard]] Step step() const noexcept { return step_; }
  [[nodiscard]] bool is_up() const noexcept { return step_ == Step::up; }
  /// How many connections have come up.
  [[nodiscard]] std::uint64_t connections() const noexcept { return connections_; }
  [[nodiscard]] ShardState state() const noexcept { return state_; }
  [[nodiscard]] const std::string& why() const noexcept { return why_; }
  /// As visits:topology names it: a cluster has one for all its nodes.
  [[nodiscard]] const std::string& name_in_topology() const noexcept {
    return settings_.in_cluster ? cluster_name : settings_.shard;
  }
  /// What the operator enters to accept this shard.
  [[nodiscard]] std::string accept_command() const;

 private:
  void leave(std::uint64_t connect_at_ms);
  void on_refused(const Refused& refused);

  SessionSettings settings_;
  SessionPort& port_;
  Parts& parts_;
  Step step_ = Step::away;
  ShardState state_ = ShardState::connecting;
  std::string why_;
  std::uint64_t now_ms_ = 0;
  std::uint64_t unix_now_ = 0;  ///< of the last answer
  std::uint64_t connect_at_ms_ = 0;
  std::uint64_t up_since_ms_ = 0;
  std::uint64_t connections_ = 0;
  Backoff reconnect_backoff_;
};

/// What a server said, without where in a script it said so.
[[nodiscard]] std::string without_script(const std::string& error);

}  // namespace visitd
