#include "frontend/server/listening.hpp"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "common/os/errors.hpp"
#include "common/os/file_lease.hpp"
#include "common/os/unix_address.hpp"
#include "tests/unit/temporary_folder.hpp"

namespace visitd {
namespace {

/// The port of an IPv4 or IPv6 socket.
std::uint16_t port_of(const UniqueFd& fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  REQUIRE(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(address).sin6_port
                                             : reinterpret_cast<const sockaddr_in&>(address).sin_port);
}

bool connects(const char* host, std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  ::inet_pton(AF_INET, host, &address.sin_addr);
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM, 0));
  return ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

std::vector<ListeningSocket> open_at(const std::string& address) {
  Settings settings;
  settings.http.listen = {address};
  return open_listening(settings).sockets;
}

std::string failure_of(const std::string& address) {
  try {
    (void)open_at(address);
  } catch (const std::exception& failure) {
    return failure.what();
  }
  return "none";
}

TEST_CASE("the wildcard address serves IPv4, whether or not the host has IPv6") {
  const auto sockets = open_at("[::]:0");
  REQUIRE(sockets.size() == 1);
  CHECK(connects("127.0.0.1", port_of(sockets.front().fd)));
  CHECK((::fcntl(sockets.front().fd.get(), F_GETFL) & O_NONBLOCK) != 0);
  CHECK((::fcntl(sockets.front().fd.get(), F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("several frontends share one address") {
  const auto first = open_at("127.0.0.1:0");
  const std::string same = "127.0.0.1:" + std::to_string(port_of(first.front().fd));
  CHECK(port_of(open_at(same).front().fd) == port_of(first.front().fd));
}

TEST_CASE("an address that is taken is named, with who has it") {
  const UniqueFd other(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(::bind(other.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  REQUIRE(::listen(other.get(), 1) == 0);
  const std::string taken = "127.0.0.1:" + std::to_string(port_of(other));
  CHECK(failure_of(taken) == "listen address '" + taken + "' is in use by process " + std::to_string(getpid()) +
                                 " (frontend-tests): stop it, or choose another address in http.listen");
}

TEST_CASE("a private address is told apart") {
  Settings settings;
  settings.http.listen = {"127.0.0.1:0"};
  settings.http.private_listen = {"127.0.0.1:0"};
  const Listening listening = open_listening(settings);
  REQUIRE(listening.sockets.size() == 2);
  CHECK_FALSE(listening.sockets[0].is_private());
  CHECK(listening.sockets[1].is_private());
  CHECK(listening.has_private_address());
}

TEST_CASE("a private address is one of this host while another process serves it") {
  const test::TemporaryFolder folder;
  Settings settings;
  settings.http.listen = {"127.0.0.1:0"};
  CHECK_FALSE(open_listening(settings).has_private_address());
  settings.http.private_listen = {"unix:" + (folder / "private.sock")};
  CHECK(open_listening(settings).has_private_address());
}

bool connects_to_path(const std::string& path) {
  const sockaddr_un address = unix_address(path);
  const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM, 0));
  return ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

TEST_CASE("a Unix socket is served by one process, and by the next when that one has gone") {
  const test::TemporaryFolder folder;
  Settings settings;
  settings.http.listen = {"unix:" + (folder / "http.sock")};
  const std::string path = folder / "http.sock";
  Listening first = open_listening(settings);
  CHECK(first.sockets.empty());
  REQUIRE(first.unix_paths.size() == 1);
  {
    const auto socket = first.unix_paths.front().try_open();
    REQUIRE(socket);
    CHECK(connects_to_path(path));
    CHECK_FALSE(first.unix_paths.front().try_open());
    Listening second = open_listening(settings);
    CHECK_FALSE(second.unix_paths.front().try_open());
    CHECK(connects_to_path(path));
  }
  first.unix_paths.clear();
  CHECK_FALSE(connects_to_path(path));
  Listening next = open_listening(settings);
  const auto socket = next.unix_paths.front().try_open();
  REQUIRE(socket);
  CHECK(connects_to_path(path));
}

TEST_CASE("a Unix socket is a stranger's entrance where its mode and every folder on its way let others in") {
  const test::TemporaryFolder folder;
  const std::string path = folder / "http.sock";
  const auto entrance = [&](mode_t of_folder, bool is_private = false) {
    REQUIRE(::chmod(folder.path().c_str(), of_folder) == 0);
    UnixListening listening(path, is_private);
    return listening.try_open().value().entrance;
  };
  CHECK(entrance(0700) == Entrance::public_address);
  CHECK(entrance(0750) == Entrance::public_address);
  CHECK(entrance(0755) == Entrance::open_unix_socket);
  CHECK(entrance(0711) == Entrance::open_unix_socket);
  CHECK(entrance(0755, true) == Entrance::private_address);
}

TEST_CASE("a Unix socket that was unlinked is made again, and another's file in its place is left alone") {
  const test::TemporaryFolder folder;
  const std::string path = folder / "http.sock";
  UnixListening listening(path, false);
  // As a server does, it keeps those that were unlinked: their inodes are not given to other files.
  std::vector<ListeningSocket> sockets;
  auto first = listening.try_open();
  REQUIRE(first);
  sockets.push_back(std::move(*first));
  CHECK_FALSE(listening.try_open());
  for (const bool with_lock : {false, true}) {
    REQUIRE(::unlink(path.c_str()) == 0);
    if (with_lock) REQUIRE(::unlink((path + ".lock").c_str()) == 0);
    auto again = listening.try_open();
    REQUIRE(again);
    CHECK(file_identity(path));
    sockets.push_back(std::move(*again));
    CHECK_FALSE(listening.try_open());
  }
  REQUIRE(::unlink(path.c_str()) == 0);
  std::ofstream(path) << "another's";
  CHECK_FALSE(listening.try_open());
  CHECK_FALSE(listening.try_open());
  {
    const UnixListening gone(std::move(listening));
  }
  CHECK(file_identity(path));
}

TEST_CASE("the socket file that a killed process left is replaced") {
  const test::TemporaryFolder folder;
  const std::string path = folder / "http.sock";
  const sockaddr_un address = unix_address(path);
  {
    const UniqueFd dead(::socket(AF_UNIX, SOCK_STREAM, 0));
    REQUIRE(::bind(dead.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  }
  UnixListening listening(path, false);
  const auto socket = listening.try_open();
  REQUIRE(socket);
  CHECK(connects_to_path(path));
}

TEST_CASE("addresses that are none are refused, with what they should be") {
  CHECK(failure_of("8000") == "listen address '8000' is not HOST:PORT, such as [::]:8000 or 127.0.0.1:8000");
  CHECK(failure_of("::1:8000") == "listen address '::1:8000': an IPv6 address stands in brackets, such as [::1]:8000");
  CHECK(failure_of("192.0.2.1:0") == "listen address '192.0.2.1:0' is not an address of this host");
  CHECK(failure_of("no.such.host.invalid:80").starts_with("listen address 'no.such.host.invalid:80': "));
}

}  // namespace
}  // namespace visitd
