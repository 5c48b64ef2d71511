// A Redis server of another counter, which is read and never written to. The one module of visitctl that knows hiredis.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace visitd {

/// A connection to one server, which waits for each answer for a bounded time. Throws Error, which never holds a
/// password.
class RedisSource {
 public:
  /// Keys that a server looks at for one piece of a scan: it is not held up for a millisecond.
  static constexpr std::uint64_t scanned_at_once = 1000;

  /// Which process a server is, and whether it is a replica.
  struct Identity {
    std::string run_id;
    bool is_replica = false;
  };

  /// `url`: as parse_shard_address reads it; neither TLS nor sentinels. `timeout_ms`: for each answer.
  RedisSource(const std::string& url, std::uint32_t timeout_ms);
  ~RedisSource();
  RedisSource(RedisSource&&) noexcept;
  RedisSource& operator=(RedisSource&&) = delete;

  /// HOST:PORT or the path of the socket, with the database, for people.
  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  [[nodiscard]] std::uint32_t database() const noexcept { return database_; }
  [[nodiscard]] Identity identity();
  /// Keys of the database.
  [[nodiscard]] std::uint64_t keys();
  /// A piece of all keys that match the pattern, from this cursor on: the next cursor and keys, of which Redis may name
  /// one more than once. The first cursor is "0", and so is the one behind the last piece.
  [[nodiscard]] std::pair<std::string, std::vector<std::string>> scan(const std::string& cursor,
                                                                      const std::string& pattern);
  /// How the strings of these keys begin, as far as a count goes; nullopt: there is no such key any more, or it is no
  /// string.
  [[nodiscard]] std::vector<std::optional<std::string>> strings(const std::vector<std::string>& keys);
  /// Has `take` called with each member of a sorted set and its score, maybe more than once. False: the key is no
  /// sorted set.
  bool each_member(const std::string& key,
                   const std::function<void(std::string_view member, std::string_view score)>& take);

 private:
  struct Connection;

  void connect(const std::string& url, std::uint32_t timeout_ms);

  std::string name_;
  std::uint32_t database_ = 0;
  std::unique_ptr<Connection> connection_;
};

}  // namespace visitd
