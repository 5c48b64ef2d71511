// The least that an HTTP server can do: an epoll loop that finds the end of each head and answers a constant of the
// size of ours. It is what visit-frontend is measured against. Arguments: PORT (on 127.0.0.1) and the kind of answer,
// "post" or "get".
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

namespace {

constexpr std::string_view post_answer =
    "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Type: "
    "application/json\r\nVary: Origin\r\nAccess-Control-Allow-Origin: *\r\n"
    "Content-Length: 61\r\n\r\n"
    R"({"status":"success","message":"Visit recorded for page home"})";
constexpr std::string_view get_answer =
    "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Type: application/json\r\nCache-Control: "
    "no-store\r\n"
    "Cache-Status: visitd; hit; ttl=3\r\nVary: Origin\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 41\r\n\r\n"
    R"({"count":123456,"served_via":"in-memory"})";

int fail(const char* what) {
  std::perror(what);
  return 1;
}

/// Answers each head that ends in these bytes. False: the connection is over. Only whole heads are expected, as wrk
/// sends them.
bool serve(int fd, std::string_view answer) {
  std::array<char, 65536> bytes;
  const ssize_t size = ::recv(fd, bytes.data(), bytes.size(), 0);
  if (size <= 0) return false;
  std::string_view rest(bytes.data(), static_cast<std::size_t>(size));
  for (std::size_t end = rest.find("\r\n\r\n"); end != std::string_view::npos; end = rest.find("\r\n\r\n")) {
    if (::send(fd, answer.data(), answer.size(), MSG_NOSIGNAL) < 0) return false;
    rest.remove_prefix(end + 4);
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3 || (std::strcmp(argv[2], "post") != 0 && std::strcmp(argv[2], "get") != 0)) {
    std::fprintf(stderr, "usage: %s PORT post|get\n", argv[0]);
    return 2;
  }
  const std::string_view answer = std::strcmp(argv[2], "post") == 0 ? post_answer : get_answer;
  const int listening = ::socket(AF_INET, SOCK_STREAM, 0);
  const int on = 1;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(std::atoi(argv[1])));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ::setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  ::setsockopt(listening, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (::bind(listening, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return fail("bind");
  if (::listen(listening, 4096) != 0) return fail("listen");

  const int poller = ::epoll_create1(0);
  epoll_event watched{};
  watched.events = EPOLLIN;
  watched.data.fd = listening;
  ::epoll_ctl(poller, EPOLL_CTL_ADD, listening, &watched);
  for (std::array<epoll_event, 1024> events;;) {
    const int count = ::epoll_wait(poller, events.data(), static_cast<int>(events.size()), -1);
    for (int i = 0; i < count; ++i) {
      const int fd = events[static_cast<std::size_t>(i)].data.fd;
      if (fd != listening) {
        if (!serve(fd, answer)) ::close(fd);
        continue;
      }
      watched.data.fd = ::accept4(listening, nullptr, nullptr, SOCK_NONBLOCK);
      if (watched.data.fd >= 0) ::epoll_ctl(poller, EPOLL_CTL_ADD, watched.data.fd, &watched);
    }
  }
}
