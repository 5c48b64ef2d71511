// A client's socket on the loop: what it sends, what it takes, and what it has not taken yet.
#pragma once

#include <sys/socket.h>
#include <sys/types.h>

#include <cerrno>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

#include "common/os/unique_fd.hpp"
#include "common/os/uv_handles.hpp"
#include "frontend/server/unsent.hpp"

namespace visitd {

class ClientSocket {
 public:
  /// taken: all of it. held: the client takes no more for now. broken: it takes nothing any more.
  enum class Sent : std::uint8_t { taken, held, broken };

  /// `on_event` finds `owner` in the handle's data. `all_unsent`: bytes of all sockets; outlives this. Throws Error.
  ClientSocket(uv_loop_t* loop, UniqueFd fd, uv_poll_cb on_event, void* owner, std::uint64_t& all_unsent)
      : fd_(std::move(fd)), poll_(make_poll(loop, fd_.get(), owner)), on_event_(on_event), unsent_(all_unsent) {}

  /// Watches for these events from now on; 0: for none. False: the system does not let it.
  [[nodiscard]] bool watch(int events) noexcept {
    if (events == watched_) return true;
    watched_ = events;
    return (events == 0 ? uv_poll_stop(poll_.get()) : uv_poll_start(poll_.get(), events, on_event_)) >= 0;
  }

  /// As recv() does.
  [[nodiscard]] ssize_t receive(std::span<char> room) noexcept {
    return ::recv(fd_.get(), room.data(), room.size(), 0);
  }

  [[nodiscard]] bool has_unsent() const noexcept { return !unsent_.empty(); }
  /// held: it keeps a copy of what is left. Only while it has nothing unsent.
  [[nodiscard]] Sent send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = send_some(bytes);
      if (sent >= 0) {
        bytes.remove_prefix(static_cast<std::size_t>(sent));
      } else if (errno == EAGAIN) {
        unsent_.hold(bytes);
        return Sent::held;
      } else if (errno != EINTR) {
        return Sent::broken;
      }
    }
    return Sent::taken;
  }
  /// What is unsent.
  [[nodiscard]] Sent send_rest() {
    while (!unsent_.empty()) {
      const ssize_t sent = send_some(unsent_.view());
      if (sent < 0) return errno == EAGAIN || errno == EINTR ? Sent::held : Sent::broken;
      unsent_.sent(static_cast<std::size_t>(sent));
    }
    return Sent::taken;
  }
  /// Tells the client that nothing more comes.
  void end_sending() noexcept { ::shutdown(fd_.get(), SHUT_WR); }

 private:
  [[nodiscard]] ssize_t send_some(std::string_view bytes) noexcept {
    return ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }

  UniqueFd fd_;
  UvHandle<uv_poll_t> poll_;
  uv_poll_cb on_event_;
  int watched_ = 0;
  Unsent unsent_;
};

}  // namespace visitd
