#include "ctl/control_client.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "common/os/advice.hpp"
#include "common/os/clock.hpp"
#include "common/os/unique_fd.hpp"
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
    if (sent < 0) throw system_error("the flusher does not take the request");
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
}

std::string receive_line(const UniqueFd& socket, std::uint64_t deadline_ms) {
  std::string line;
  for (;;) {
    const std::uint64_t now_ms = monotonic_ms();
    pollfd waiting{socket.get(), POLLIN, 0};
    const int ready = now_ms < deadline_ms
                          ? ::poll(&waiting, 1, static_cast<int>(std::min<std::uint64_t>(deadline_ms - now_ms, 60000)))
                          : 0;
    if (ready < 0 && errno != EINTR) throw system_error("the flusher's answer cannot be waited for");
    if (monotonic_ms() >= deadline_ms) throw Error("the flusher does not answer: it stands still, or is busy");
    if (ready <= 0) continue;
    char bytes[4096];
    const ssize_t got = ::recv(socket.get(), static_cast<char*>(bytes), sizeof bytes, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) throw FlusherAway("the flusher ended before it answered");
    const std::string_view chunk(static_cast<const char*>(bytes), static_cast<std::size_t>(got));
    line += chunk.substr(0, chunk.find('\n'));
    if (chunk.find('\n') != std::string_view::npos) return line;
    if (line.size() > control_answer_bytes) throw Error("what answers is no flusher: its answer has no end");
  }
}

}  // namespace

Json ask_flusher(const std::string& control_socket, const ControlRequest& request) {
  const std::uint64_t patience_ms = std::uint64_t{request.timeout_ms} + control_client_grace_ms;
  const std::uint64_t deadline_ms = monotonic_ms() + patience_ms;
  const UniqueFd socket = connect_to(control_socket, patience_ms);
  send_all(socket, encode_request(request));
  const ControlAnswer answer = decode_answer(receive_line(socket, deadline_ms));
  if (!answer.ok) throw Error(answer.error);
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
