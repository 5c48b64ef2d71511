#include "ctl/control_client.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "common/os/advice.hpp"
#include "common/os/clock.hpp"
#include "common/os/unix_address.hpp"

namespace visitd {

namespace {

constexpr auto restart_pause = std::chrono::milliseconds(250);

UniqueFd connect_to(const std::string& path, std::uint64_t timeout_ms) {
  const sockaddr_un address = unix_address(path);
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) throw system_error("a Unix socket cannot be made");
  // Of connect as well as of send: a flusher that stands still takes no connections either.
  const timeval limit{static_cast<time_t>(timeout_ms / 1000), static_cast<suseconds_t>(timeout_ms % 1000 * 1000)};
  if (::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) != 0) {
    throw system_error("{}: cannot set a timeout", path);
  }
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    if (errno == ENOENT || errno == ENOTDIR || errno == ECONNREFUSED) {
      throw FlusherAway(fmt::format("the flusher is away: nobody listens at {}", path));
    }
    if (errno == EAGAIN) throw error("the flusher takes no connections at {}: it stands still, or is busy", path);
    throw system_error("{} cannot be connected to; {}", path, advice_for_path(errno, path));
  }
  return socket;
}

void send_all(const UniqueFd& socket, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    // It has said why it takes no request, which is read next; or it has ended.
    if (sent < 0 && (errno == EPIPE || errno == ECONNRESET)) return;
    if (sent < 0) throw system_error("the flusher does not take the request");
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
}

/// `received`: what came behind the line before, and comes behind this one.
std::string receive_line(const UniqueFd& socket, std::uint64_t deadline_ms, std::string& received) {
  for (std::size_t looked_at = 0;;) {
    if (const std::size_t end = received.find('\n', looked_at); end != std::string::npos) {
      std::string line = received.substr(0, end);
      received.erase(0, end + 1);
      return line;
    }
    if (received.size() > control_answer_bytes) throw Error("what answers is no flusher: its answer has no end");
    looked_at = received.size();
    const std::uint64_t now_ms = monotonic_ms();
    pollfd waiting{socket.get(), POLLIN, 0};
    const int ready = now_ms < deadline_ms
                          ? ::poll(&waiting, 1, static_cast<int>(std::min<std::uint64_t>(deadline_ms - now_ms, 60000)))
                          : 0;
    if (ready < 0 && errno != EINTR) throw system_error("the flusher's answer cannot be waited for");
    if (monotonic_ms() >= deadline_ms) throw Error("the flusher does not answer: it stands still, or is busy");
    if (ready <= 0) continue;
    char bytes[65536];
    const ssize_t got = ::recv(socket.get(), static_cast<char*>(bytes), sizeof bytes, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) throw FlusherAway("the flusher ended before it answered");
    received.append(static_cast<const char*>(bytes), static_cast<std::size_t>(got));
  }
}

Json values_of(const ControlAnswer& answer) {
  Json report = Json::object();
  for (const auto& [name, value] : answer.text) report[name] = value;
  for (const auto& [name, value] : answer.numbers) report[name] = value;
  for (const ControlRow& row : answer.rows) {
    Json values = Json::object();
    for (const auto& [name, value] : row.text) values[name] = value;
    for (const auto& [name, value] : row.numbers) values[name] = value;
    report["rows"].push_back(std::move(values));
  }
  return report;
}

}  // namespace

ControlConnection::ControlConnection(const std::string& control_socket, std::uint32_t timeout_ms)
    : timeout_ms_(timeout_ms),
      socket_(connect_to(control_socket, std::uint64_t{timeout_ms} + control_client_grace_ms)) {}

void ControlConnection::say(const ControlRequest& request) {
  send_all(socket_, encode_request(request));
}

Json ControlConnection::answer() {
  const std::uint64_t deadline_ms = monotonic_ms() + timeout_ms_ + control_client_grace_ms;
  const ControlAnswer said = decode_answer(receive_line(socket_, deadline_ms, received_));
  if (!said.ok) throw FlusherRefused(said.error, said.passing);
  return values_of(said);
}

Json ask_flusher(const std::string& control_socket, const ControlRequest& request) {
  ControlConnection flusher(control_socket, request.timeout_ms);
  flusher.say(request);
  return flusher.answer();
}

Json ask_patiently(const std::string& control_socket, const ControlRequest& request, std::uint64_t patience_ms) {
  const std::uint64_t until_ms = monotonic_ms() + patience_ms;
  for (;;) {
    try {
      return ask_flusher(control_socket, request);
    } catch (const FlusherAway&) {
      if (monotonic_ms() >= until_ms) throw;
      std::this_thread::sleep_for(restart_pause);
    }
  }
}

}  // namespace visitd
