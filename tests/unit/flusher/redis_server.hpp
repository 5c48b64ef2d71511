// A real redis-server for one test case, and a plain way to ask it something.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "common/os/unique_fd.hpp"
#include "tests/unit/temporary_folder.hpp"

namespace visitd::test {

/// A TCP port of the loopback that nobody listens on now.
[[nodiscard]] std::uint16_t free_port();

/// A blocking connection that speaks Redis's protocol.
class RedisClient {
 public:
  explicit RedisClient(std::uint16_t port);

  /// The reply as text: an array's elements each on a line, "(nil)" for none, errors with their minus sign.
  [[nodiscard]] std::string ask(const std::vector<std::string>& command);

 private:
  [[nodiscard]] std::string read_line();
  [[nodiscard]] std::string read_reply();
  void fill();

  UniqueFd socket_;
  std::string buffer_;
};

/// Listens on 127.0.0.1 and on a Unix socket; append-only unless the flags say otherwise. Killed when it goes.
class RedisServer {
 public:
  explicit RedisServer(std::vector<std::string> flags = {});
  RedisServer(const RedisServer&) = delete;
  RedisServer& operator=(const RedisServer&) = delete;
  ~RedisServer();

  /// Starts it again on the same port with the same data; returns when it answers.
  void start();
  /// kill -9.
  void kill();
  /// SIGSTOP, SIGCONT: it is there but says nothing.
  void pause();
  void resume();

  [[nodiscard]] std::uint16_t port() const noexcept { return port_; }
  [[nodiscard]] std::string unix_path() const { return directory_.path() + "/socket"; }
  /// On a connection of its own.
  [[nodiscard]] std::string ask(const std::vector<std::string>& command) const {
    return RedisClient(port_).ask(command);
  }

 private:
  TemporaryFolder directory_;
  std::vector<std::string> flags_;
  std::uint16_t port_;
  pid_t process_ = -1;
};

/// Speaks as much of Redis's protocol as a connection needs to be ready, then answers HMGETs one each 300 ms,
/// each of them so often.
class TricklingServer {
 public:
  explicit TricklingServer(int often = 1);
  TricklingServer(const TricklingServer&) = delete;
  TricklingServer& operator=(const TricklingServer&) = delete;
  ~TricklingServer();
  [[nodiscard]] std::uint16_t port() const noexcept { return port_; }

 private:
  void serve();

  UniqueFd socket_;
  int often_;
  std::uint16_t port_ = 0;
  std::atomic<bool> ending_ = false;
  std::thread thread_;
};

}  // namespace visitd::test
