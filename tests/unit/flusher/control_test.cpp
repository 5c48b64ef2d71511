#include "flusher/control.hpp"

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <uv.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <stdexcept>

#include "common/os/clock.hpp"
#include "common/os/errors.hpp"
#include "common/os/unique_fd.hpp"
#include "tests/unit/temporary_folder.hpp"

namespace visitd::test {
namespace {

/// Answers at once, later, twice, or by throwing, as the test wants it.
class Handler : public ControlHandler {
 public:
  void handle(const ControlRequest& request, ControlReply reply) override {
    requests.push_back(request);
    if (request.argument == "throw") throw std::runtime_error("it broke");
    if (request.command == ControlCommand::flush) {
      later = std::move(reply);
      return;
    }
    ControlAnswer answer;
    answer.ok = request.argument != "refused";
    if (!answer.ok) answer.error = "refused is not held";
    answer.text = {{"shard", "redis_7070"}};
    answer.numbers = {{"count", 18446744073709551615U}};
    reply(answer);
    if (request.argument == "throw later") throw std::runtime_error("it broke");
  }

  void on_fault(const std::string& what) noexcept override { faults.push_back(what); }

  std::vector<ControlRequest> requests;
  std::vector<std::string> faults;
  ControlReply later;
};

class Loop {
 public:
  Loop() {
    std::signal(SIGPIPE, SIG_IGN);
    REQUIRE(uv_loop_init(&loop_) == 0);
  }
  ~Loop() {
    uv_run(&loop_, UV_RUN_NOWAIT);
    CHECK(uv_loop_close(&loop_) == 0);
  }
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  [[nodiscard]] uv_loop_t* get() noexcept { return &loop_; }
  void turn() { uv_run(&loop_, UV_RUN_NOWAIT); }

 private:
  uv_loop_t loop_{};
};

class Client {
 public:
  Client(Loop& loop, const std::string& path)
      : loop_(loop), socket_(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(static_cast<char*>(address.sun_path), path.c_str(), path.size() + 1);
    REQUIRE(::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  }

  void send(std::string_view bytes) {
    const std::uint64_t deadline = monotonic_ms() + 5000;
    while (!bytes.empty() && monotonic_ms() < deadline) {
      const ssize_t sent = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent > 0) bytes.remove_prefix(static_cast<std::size_t>(sent));
      if (sent < 0 && errno != EAGAIN) return;  // the server has closed
      loop_.turn();
    }
  }

  /// The next line; "(closed)", or "(nothing)" within the time.
  std::string line(std::uint64_t limit_ms = 5000) {
    const std::uint64_t deadline = monotonic_ms() + limit_ms;
    for (;;) {
      if (const std::size_t end = input_.find('\n'); end != std::string::npos) {
        const std::string line = input_.substr(0, end);
        input_.erase(0, end + 1);
        return line;
      }
      loop_.turn();
      char bytes[4096];
      const ssize_t got = ::recv(socket_.get(), static_cast<char*>(bytes), sizeof bytes, 0);
      if (got > 0) {
        input_.append(static_cast<const char*>(bytes), static_cast<std::size_t>(got));
      } else if (got == 0 || errno != EAGAIN) {
        return "(closed)";
      } else if (monotonic_ms() > deadline) {
        return "(nothing)";
      }
    }
  }

  std::string ask(std::string_view request) {
    send(request);
    return line();
  }
  void finish_sending() const { ::shutdown(socket_.get(), SHUT_WR); }

 private:
  Loop& loop_;
  UniqueFd socket_;
  std::string input_;
};

struct Served {
  explicit Served(ControlLimits limits = {}) : server(loop.get(), path, handler, limits) {}

  TemporaryFolder directory;
  std::string path = directory.path() + "/flusher.sock";
  Handler handler;
  Loop loop;
  ControlServer server;
};

}  // namespace

TEST_CASE("of a user who is to be refused nothing is taken") {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/flusher.sock";
  const std::string accept = "{\"command\":\"accept\",\"argument\":\"redis_7070\"}\n";
  Handler handler;
  Loop loop;
  {
    const ControlServer server(loop.get(), path, handler, {}, geteuid());
    Client client(loop, path);
    CHECK(client.ask(accept) == "(closed)");
    CHECK(handler.requests.empty());
  }
  const ControlServer server(loop.get(), path, handler, {}, geteuid() + 1);
  Client client(loop, path);
  CHECK(client.ask(accept).starts_with(R"({"ok":true)"));
  CHECK(handler.requests.size() == 1);
}

TEST_CASE("a control request is handed over and its answer written as one line of JSON") {
  Served served;
  Client client(served.loop, served.path);
  CHECK(client.ask("{\"command\":\"page\",\"argument\":\"h\\u00f6me\",\"timeout_ms\":700}\n") ==
        R"({"ok":true,"shard":"redis_7070","count":18446744073709551615})");
  REQUIRE(served.handler.requests.size() == 1);
  CHECK(served.handler.requests[0].command == ControlCommand::page);
  CHECK(served.handler.requests[0].argument == "höme");
  CHECK(served.handler.requests[0].timeout_ms == 700);
  CHECK(client.ask("{\"command\":\"accept\",\"argument\":\"refused\"}\n") ==
        R"({"ok":false,"error":"refused is not held","shard":"redis_7070","count":18446744073709551615})");
}

TEST_CASE("the control socket is for its owner and group, whatever the umask") {
  const TemporaryFolder directory;
  const std::string path = directory.path() + "/flusher.sock";
  Handler handler;
  Loop loop;
  for (const mode_t mask : {mode_t{0}, mode_t{0777}}) {
    const mode_t old = umask(mask);
    const ControlServer server(loop.get(), path, handler);
    umask(old);
    struct stat state{};
    REQUIRE(stat(path.c_str(), &state) == 0);
    CHECK(S_ISSOCK(state.st_mode));
    CHECK((state.st_mode & 0777U) == 0660);
  }
}

TEST_CASE("a socket left by a killed flusher is replaced, and one's own removed at the end") {
  const TemporaryFolder directory;
  const std::string path = directory.path() + "/flusher.sock";
  for (const std::string& left : {path, path + ".new"}) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(static_cast<char*>(address.sun_path), left.c_str(), left.size() + 1);
    const UniqueFd dead(::socket(AF_UNIX, SOCK_STREAM, 0));
    REQUIRE(::bind(dead.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  }
  Handler handler;
  Loop loop;
  {
    const ControlServer server(loop.get(), path, handler);
    Client client(loop, path);
    CHECK(client.ask("{\"command\":\"page\",\"argument\":\"home\"}\n").starts_with(R"({"ok":true)"));
  }
  CHECK(std::filesystem::is_empty(directory.path()));
}

TEST_CASE("a socket that took the place of ours is left alone") {
  const TemporaryFolder directory;
  const std::string path = directory.path() + "/flusher.sock";
  Handler handler;
  Loop loop;
  auto first = std::make_unique<ControlServer>(loop.get(), path, handler);
  const ControlServer second(loop.get(), path, handler);
  first.reset();
  loop.turn();
  Client client(loop, path);
  CHECK(client.ask("{\"command\":\"page\",\"argument\":\"home\"}\n").starts_with(R"({"ok":true)"));
}

TEST_CASE("a control socket that cannot be made is refused with its path") {
  Handler handler;
  Loop loop;
  const TemporaryFolder directory;
  const std::string path = directory.path() + "/none/flusher.sock";
  CHECK_THROWS_WITH_AS(ControlServer(loop.get(), path, handler), doctest::Contains(path.c_str()), Error);
}

TEST_CASE("what is no request is refused and the connection goes on") {
  Served served;
  Client client(served.loop, served.path);
  const auto refused = [&](const std::string& request, const char* why) {
    const std::string answer = client.ask(request + "\n");
    CHECK_MESSAGE(answer.starts_with(R"({"ok":false,"error":")"), answer);
    CHECK_MESSAGE(answer.find(why) != std::string::npos, answer);
  };
  refused("", "one JSON object");
  refused("flush", "one JSON object");
  refused("[\"flush\"]", "one JSON object");
  refused(std::string(30000, '['), "one JSON object");
  refused("{\"command\":\"page\",\"argument\":\"\xff\"}", "one JSON object");
  refused("{}", "unknown command");
  refused("{\"command\":\"stop\"}", "flush, page, accept");
  refused("{\"command\":1}", "nothing else");
  refused("{\"command\":\"flush\",\"timeout_ms\":-1}", "nothing else");
  refused("{\"command\":\"flush\",\"now\":true}", "nothing else");
  refused("{\"command\":\"flush\",\"argument\":\"home\"}", "flush takes no argument");
  refused("{\"command\":\"page\"}", "page needs an argument: a page id");
  refused("{\"command\":\"accept\",\"argument\":\"\"}", "accept needs an argument: a shard's name");
  CHECK(served.handler.requests.empty());
  CHECK(client.ask("{\"command\":\"page\",\"argument\":\"home\"}\n").starts_with(R"({"ok":true)"));
}

TEST_CASE("requests of one connection are answered in order, also those sent before an answer") {
  Served served;
  Client client(served.loop, served.path);
  client.send("{\"command\":\"flush\"}\n{\"command\":\"accept\",\"argument\":\"refused\"}\n{\"comm");
  CHECK(client.line(50) == "(nothing)");
  CHECK(served.handler.requests.size() == 1);
  served.handler.later({true, "", {}, {{"visits", 3}}});
  CHECK(client.line() == R"({"ok":true,"visits":3})");
  CHECK(client.line().find("refused is not held") != std::string::npos);
  CHECK(client.ask("and\":\"page\",\"argument\":\"home\"}\n").starts_with(R"({"ok":true)"));
}

TEST_CASE("a client that has finished sending still gets its answer") {
  Served served;
  Client client(served.loop, served.path);
  client.send("{\"command\":\"flush\"}\n");
  client.finish_sending();
  CHECK(client.line(20) == "(nothing)");
  REQUIRE(served.handler.later);
  served.handler.later({true, "", {}, {}});
  CHECK(client.line() == R"({"ok":true})");
  CHECK(client.line() == "(closed)");
}

TEST_CASE("an answer for a client that has gone, or after the server, is ignored") {
  Handler handler;
  Loop loop;
  const TemporaryFolder directory;
  const std::string path = directory.path() + "/flusher.sock";
  auto server = std::make_unique<ControlServer>(loop.get(), path, handler);
  {
    Client client(loop, path);
    client.send("{\"command\":\"flush\"}\n");
    CHECK(client.line(20) == "(nothing)");
  }
  REQUIRE(handler.later);
  handler.later({true, "", {}, {}});
  for (int i = 0; i < 5; ++i) loop.turn();
  handler.later({true, "", {}, {}});
  Client client(loop, path);
  client.send("{\"command\":\"flush\"}\n");
  CHECK(client.line(20) == "(nothing)");
  server.reset();
  loop.turn();
  handler.later({true, "", {}, {}});
  CHECK(client.line() == "(closed)");
}

TEST_CASE("what the handler throws is the answer, and a second answer is ignored") {
  Served served;
  Client client(served.loop, served.path);
  CHECK(client.ask("{\"command\":\"page\",\"argument\":\"throw\"}\n") == R"({"ok":false,"error":"it broke"})");
  CHECK(client.ask("{\"command\":\"page\",\"argument\":\"throw later\"}\n").starts_with(R"({"ok":true)"));
  client.send("{\"command\":\"flush\"}\n");
  CHECK(client.line(20) == "(nothing)");
  served.handler.later({true, "", {}, {{"visits", 1}}});
  served.handler.later({true, "", {}, {{"visits", 2}}});
  CHECK(client.line() == R"({"ok":true,"visits":1})");
  client.send("{\"command\":\"page\",\"argument\":\"home\"}\n");
  served.handler.later({true, "", {}, {{"visits", 3}}});
  CHECK(client.line().find("count") != std::string::npos);
  CHECK(client.line(20) == "(nothing)");
}

TEST_CASE("a handler that does not answer in time is answered for") {
  Served served;
  Client client(served.loop, served.path);
  CHECK(client.ask("{\"command\":\"flush\",\"timeout_ms\":1}\n").find("did not finish in time") != std::string::npos);
  CHECK(client.ask("{\"command\":\"page\",\"argument\":\"home\"}\n").starts_with(R"({"ok":true)"));
}

TEST_CASE("a line without end is refused and the connection closed") {
  Served served({65536, 16, 10'000});
  for (const bool ended : {false, true}) {
    Client client(served.loop, served.path);
    client.send(std::string(70000, 'x') + (ended ? "\n" : ""));
    CHECK(client.line().find("shorter than 65536 bytes") != std::string::npos);
    CHECK(client.line() == "(closed)");
  }
}

TEST_CASE("a connection that asks nothing is closed, however slowly it sends") {
  Served served({65536, 16, 100});
  Client idle(served.loop, served.path);
  Client slow(served.loop, served.path);
  std::string end = "(nothing)";
  for (int i = 0; i < 200 && end == "(nothing)"; ++i) {
    slow.send("x");
    end = slow.line(10);
  }
  CHECK(end == "(closed)");
  CHECK(idle.line() == "(closed)");
}

TEST_CASE("connections beyond the limit are refused, and one that ends makes room") {
  Served served({65536, 2, 10000});
  Client first(served.loop, served.path);
  {
    Client second(served.loop, served.path);
    CHECK(second.ask("{}\n").find("unknown command") != std::string::npos);
    CHECK(first.ask("{}\n").find("unknown command") != std::string::npos);
    Client third(served.loop, served.path);
    CHECK(third.line().find("too many at once") != std::string::npos);
    CHECK(third.line() == "(closed)");
  }
  for (int i = 0; i < 5; ++i) served.loop.turn();
  Client fourth(served.loop, served.path);
  CHECK(fourth.ask("{}\n").find("unknown command") != std::string::npos);
}

}  // namespace visitd::test
