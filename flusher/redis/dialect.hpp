// How our commands are said to a server, and what its replies to them mean. Pure: no connection.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "common/config/settings.hpp"
#include "common/os/errors.hpp"
#include "flusher/counting/shard_protocol.hpp"
#include "flusher/redis/codec.hpp"
#include "flusher/redis/handshake.hpp"

namespace visitd {

/// A reply after which the connection is of no more use: of no kind that Redis gives to the command, or the server has
/// forgotten our scripts, which the next connection loads.
struct UnusableReply : Error {
  using Error::Error;
};

/// What a command's next reply is.
struct Awaited {
  enum class Kind : std::uint8_t {
    policy,
    append_only,
    info,
    cluster_info,
    topology_of_facts,
    topology,
    marks,
    marks_of_nodes,
    nodes,
    batch,
    move,
    mover,
    persistence,
    replicas,
    replicas_on_disk,
    pages,
    sums,
    count,
    noted,
    writers,
    forgotten
  };
  Kind kind = Kind::count;
  std::uint32_t size = 0;  ///< batch: pages; marks, forgotten, sums: buckets; replicas: 1 until SET is answered; pages:
                           ///< replies to come
  bool once = false;       ///< ASKING is answered first
  std::string writer = {};  ///< mover: who asked
};

/// Of one connection.
class Dialect {
 public:
  /// `writer`: names our field in each bucket ("\x01w:" and this). `shard`: whether it is a node of a cluster, and its
  /// host.
  Dialect(std::string_view writer, const ShardSettings& shard);

  /// The scripts as the server of this connection knows them; nothing of an earlier connection is kept.
  void begin(ScriptDigests scripts);

  /// Appends the command. Returns what to read its replies by.
  [[nodiscard]] Awaited write(const ShardCommand& command, RequestText& text) const;
  /// Reads the next reply to a command; the replies come in the order of the commands. nullopt: more of them follow.
  /// Throws UnusableReply.
  [[nodiscard]] std::optional<ShardAnswer> read(Awaited& awaited, Reply reply);

 private:
  [[nodiscard]] Awaited write_command(const AskFacts& asked, RequestText& text) const;
  [[nodiscard]] Awaited write_command(const MakeTopology& made, RequestText& text) const;
  [[nodiscard]] Awaited write_command(const AskMarks& asked, RequestText& text) const;
  [[nodiscard]] Awaited write_command(const SendBatch& sent, RequestText& text) const;
  [[nodiscard]] Awaited write_command(const AskCount& asked, RequestText& text) const;
  [[nodiscard]] Awaited write_command(const MoveBucket& move, RequestText& text) const;
  [[nodiscard]] Awaited write_command(const TakeMoves& take, RequestText& text) const;
  [[nodiscard]] Awaited write_command(const AskPersistence& asked, RequestText& text) const;
  [[nodiscard]] Awaited write_command(const AskReplicas& asked, RequestText& text) const;
  [[nodiscard]] Awaited write_command(const AskNodes& asked, RequestText& text) const;
  void write_marks(std::span<const std::uint32_t> buckets, const AskMarks& asked, RequestText& text) const;
  [[nodiscard]] Awaited write_command(const NoteWriter& noted, RequestText& text) const;
  [[nodiscard]] Awaited write_command(const AskWriters& asked, RequestText& text) const;
  [[nodiscard]] Awaited write_command(const ForgetWriter& forgotten, RequestText& text) const;
  [[nodiscard]] Awaited write_command(const AskPages& asked, RequestText& text) const;
  [[nodiscard]] Awaited write_command(const AskSums& asked, RequestText& text) const;
  void write_sums(std::span<const std::uint32_t> buckets, const AskSums& asked, RequestText& text) const;
  void read_fact(Awaited& awaited, Reply reply);
  [[nodiscard]] ShardAnswer read_facts(Reply topology);
  [[nodiscard]] static Topology read_topology(Reply reply);
  [[nodiscard]] static Marks read_marks(Reply reply, std::size_t buckets);
  [[nodiscard]] std::optional<ShardAnswer> read_marks_of_nodes(Awaited& awaited, Reply reply);
  [[nodiscard]] std::optional<Redirect> read_redirect(Reply reply) const;
  [[nodiscard]] ShardAnswer read_nodes(Reply reply);
  [[nodiscard]] static Replicas read_replicas(Reply reply, bool on_disk);
  [[nodiscard]] static BatchAnswer read_batch(Reply reply, std::size_t pages);
  [[nodiscard]] static Count read_count(const Awaited& awaited, Reply reply);
  [[nodiscard]] static Pages read_scan(Reply reply);
  [[nodiscard]] std::optional<ShardAnswer> read_pages(Awaited& awaited, Reply reply);
  [[nodiscard]] std::optional<ShardAnswer> read_sums(Awaited& awaited, Reply reply);
  [[nodiscard]] static MoveAnswer read_move(Reply reply);
  [[nodiscard]] static Persistence read_persistence(Reply reply);
  [[nodiscard]] static ShardAnswer read_of_writers(const Awaited& awaited, Reply reply);
  [[nodiscard]] static Forgotten read_forgotten(Reply reply, std::size_t buckets);

  std::string writer_field_;
  std::string tombstone_;
  bool in_cluster_;
  std::string host_;
  ScriptDigests scripts_;
  Facts facts_;  ///< as far as they have come
  std::string info_;
  Marks marks_;  ///< as far as they have come
  std::string marks_error_;
  bool marks_refused_ = false;  ///< one of them, with another error than that no node serves its slot
  std::string cluster_info_;
  ShardAnswer pages_ = Lost{};  ///< what HSCAN was answered, until HMGET is too
  Sums sums_;                   ///< as far as they have come
  std::string not_written_;     ///< not empty: why WAIT would say nothing
};

}  // namespace visitd
