// How our commands are said to a server, and what its replies to them mean. Pure: no connection.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

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
    topology_of_facts,
    topology,
    marks,
    batch,
    move,
    mover,
    persistence,
    count
  };
  Kind kind = Kind::count;
  std::uint32_t size = 0;   ///< batch: pages; marks: buckets
  std::string writer = {};  ///< mover: who asked
};

/// Of one connection.
class Dialect {
 public:
  /// `writer`: names our field in each bucket ("\x01w:" and this).
  explicit Dialect(const std::string& writer) : writer_field_("\x01w:" + writer) {}

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
  void read_fact(Awaited& awaited, Reply reply);
  [[nodiscard]] Facts read_facts(Reply topology);
  [[nodiscard]] static Topology read_topology(Reply reply);
  [[nodiscard]] static Marks read_marks(Reply reply, std::size_t buckets);
  [[nodiscard]] static BatchAnswer read_batch(Reply reply, std::size_t pages);
  [[nodiscard]] static Count read_count(Reply reply);
  [[nodiscard]] static MoveAnswer read_move(Reply reply);

  std::string writer_field_;
  ScriptDigests scripts_;
  Facts facts_;  ///< as far as they have come
  std::string info_;
};

}  // namespace visitd
