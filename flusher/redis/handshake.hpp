// What is said first on a connection: the password, the database, our name, our scripts. All of it at once: the replies
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

  enum class Progress { under_way, done, refused };
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
    load_marks,
    load_topology,
    load_batch,
    load_move,
    load_take_moves
  };

  void begin(Step step, std::size_t arguments, RequestText& text);
  [[nodiscard]] std::string refusal(Step step, std::string_view said) const;

  ShardSettings shard_;
  std::vector<Step> steps_;  ///< that have no reply yet, the last one first
  std::string error_;
  ScriptDigests scripts_;
};

}  // namespace visitd
