// An EventLoopServer over a FakeCounting, on a loop and a thread of its own.
#pragma once

#include <uv.h>

#include <cstdint>
#include <functional>
#include <future>
#include <mutex>
#include <thread>
#include <vector>

#include "common/config/settings.hpp"
#include "fake_counting.hpp"
#include "fake_host_status.hpp"
#include "fake_questions.hpp"
#include "frontend/server/event_loop_server.hpp"

namespace visitd {

class TestServer {
 public:
  explicit TestServer(const Settings& settings);
  /// Stops the server, in order.
  ~TestServer();
  TestServer(const TestServer&) = delete;
  TestServer& operator=(const TestServer&) = delete;

  [[nodiscard]] std::uint16_t port() const noexcept { return port_; }
  /// Runs on the server's thread; returns when that is done.
  void run(const std::function<void(EventLoopServer&)>& task);
  /// Begins to stop; the future is ready when the server has ended.
  std::future<void> stop();
  /// Of the last of several addresses in the settings.
  [[nodiscard]] std::uint16_t private_port() const noexcept { return private_port_; }
  [[nodiscard]] ServerStatistics statistics();
  [[nodiscard]] RefusalCounts refusals();

  FakeCounting counter;
  FakeQuestions questions;
  FakeHostStatus host;

 private:
  void serve(const Settings& settings, Listening& listening, std::promise<void>& ready);

  std::uint16_t port_ = 0;
  std::uint16_t private_port_ = 0;
  uv_loop_t loop_{};
  uv_async_t wake_{};
  EventLoopServer* server_ = nullptr;
  std::mutex mutex_;
  std::vector<std::function<void()>> tasks_;
  std::thread thread_;
  bool stopped_ = false;
};

/// Settings of a server on a free port of 127.0.0.1.
[[nodiscard]] Settings test_settings(HotRoutes hot_routes);

}  // namespace visitd
