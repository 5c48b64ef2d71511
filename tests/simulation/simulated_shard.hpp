// A Redis server and the hosts' connections to it: commands wait to be executed, answers wait to arrive, connections
// break at any point between, and the server may lose what it had not yet synced.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "flusher/counting/shard_protocol.hpp"
#include "tests/simulation/simulated_cluster.hpp"

namespace visitd {

class SimulatedShard {
 public:
  explicit SimulatedShard(std::size_t hosts) : connections_(hosts) {}

  /// A sync that takes longer is late, and a server says so.
  static constexpr std::uint64_t sync_ms = 30;

  // -- a flusher's side

  void connect(std::size_t host) { connections_[host].connected = true; }
  /// Drops the connection: commands that are on their way may still be executed, their answers are lost. Returns what
  /// has to be told so, in order.
  std::vector<Completion> drop(std::size_t host, std::mt19937_64& random);
  [[nodiscard]] bool is_connected(std::size_t host) const noexcept { return connections_[host].connected; }
  /// `writer`: names the host's field in each bucket.
  void send(std::size_t host, const std::string& writer, const ShardCommand& command, Completion done,
            std::uint64_t now_ms);
  /// An answer, and what came with its command.
  struct Received {
    Completion done;
    ShardAnswer answer;
  };
  /// The oldest answer that has arrived.
  [[nodiscard]] std::optional<Received> receive(std::size_t host);
  /// When the oldest command was sent whose answer was not received.
  [[nodiscard]] std::optional<std::uint64_t> waits_since(std::size_t host) const;
  /// Commands of the connection that are executed, and whose answers were not received.
  [[nodiscard]] std::size_t unreceived(std::size_t host) const noexcept { return connections_[host].answers.size(); }
  /// How many commands like it have no answer yet: reads of the same page, batches of the same bucket, looks at the
  /// server.
  [[nodiscard]] std::size_t on_their_way(std::size_t host, const ShardCommand& like) const;

  // -- the server's side

  /// Executes the oldest command of some connection, of those that are gone or of a present one. False: none waits.
  bool execute(std::mt19937_64& random);
  void sync() {
    disk_ = now_;
    synced_ = changes_;
  }
  /// Nothing waits on a connection that is gone.
  [[nodiscard]] bool has_late() const noexcept { return !late_.empty(); }
  /// A crash: what was not synced is lost. The caller drops the connections.
  void lose_tail() {
    has_lost_ = true;
    now_ = disk_;
    follows_ = false;
  }
  /// Whether it ever did, or a replica took its place.
  [[nodiscard]] bool has_lost() const noexcept { return has_lost_; }
  /// Its replica has caught up with it, and has all of it on its disk.
  void replicate() {
    replica_ = now_;
    replicated_ = changes_;
    follows_ = true;
  }
  /// The replica takes the server's place, with what the replica has. False: the server has no replica. The caller
  /// drops the connections.
  [[nodiscard]] bool fail_over();
  /// It says that its replica has what it has not.
  void lie_about_replicas() noexcept { lies_about_replicas_ = true; }
  void empty() { now_ = disk_ = {}; }
  void forget(std::uint32_t bucket) {
    now_.buckets.erase(bucket);
    disk_.buckets.erase(bucket);
    if (replica_) replica_->buckets.erase(bucket);
  }
  /// A deployment stands on it, whose buckets of this shard are these.
  void make(const std::string& topology, const std::vector<std::uint32_t>& buckets, const std::string& id);
  /// Answers with an error, and executes nothing of it.
  enum class Refusing { nothing, writes, all };
  void refuse(Refusing what) noexcept { refusing_ = what; }
  /// It is this node of the cluster.
  void join(const SimulatedCluster& cluster, std::uint32_t node) noexcept {
    cluster_ = &cluster;
    node_ = node;
  }
  /// The key goes from one node to the other, at once, and is on both disks then.
  static void migrate(SimulatedShard& from, SimulatedShard& to, std::size_t key);
  [[nodiscard]] bool holds_key(std::size_t key) const;
  [[nodiscard]] bool refuses() const noexcept { return refusing_ != Refusing::nothing; }
  /// A batch script that does not look at the identity.
  void ignore_identity() noexcept { ignores_identity_ = true; }
  /// One that does not look whether somebody else has corrected the bucket; one that does not say that it was
  /// corrected.
  void ignore_fix() noexcept { ignores_fix_ = true; }
  void keep_fix() noexcept { keeps_fix_ = true; }
  /// One that does not look for the tombstone of a writer that was forgotten.
  void ignore_tombstones() noexcept { ignores_tombstones_ = true; }
  /// One that, where it should put a mark back and take the tombstone away, does half of it.
  enum class Rejoining { whole, puts_back_alone, takes_away_alone };
  void rejoin_in_part(Rejoining how) noexcept { rejoining_ = how; }
  /// Scripts that know nothing of the field of a bucket's sum, as one host of a version before has.
  void keep_no_sums_of(std::size_t host) noexcept { keeps_no_sums_of_ = host; }
  /// What is wrong with the scripts that keep and read sums.
  enum class Summing { right, digest_is_not_compared, correction_leaves_sum, largest_is_not_raised };
  void sum_wrongly(Summing how) noexcept { summing_ = how; }
  /// A script that forgets a writer also in a bucket whose content was copied to another shard.
  void forget_what_moves() noexcept { forgets_what_moves_ = true; }
  /// Both hold what the other one held, on the same connections.
  static void swap_data(SimulatedShard& one, SimulatedShard& other) {
    std::swap(one.now_, other.now_);
    std::swap(one.disk_, other.disk_);
  }
  /// Their addresses were swapped: what was sent to a server reaches that server. The caller drops the connections.
  static void swap_servers(SimulatedShard& one, SimulatedShard& other) {
    swap_data(one, other);
    std::swap(one.late_, other.late_);
  }
  [[nodiscard]] bool holds(const std::string& page, std::uint32_t bucket) const { return !field(bucket, page).empty(); }
  void set_field(std::uint32_t bucket, const std::string& field, const std::string& value) {
    now_.buckets[bucket].fields[field] = value;
  }

  void set_mark(std::uint32_t bucket, const std::string& writer, const std::string& mark) {
    set_field(bucket, mark_of(writer), mark);
  }

  /// What a host took from a page, and what it cannot take again from what the server holds now.
  struct Owed {
    std::size_t host = 0;
    std::string page;
    std::uint64_t visits = 0;
  };
  /// The operator raises these pages by as much, and says that they were corrected. Returns them.
  std::vector<Owed> raise_owed();
  /// Somebody writes into a page's field what is no count, and later what stood there. Not on a server that loses its
  /// tail meanwhile.
  void spoil(std::uint32_t bucket, const std::string& page);
  void mend(std::uint32_t bucket, const std::string& page);

  [[nodiscard]] std::string mark(std::uint32_t bucket, const std::string& writer) const {
    return field(bucket, mark_of(writer));
  }
  [[nodiscard]] std::string tombstone(std::uint32_t bucket, const std::string& writer) const {
    return field(bucket, tombstone_of(writer));
  }
  [[nodiscard]] std::uint64_t count(const std::string& page, std::uint32_t bucket) const;
  /// How much of that count came from one host.
  [[nodiscard]] std::uint64_t count_of(std::size_t host, const std::string& page, std::uint32_t bucket) const;
  /// Whether the bucket is here, and hosts may count into it.
  [[nodiscard]] bool has_bucket(std::uint32_t bucket) const {
    return !field(bucket, id_field).empty() && field(bucket, moved_field).empty();
  }
  /// The number of its last correction.
  [[nodiscard]] std::uint64_t fix_of(std::uint32_t bucket) const {
    const std::string fix = field(bucket, fix_field);
    return fix.empty() ? 0 : std::stoull(fix);
  }
  [[nodiscard]] const std::string& topology() const noexcept { return now_.topology; }
  void set_time(std::uint64_t now_ms) noexcept { now_ms_ = now_ms; }
  /// What the pages of the batch with this mark came to when it was last applied; nullptr: it was not applied here.
  [[nodiscard]] const std::vector<std::uint64_t>* totals_of(std::uint32_t bucket, const Mark& mark) const {
    const auto applied = applied_.find({bucket, to_text(mark)});
    return applied == applied_.end() ? nullptr : &applied->second;
  }
  /// Whether a batch with this mark was ever applied. Not on a server that loses its tail.
  [[nodiscard]] bool has_applied(std::uint32_t bucket, const Mark& mark) const {
    return applied_.contains({bucket, to_text(mark)});
  }

 private:
  struct Bucket {
    std::map<std::string, std::string> fields;
    std::map<std::pair<std::size_t, std::string>, std::uint64_t> of_hosts;  ///< host and page: visits
  };
  struct State {
    std::string topology;
    std::map<std::uint32_t, Bucket> buckets;
    std::string mover;
    std::uint64_t moves_until_ms = 0;
    std::map<std::string, std::string> writers;  ///< visits:writers
  };
  /// A command as it lies in the server's socket: a batch by value.
  struct Waiting {
    std::size_t host = 0;
    std::string writer;
    ShardCommand command;
    Batch batch;
    std::uint64_t sent_ms = 0;
    Completion done;
    std::optional<Replicas> replicas = std::nullopt;  ///< AskReplicas, which is executed at once
  };
  struct Answered {
    ShardAnswer answer;
    Waiting to;
  };
  struct Connection {
    bool connected = false;
    std::deque<Waiting> waiting;
    std::deque<Answered> answers;
  };

  /// A writer's field, and what that becomes when it is forgotten.
  [[nodiscard]] static std::string mark_of(const std::string& writer) { return "\x01w:" + writer; }
  [[nodiscard]] static std::string tombstone_of(const std::string& writer) { return "\x01gone:" + writer; }
  static constexpr const char* id_field = "\x01id";
  static constexpr const char* fix_field =
      "\x01"
      "fix";
  static constexpr const char* sum_field = "\x01sum";
  static constexpr const char* moving_field = "\x01moving";
  static constexpr const char* moved_field = "\x01moved";
  static constexpr const char* from_field =
      "\x01"
      "from";

  [[nodiscard]] ShardAnswer answer(const Waiting& waiting);
  [[nodiscard]] ShardAnswer run(const Waiting& waiting);
  [[nodiscard]] Facts run_facts() const;
  /// What it answers because another node of the cluster serves the key.
  [[nodiscard]] std::optional<Redirect> redirect(std::size_t key, bool once) const;
  [[nodiscard]] std::optional<Redirect> redirect(const Waiting& waiting) const;
  [[nodiscard]] Pages run_pages(const AskPages& ask, const std::string& writer) const;
  [[nodiscard]] Sums run_sums(const AskSums& ask, const std::string& writer);
  [[nodiscard]] Sums::Held sum_of(std::uint32_t bucket, const AskSums& ask, const std::string& writer);
  /// The bucket's field of the sum changes by what a batch has changed in the others, as in batch.lua.
  void keep_sum(const std::map<std::string, std::string>& before, std::map<std::string, std::string>& fields) const;
  [[nodiscard]] Marks run_marks(const AskMarks& ask, const std::string& writer);
  [[nodiscard]] MoveAnswer run_move(const MoveBucket& move);
  [[nodiscard]] static std::string encode(const Bucket& bucket);
  [[nodiscard]] static Bucket decode(std::string_view content);
  [[nodiscard]] Replicas run_replicas() const;
  [[nodiscard]] Persistence run_persistence() const;
  void note_change() {
    if (synced_ == changes_++) unsynced_since_ms_ = now_ms_;
  }
  [[nodiscard]] MovesTaken run_take(const TakeMoves& take);
  [[nodiscard]] BatchAnswer run_batch(const Waiting& waiting, const std::string& id);
  [[nodiscard]] Forgotten run_forget(const ForgetWriter& forget);
  void put_back(std::uint32_t bucket, const std::string& writer, const std::string& mark);
  [[nodiscard]] std::string field(std::uint32_t bucket, const std::string& name) const;

  std::uint64_t now_ms_ = 0;
  std::uint64_t changes_ = 0;  ///< of what it holds
  std::uint64_t synced_ = 0;
  std::uint64_t unsynced_since_ms_ = 0;
  State now_;
  State disk_;
  std::optional<State> replica_;  ///< nullopt: the server has no replica
  std::uint64_t replicated_ = 0;  ///< changes that it has
  bool follows_ = false;          ///< it is connected
  bool has_lost_ = false;
  bool lies_about_replicas_ = false;
  Refusing refusing_ = Refusing::nothing;
  const SimulatedCluster* cluster_ = nullptr;  ///< nullptr: it is in none
  std::uint32_t node_ = 0;
  bool ignores_identity_ = false;
  bool ignores_tombstones_ = false;
  bool ignores_fix_ = false;
  bool keeps_fix_ = false;
  Rejoining rejoining_ = Rejoining::whole;
  bool forgets_what_moves_ = false;
  std::optional<std::size_t> keeps_no_sums_of_;
  Summing summing_ = Summing::right;
  std::deque<Waiting> late_;  ///< of connections that are gone
  std::vector<Connection> connections_;
  std::map<std::string, std::string> spoiled_;  ///< page: what stood in its field
  std::map<std::pair<std::uint32_t, std::string>, std::vector<std::uint64_t>> applied_;
  std::map<std::pair<std::size_t, std::uint32_t>, Batch> owed_;  ///< by host and bucket: a correction that waits
};

}  // namespace visitd
