#include "flusher/redis/transport.hpp"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <system_error>

#include "common/os/errors.hpp"
#include "common/os/unique_fd.hpp"
#include "common/os/unix_address.hpp"

namespace visitd {

namespace {

[[noreturn]] void fail(int number) {
  throw Error(std::generic_category().message(number));
}

class SocketTransport : public Transport {
 public:
  SocketTransport(const sockaddr* address, socklen_t length)
      : socket_(::socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) {
    if (!socket_) fail(errno);
    if (address->sa_family != AF_UNIX) {
      const int at_once = 1;
      if (setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &at_once, sizeof at_once) != 0) fail(errno);
    }
    if (::connect(socket_.get(), address, length) != 0 && errno != EINPROGRESS) fail(errno);
  }

  [[nodiscard]] int descriptor() const noexcept override { return socket_.get(); }

  [[nodiscard]] bool waits_to_read() const noexcept override { return false; }

  Phase go_on() override {
    int failed = 0;
    socklen_t size = sizeof failed;
    if (getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &failed, &size) != 0) fail(errno);
    if (failed != 0) fail(failed);
    return Phase::stands;
  }

  [[nodiscard]] std::size_t send(std::string_view bytes) override {
    return moved(::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL));
  }

  [[nodiscard]] std::size_t receive(char* buffer, std::size_t size) override {
    const ssize_t came = ::recv(socket_.get(), buffer, size, 0);
    if (came == 0) throw Error("Server closed the connection");
    return moved(came);
  }

 private:
  static std::size_t moved(ssize_t bytes) {
    if (bytes >= 0) return static_cast<std::size_t>(bytes);
    if (errno != EAGAIN && errno != EINTR) fail(errno);
    return 0;
  }

  UniqueFd socket_;
};

}  // namespace

std::unique_ptr<Transport> connect_tcp(const std::string& address, std::uint16_t port) {
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int failed = getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &found); failed != 0) {
    throw Error(gai_strerror(failed));
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owned(found, freeaddrinfo);
  return std::make_unique<SocketTransport>(found->ai_addr, found->ai_addrlen);
}

std::unique_ptr<Transport> connect_unix(const std::string& path) {
  const sockaddr_un address = unix_address(path);
  return std::make_unique<SocketTransport>(reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

}  // namespace visitd
