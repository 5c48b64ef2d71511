// What is said first on a connection: the password, the database, our name, our scripts; and where sentinels named the
// server, whether it is a primary. All of it at once: the replies
// say how far it came. Pure: no connection.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/config/settings.hpp"
#include "flusher/redis/codec.hpp"

namespace visitd {

/// By what a server runs the scripts that it was given.
struct ScriptDigests {
  std::string marks;
  std::string topology;
  std::string batch;
  std::string move;
  std::string take_moves;
  std::string note_writer;
  std::string sum;
};

class Handshake {
 public:
  explicit Handshake(ShardSettings shard) : shard_(std::move(shard)) {}

  /// The same server, with other credentials from the next write() on.
  void use(ShardSettings shard) { shard_ = std::move(shard); }
  /// Nothing of the connection that it was on survives.
  void forget() noexcept;
  /// Appends all of its commands. It begins from the start.
  void write(RequestText& text);

  /// not_primary: the server is not the one that the sentinels were asked for.
  enum class Progress { under_way, done, refused, not_primary };
  /// The reply to its next command. After the last one, and after one that was refused, there are none.
  [[nodiscard]] Progress read(Reply reply);

  /// What the server refused, for people. While it is under way: an error that the server may answer and yet go on.
  [[nodiscard]] const std::string& error() const noexcept { return error_; }
  /// Once it is done.
  [[nodiscard]] const ScriptDigests& scripts() const noexcept { return scripts_; }

 private:
  enum class Step {
    authenticate,
    select_database,
    name,
    role,
    load_marks,
    load_topology,
    load_batch,
    load_move,
    load_take_moves,
    load_note_writer,
    load_sum
  };

  void begin(Step step, std::size_t arguments, RequestText& text);
  [[nodiscard]] Progress read_role(Reply reply);
  [[nodiscard]] std::string refusal(Step step, std::string_view said) const;

  ShardSettings shard_;
  std::vector<Step> steps_;  ///< that have no reply yet, the last one first
  std::string error_;
  ScriptDigests scripts_;
};

}  // namespace visitd
