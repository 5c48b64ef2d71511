#include "test_server.hpp"

#include <netinet/in.h>
#include <sys/socket.h>

#include "common/os/errors.hpp"
#include "frontend/server/listening.hpp"

namespace visitd {

namespace {

std::uint16_t port_of(int fd) {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) throw system_error("getsockname");
  return ntohs(address.sin_port);
}

}  // namespace

Settings test_settings(HotRoutes hot_routes) {
  Settings settings;
  settings.http.listen = {"127.0.0.1:0"};
  settings.http.hot_routes = hot_routes;
  settings.http.retry_after_s = 2;
  return settings;
}

TestServer::TestServer(const Settings& settings) {
  Listening listening = open_listening(settings);
  port_ = port_of(listening.sockets.front().fd.get());
  if (listening.sockets.size() > 1) private_port_ = port_of(listening.sockets.back().fd.get());
  std::promise<void> ready;
  thread_ = std::thread([&] { serve(settings, listening, ready); });
  ready.get_future().wait();
}

void TestServer::serve(const Settings& settings, Listening& listening, std::promise<void>& ready) {
  uv_loop_init(&loop_);
  wake_.data = this;
  uv_async_init(&loop_, &wake_, [](uv_async_t* wake) {
    auto& self = *static_cast<TestServer*>(wake->data);
    std::vector<std::function<void()>> tasks;
    {
      const std::lock_guard lock(self.mutex_);
      tasks.swap(self.tasks_);
    }
    for (const auto& task : tasks) task();
  });
  {
    EventLoopServer server(&loop_, settings, {counter, counter, questions, host});
    server_ = &server;
    if (listening.has_private_address()) server.keep_private();
    for (ListeningSocket& socket : listening.sockets) server.listen(std::move(socket));
    for (UnixListening& path : listening.unix_paths) server.listen(std::move(path.try_open().value()));
    ready.set_value();
    uv_run(&loop_, UV_RUN_DEFAULT);
  }
  uv_close(reinterpret_cast<uv_handle_t*>(&wake_), nullptr);
  uv_run(&loop_, UV_RUN_DEFAULT);
  uv_loop_close(&loop_);
}

void TestServer::run(const std::function<void(EventLoopServer&)>& task) {
  std::promise<void> done;
  {
    const std::lock_guard lock(mutex_);
    tasks_.emplace_back([&] {
      task(*server_);
      done.set_value();
    });
  }
  uv_async_send(&wake_);
  done.get_future().wait();
}

std::future<void> TestServer::stop() {
  stopped_ = true;
  auto ended = std::make_shared<std::promise<void>>();
  run([&](EventLoopServer& server) {
    server.stop([this, ended] {
      uv_stop(&loop_);
      ended->set_value();
    });
  });
  return ended->get_future();
}

ServerStatistics TestServer::statistics() {
  ServerStatistics statistics;
  run([&](EventLoopServer& server) { statistics = server.statistics(); });
  return statistics;
}

RefusalCounts TestServer::refusals() {
  RefusalCounts refusals{};
  run([&](EventLoopServer& server) { refusals = server.refusals(); });
  return refusals;
}

TestServer::~TestServer() {
  if (!stopped_) stop().wait();
  thread_.join();
}

}  // namespace visitd
