#include "common/os/service_manager.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "common/os/errors.hpp"
#include "tests/unit/common/processes.hpp"

using namespace visitd;

namespace {

/// A socket with a name in a folder.
UniqueFd bound_socket(const std::string& path, int type) {
  UniqueFd fd(socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  if (!fd || bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    throw system_error("no socket {}", path);
  return fd;
}

/// What a process says of the sockets that it is passed. Each is duplicated to where systemd puts them.
template <typename Look>
int passed(const std::vector<int>& fds, Look look) {
  test::Child child([&] {
    std::vector<int> copies;
    for (const int fd : fds) copies.push_back(fcntl(fd, F_DUPFD, 100));
    for (std::size_t i = 0; i < copies.size(); ++i) dup2(copies[i], 3 + static_cast<int>(i));
    setenv("LISTEN_PID", std::to_string(getpid()).c_str(), 1);
    setenv("LISTEN_FDS", std::to_string(fds.size()).c_str(), 1);
    return look();
  });
  return child.wait().status;
}

}  // namespace

TEST_CASE("the service manager is told what it is to know, where there is one") {
  const test::TemporaryFolder folder;
  const std::string path = folder / "notify";
  const UniqueFd manager = bound_socket(path, SOCK_DGRAM);
  notify_service_manager("READY=1");  // nobody has asked
  setenv("NOTIFY_SOCKET", path.c_str(), 1);
  notify_service_manager("STOPPING=1");
  unsetenv("NOTIFY_SOCKET");
  char message[64] = {};
  REQUIRE(recv(manager.get(), message, sizeof message - 1, MSG_DONTWAIT) > 0);
  CHECK(std::string(message) == "STOPPING=1");
  CHECK(recv(manager.get(), message, sizeof message, MSG_DONTWAIT) == -1);
}

TEST_CASE("a watchdog is fed a few times in its limit, however often there is progress, and by nobody else's") {
  const test::TemporaryFolder folder;
  const std::string path = folder / "notify";
  const UniqueFd manager = bound_socket(path, SOCK_DGRAM);
  const auto told = [&] {
    std::string all;
    char message[64];
    for (ssize_t size = 0; (size = recv(manager.get(), message, sizeof message, MSG_DONTWAIT)) > 0;)
      all += std::string(message, static_cast<std::size_t>(size)) + " ";
    return all;
  };
  setenv("NOTIFY_SOCKET", path.c_str(), 1);
  Watchdog none;
  none.feed(1);
  none.allow(60'000);
  none.restore();
  CHECK(none.limit_ms() == 0);
  setenv("WATCHDOG_USEC", "8000000", 1);
  setenv("WATCHDOG_PID", std::to_string(getpid() + 1).c_str(), 1);
  Watchdog of_another;
  of_another.feed(1'000'000);
  CHECK(told().empty());
  setenv("WATCHDOG_PID", std::to_string(getpid()).c_str(), 1);
  Watchdog watchdog;
  unsetenv("WATCHDOG_USEC");
  unsetenv("WATCHDOG_PID");
  CHECK(watchdog.limit_ms() == 8000);
  for (std::uint64_t now_ms = 1'000'000; now_ms < 1'008'000; now_ms += 250) watchdog.feed(now_ms);
  CHECK(told() == "WATCHDOG=1 WATCHDOG=1 WATCHDOG=1 WATCHDOG=1 ");
  watchdog.allow(1000);  // less than it has anyway
  watchdog.allow(60'000);
  watchdog.restore();
  CHECK(told() == "WATCHDOG_USEC=60000000 WATCHDOG_USEC=8000000 ");
  unsetenv("NOTIFY_SOCKET");
}

TEST_CASE("no sockets are taken where none were passed") {
  CHECK(take_passed_sockets().empty());
}

TEST_CASE("passed sockets are taken once, in order, and never wait") {
  const test::TemporaryFolder folder;
  const UniqueFd first = bound_socket(folder / "first", SOCK_STREAM);
  const UniqueFd second = bound_socket(folder / "second", SOCK_STREAM);
  REQUIRE(listen(first.get(), 4) == 0);
  REQUIRE(listen(second.get(), 4) == 0);
  const int status = passed({first.get(), second.get()}, [] {
    const std::vector<PassedSocket> sockets = take_passed_sockets();
    if (sockets.size() != 2 || sockets[0].fd.get() != 3 || sockets[1].fd.get() != 4) return 1;
    for (const PassedSocket& socket : sockets) {
      if ((fcntl(socket.fd.get(), F_GETFL) & O_NONBLOCK) == 0) return 2;
      if ((fcntl(socket.fd.get(), F_GETFD) & FD_CLOEXEC) == 0) return 3;
    }
    return take_passed_sockets().empty() ? 0 : 4;
  });
  CHECK(status == 0);
}

TEST_CASE("what is no listening stream socket is refused, and the error names it") {
  const test::TemporaryFolder folder;
  const UniqueFd datagrams = bound_socket(folder / "datagrams", SOCK_DGRAM);
  const UniqueFd deaf = bound_socket(folder / "deaf", SOCK_STREAM);
  for (const int fd : {datagrams.get(), deaf.get()}) {
    const int status = passed({fd}, [] {
      try {
        static_cast<void>(take_passed_sockets());
      } catch (const Error& refusal) {
        return std::string(refusal.what()).find("file descriptor 3") == std::string::npos ? 1 : 0;
      }
      return 2;
    });
    CHECK(status == 0);
  }
}
