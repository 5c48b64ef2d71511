#include "frontend/server/doors.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "common/os/errors.hpp"
#include "common/os/log.hpp"

namespace visitd {

namespace {

/// Accepted in one go: others on the loop, and other processes at the same socket, get their turn in between.
constexpr int accepts_at_once = 16;
/// So many times more, when a door is closed.
constexpr int last_accepts = 64;
/// How long nothing is accepted after the system refused to.
constexpr std::uint64_t pause_ms = 100;

void set_send_buffer_of(int fd, int bytes) noexcept {
  ::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
}

}  // namespace

/// A listening socket, watched.
struct Doors::Door {
  Door(Doors& its_doors, ListeningSocket its_socket)
      : doors(its_doors), socket(std::move(its_socket)), poll(make_poll(doors.loop_, socket.fd.get(), this)) {}

  void open() {
    const int result = uv_poll_start(poll.get(), UV_READABLE, [](uv_poll_t* readable, int, int) {
      const Door& door = *static_cast<const Door*>(readable->data);
      door.doors.accept_from(door);
    });
    check_uv(result, "cannot poll a listening socket");
  }

  Doors& doors;
  ListeningSocket socket;
  UvHandle<uv_poll_t> poll;
};

Doors::Doors(uv_loop_t* loop, Doorkeeper& keeper, int send_buffer_bytes)
    : loop_(loop), keeper_(keeper), send_buffer_bytes_(send_buffer_bytes), pause_timer_(make_timer(loop, this)) {}

Doors::~Doors() = default;

void Doors::open(ListeningSocket socket) {
  // Both are inherited by what is accepted. Answers are whole when they are sent, there is nothing to wait for; and a
  // client that never takes them is to be noticed before the kernel holds megabytes of them.
  const int on = 1;
  ::setsockopt(socket.fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  set_send_buffer_of(socket.fd.get(), send_buffer_bytes_);
  if (!socket.path.empty()) close_at(socket.path);
  auto door = std::make_unique<Door>(*this, std::move(socket));
  door->open();
  doors_.push_back(std::move(door));
}

void Doors::set_send_buffer(int bytes) noexcept {
  send_buffer_bytes_ = bytes;
  for (const auto& door : doors_) set_send_buffer_of(door->socket.fd.get(), bytes);
}

void Doors::close() {
  for (const auto& door : doors_) {
    for (int i = 0; i < last_accepts && !door->socket.is_shared && accept_from(*door); ++i) continue;
  }
  doors_.clear();
  uv_timer_stop(pause_timer_.get());
}

/// One that was unlinked: who has connected already is served.
void Doors::close_at(const std::string& unix_path) {
  std::erase_if(doors_, [&](const std::unique_ptr<Door>& door) {
    if (door->socket.path != unix_path) return false;
    for (int i = 0; i < last_accepts && accept_from(*door); ++i) continue;
    return true;
  });
}

bool Doors::accept_from(const Door& door) {
  for (int i = 0; i < accepts_at_once; ++i) {
    if (!keeper_.has_room()) {
      pause();
      return false;
    }
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    UniqueFd fd(
        ::accept4(door.socket.fd.get(), reinterpret_cast<sockaddr*>(&address), &size, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!fd) {
      if (errno == EAGAIN) return false;
      if (errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM) continue;
      log::warning("{}", system_error("cannot accept connections").what());
      pause();
      return false;
    }
    keeper_.take_in(std::move(fd), client_address(address), door.socket.entrance);
  }
  return true;
}

void Doors::pause() noexcept {
  for (const auto& door : doors_) uv_poll_stop(door->poll.get());
  uv_timer_start(
      pause_timer_.get(),
      [](uv_timer_t* timer) {
        for (const auto& door : static_cast<Doors*>(timer->data)->doors_) door->open();
      },
      pause_ms, 0);
}

}  // namespace visitd
