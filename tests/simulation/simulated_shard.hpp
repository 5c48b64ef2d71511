// A Redis server and the connections to it: commands wait to be executed, answers wait to arrive, connections break at
// any point between, and the server may lose what it had not yet synced.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "flusher/shard_protocol.hpp"

namespace visitd {

class SimulatedShard {
 public:
  explicit SimulatedShard(std::string writer) : writer_(std::move(writer)) {}

  // -- the flusher's side

  void connect() { connected_ = true; }
  /// Drops the connection: commands that are on their way may still be executed, their answers are lost.
  void drop(std::mt19937_64& random);
  [[nodiscard]] bool is_connected() const noexcept { return connected_; }
  void send(const ShardCommand& command);
  /// The oldest answer that has arrived.
  [[nodiscard]] std::optional<ShardAnswer> receive();

  // -- the server's side

  /// Executes the oldest command that waits on some connection, of one that is gone or of the present one. False: none
  /// waits.
  bool execute(std::mt19937_64& random);
  void sync() { disk_ = now_; }
  /// Another spool writes from now on, under another name.
  void set_writer(std::string writer) { writer_ = std::move(writer); }
  /// Nothing waits on a connection that is gone.
  [[nodiscard]] bool has_late() const noexcept { return !late_.empty(); }
  /// A crash: what was not synced is lost. The caller drops the connection.
  void lose_tail() { now_ = disk_; }
  void empty() { now_ = disk_ = {}; }
  void forget(std::uint32_t bucket) {
    now_.buckets.erase(bucket);
    disk_.buckets.erase(bucket);
  }
  /// A deployment stands on it.
  void make(const std::string& topology, const std::vector<std::uint32_t>& buckets, const std::string& id) {
    now_.topology = topology;
    for (const std::uint32_t bucket : buckets) now_.buckets[bucket][id_field] = id;
    disk_ = now_;
  }
  /// Answers with an error, and executes nothing of it.
  enum class Refusing { nothing, writes, all };
  void refuse(Refusing what) noexcept { refusing_ = what; }
  /// A batch script that does not look at the identity.
  void ignore_identity() noexcept { ignores_identity_ = true; }
  /// Both hold what the other one held: their addresses were swapped.
  static void swap(SimulatedShard& one, SimulatedShard& other) {
    std::swap(one.now_, other.now_);
    std::swap(one.disk_, other.disk_);
    std::swap(one.late_, other.late_);  // what was sent to a server reaches that server
  }
  [[nodiscard]] bool holds(const std::string& page, std::uint32_t bucket) const { return !field(bucket, page).empty(); }
  void set_field(std::uint32_t bucket, const std::string& field, const std::string& value) {
    now_.buckets[bucket][field] = value;
  }

  /// Somebody writes into a page's field what is no count, and later what stood there. Not on a server that loses its
  /// tail meanwhile.
  void spoil(std::uint32_t bucket, const std::string& page);
  void mend(std::uint32_t bucket, const std::string& page);

  void set_mark(std::uint32_t bucket, const std::string& mark) { set_field(bucket, writer_, mark); }
  [[nodiscard]] std::string mark(std::uint32_t bucket) const { return field(bucket, writer_); }
  [[nodiscard]] std::uint64_t count(const std::string& page, std::uint32_t bucket) const;

 private:
  struct State {
    std::string topology;
    std::map<std::uint32_t, std::map<std::string, std::string>> buckets;
  };
  /// A command as it lies in the server's socket: a batch by value.
  struct Waiting {
    ShardCommand command;
    Batch batch;
  };

  static constexpr const char* id_field = "id";

  [[nodiscard]] ShardAnswer answer(const Waiting& waiting);
  [[nodiscard]] ShardAnswer run(const Waiting& waiting);
  [[nodiscard]] Marks run_marks(const AskMarks& ask);
  [[nodiscard]] BatchAnswer run_batch(const Batch& batch, const std::string& id);
  [[nodiscard]] std::string field(std::uint32_t bucket, const std::string& name) const;

  std::string writer_;
  State now_;
  State disk_;
  bool connected_ = false;
  Refusing refusing_ = Refusing::nothing;
  bool ignores_identity_ = false;
  std::deque<Waiting> late_;  ///< of connections that are gone
  std::deque<Waiting> waiting_;
  std::deque<ShardAnswer> answers_;
  std::map<std::string, std::string> spoiled_;  ///< page: what stood in its field
};

}  // namespace visitd
