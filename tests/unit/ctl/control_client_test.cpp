#include "ctl/control_client.hpp"

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <uv.h>

#include <csignal>
#include <cstring>
#include <functional>
#include <memory>
#include <thread>

#include "common/os/clock.hpp"
#include "common/os/unique_fd.hpp"
#include "flusher/control.hpp"
#include "tests/unit/ctl/instance.hpp"

namespace visitd::test {
namespace {

class Handler : public ControlHandler {
 public:
  void on_fault(const std::string& what) noexcept override { FAIL_CHECK(what); }
  void handle(const ControlRequest& request, ControlReply reply) override {
    if (request.command == ControlCommand::flush) {
      if (request.timeout_ms >= 1000) reply({true, "", {}, {{"visits", 12}}});
    } else if (request.command == ControlCommand::page) {
      reply({true, "", {{"shard", "redis_7070"}}, {{"count", 41}}});
    } else {
      reply({false, request.argument + " is not held", {}, {}});
    }
  }
};

/// The flusher's own control server on a thread with a loop.
class Flusher {
 public:
  explicit Flusher(const std::string& path) {
    std::signal(SIGPIPE, SIG_IGN);
    REQUIRE(uv_loop_init(&loop_) == 0);
    REQUIRE(uv_async_init(&loop_, &stop_, [](uv_async_t* stop) { uv_stop(stop->loop); }) == 0);
    server_ = std::make_unique<ControlServer>(&loop_, path, handler_);
    thread_ = std::thread([this] { uv_run(&loop_, UV_RUN_DEFAULT); });
  }
  Flusher(const Flusher&) = delete;
  Flusher& operator=(const Flusher&) = delete;
  ~Flusher() {
    uv_async_send(&stop_);
    thread_.join();
    server_.reset();
    uv_close(reinterpret_cast<uv_handle_t*>(&stop_), nullptr);
    uv_run(&loop_, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&loop_) == 0);
  }

 private:
  uv_loop_t loop_{};
  uv_async_t stop_{};
  Handler handler_;
  std::unique_ptr<ControlServer> server_;
  std::thread thread_;
};

/// Takes one connection and does with it what the test wants.
class OtherServer {
 public:
  OtherServer(const std::string& path, std::function<void(int)> serve)
      : socket_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(static_cast<char*>(address.sun_path), path.c_str(), path.size() + 1);
    REQUIRE(::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::listen(socket_.get(), 4) == 0);
    thread_ = std::thread([this, serve = std::move(serve)] {
      const UniqueFd client(::accept(socket_.get(), nullptr, nullptr));
      serve(client.get());
    });
  }
  OtherServer(const OtherServer&) = delete;
  OtherServer& operator=(const OtherServer&) = delete;
  ~OtherServer() { thread_.join(); }

 private:
  UniqueFd socket_;
  std::thread thread_;
};

void answer(int client, std::string_view bytes) {
  char request[4096];
  REQUIRE(::recv(client, static_cast<char*>(request), sizeof request, 0) > 0);
  ::send(client, bytes.data(), bytes.size(), MSG_NOSIGNAL);
}

}  // namespace

TEST_CASE("commands reach the flusher and their answers come back") {
  Instance instance;
  instance.make_ring();
  const Flusher flusher(instance.directory.control_socket());
  CHECK(flush_report(instance.settings, 5000) == Json{{"visits", 12}});
  CHECK(flush_text(flush_report(instance.settings, 5000)) == "flushed, visits 12\n");
  const Json page = page_report(instance.settings, "home");
  CHECK(page["redis"] == Json{{"shard", "redis_7070"}, {"count", 41}});
  CHECK(page_text(page).find("41") != std::string::npos);
  const Json refused = accept_report(instance.settings, "redis_7071", true, "visitctl");
  CHECK(refused["error"] == "redis_7071 is not held");
  CHECK(accept_text(refused).empty());
}

TEST_CASE("a flush that is not done in time has failed and says so") {
  const Instance instance;
  const Flusher flusher(instance.directory.control_socket());
  const Json report = flush_report(instance.settings, 10);
  CHECK(report["error"].get<std::string>().find("did not finish in time") != std::string::npos);
}

TEST_CASE("many requests of one connection are answered in their order") {
  const Instance instance;
  const Flusher flusher(instance.directory.control_socket());
  ControlConnection connection(instance.directory.control_socket(), 5000);
  for (int i = 0; i < 100; ++i) connection.say({ControlCommand::accept, std::to_string(i)});
  connection.say({ControlCommand::page, "home"});
  for (int i = 0; i < 100; ++i) {
    CHECK_THROWS_WITH_AS(static_cast<void>(connection.answer()), (std::to_string(i) + " is not held").c_str(),
                         FlusherRefused);
  }
  CHECK(connection.answer()["count"] == 41);
}

TEST_CASE("what the flusher refuses for the moment is told from what it refuses for good") {
  const Instance instance;
  const Flusher flusher(instance.directory.control_socket());
  const auto may_pass = [&](const ControlRequest& request) {
    try {
      static_cast<void>(ask_flusher(instance.directory.control_socket(), request));
    } catch (const FlusherRefused& refused) {
      return refused.passing;
    }
    FAIL("it was not refused");
    return false;
  };
  CHECK_FALSE(may_pass({ControlCommand::accept, "redis_7071"}));
  CHECK_FALSE(may_pass({ControlCommand::accept, ""}));
  CHECK(may_pass({ControlCommand::flush, "", 10}));  // it is not done in time
  std::vector<ControlConnection> full;
  for (std::size_t i = 0; i < ControlLimits().connections; ++i)
    full.emplace_back(instance.directory.control_socket(), 5000);
  CHECK(may_pass({ControlCommand::page, "home"}));
}

TEST_CASE("why a flusher took no request is read also where it has closed the connection by then") {
  const Instance instance;
  auto server = std::make_unique<OtherServer>(instance.directory.control_socket(), [](int client) {
    const std::string refusal = encode_answer({false, "too many ask at once", {}, {}});
    ::send(client, refusal.data(), refusal.size(), MSG_NOSIGNAL);
  });
  ControlConnection connection(instance.directory.control_socket(), 2000);
  server.reset();
  connection.say({ControlCommand::flush, "", 2000});
  CHECK_THROWS_WITH_AS(static_cast<void>(connection.answer()), "too many ask at once", FlusherRefused);
}

TEST_CASE("without a flusher it is away, also where its socket was left") {
  const Instance instance;
  CHECK_THROWS_AS(static_cast<void>(ask_flusher(instance.directory.control_socket(), {ControlCommand::flush, "", 100})),
                  FlusherAway);
  {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string path = instance.directory.control_socket();
    std::memcpy(static_cast<char*>(address.sun_path), path.c_str(), path.size() + 1);
    const UniqueFd dead(::socket(AF_UNIX, SOCK_STREAM, 0));
    REQUIRE(::bind(dead.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  }
  CHECK_THROWS_AS(static_cast<void>(ask_flusher(instance.directory.control_socket(), {ControlCommand::flush, "", 100})),
                  FlusherAway);
  CHECK(flush_report(instance.settings, 100)["error"].get<std::string>().find("the flusher is away") == 0);
}

TEST_CASE("whatever else answers there is an error") {
  for (const char* said : {"", "hello\n", "[]\n", "{}\n", "{\"ok\":1}\n", "{\"ok\":true", "\xff\n"}) {
    CAPTURE(said);
    const Instance instance;
    const OtherServer server(instance.directory.control_socket(), [&](int client) { answer(client, said); });
    CHECK_THROWS_AS(
        static_cast<void>(ask_flusher(instance.directory.control_socket(), {ControlCommand::flush, "", 2000})), Error);
  }
  const Instance instance;
  const OtherServer server(instance.directory.control_socket(), [&](int client) {
    const std::string endless(4U << 20U, 'x');
    answer(client, endless);
  });
  CHECK_THROWS_AS(
      static_cast<void>(ask_flusher(instance.directory.control_socket(), {ControlCommand::flush, "", 2000})), Error);
}

TEST_CASE("a flusher that stands still is waited for only so long") {
  const Instance instance;
  const OtherServer server(instance.directory.control_socket(), [](int client) {
    char bytes[64];
    while (::recv(client, static_cast<char*>(bytes), sizeof bytes, 0) > 0) {
    }
  });
  const std::uint64_t start = monotonic_ms();
  CHECK_THROWS_WITH_AS(
      static_cast<void>(ask_flusher(instance.directory.control_socket(), {ControlCommand::flush, "", 1})),
      doctest::Contains("does not answer"), Error);
  CHECK(monotonic_ms() - start < 6000);
}

}  // namespace visitd::test
