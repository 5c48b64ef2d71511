#include "test_client.hpp"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>

#include "common/os/errors.hpp"

namespace visitd {

namespace {

constexpr int patience_ms = 10000;

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; });
  return result;
}

}  // namespace

std::string ClientAnswer::field(std::string_view name) const {
  const std::string heads = lower(head);
  const std::size_t at = heads.find("\r\n" + lower(name) + ": ");
  if (at == std::string::npos) return {};
  const std::size_t begin = at + name.size() + 4;
  return head.substr(begin, head.find("\r\n", begin) - begin);
}

TestClient::TestClient(std::uint16_t port, int receive_buffer_bytes)
    : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  if (receive_buffer_bytes != 0) {
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes, sizeof receive_buffer_bytes);
  }
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    throw system_error("connect");
}

void TestClient::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) throw system_error("send");
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
}

bool TestClient::hears_within(int wait_ms) {
  pollfd watched{fd_.get(), POLLIN, 0};
  return !received_.empty() || ::poll(&watched, 1, wait_ms) > 0;
}

bool TestClient::fill() {
  std::array<char, 65536> bytes;
  pollfd watched{fd_.get(), POLLIN, 0};
  if (::poll(&watched, 1, patience_ms) <= 0) throw error("nothing came; so far: '{}'", received_);
  const ssize_t size = ::recv(fd_.get(), bytes.data(), bytes.size(), 0);
  if (size < 0) throw system_error("recv");
  received_.append(bytes.data(), static_cast<std::size_t>(size));
  return size > 0;
}

ClientAnswer TestClient::receive(bool head_only) {
  std::size_t end = std::string::npos;
  while ((end = received_.find("\r\n\r\n")) == std::string::npos) {
    if (!fill()) throw error("the connection ended; so far: '{}'", received_);
  }
  ClientAnswer answer;
  answer.head = received_.substr(0, end + 2);
  answer.status = std::stoi(answer.head.substr(9, 3));
  received_.erase(0, end + 4);
  const std::string length = answer.field("Content-Length");
  const std::size_t size = head_only || length.empty() ? 0 : std::stoul(length);
  while (received_.size() < size) {
    if (!fill()) throw error("the connection ended in a body");
  }
  answer.body = received_.substr(0, size);
  received_.erase(0, size);
  return answer;
}

bool TestClient::ends() {
  if (!received_.empty()) return false;
  try {
    return !fill();
  } catch (const std::system_error& failure) {
    return failure.code().value() == ECONNRESET;
  }
}

void TestClient::shut_sending() {
  ::shutdown(fd_.get(), SHUT_WR);
}

std::string get_request(std::string_view path, std::string_view fields) {
  return "GET " + std::string(path) + " HTTP/1.1\r\nHost: localhost\r\n" + std::string(fields) + "\r\n";
}

std::string post_request(std::string_view path, std::string_view fields, std::string_view body) {
  return "POST " + std::string(path) + " HTTP/1.1\r\nHost: localhost\r\n" + std::string(fields) + "\r\n" +
         std::string(body);
}

}  // namespace visitd
