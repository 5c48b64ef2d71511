#include "common/service_manager.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>

#include <cstdlib>
#include <memory>

#include "common/clock.hpp"
#include "common/errors.hpp"

namespace visitd {

void notify_service_manager(const std::string& state) noexcept {
  // Without a service manager there is nobody to tell, and nothing to do about it.
  static_cast<void>(::sd_notify(0, state.c_str()));
}

void notify_reloading() noexcept {
  notify_service_manager(fmt::format("RELOADING=1\nMONOTONIC_USEC={}", monotonic_ns() / 1000));
}

void notify_reloaded() noexcept {
  notify_service_manager("READY=1");
}

std::vector<PassedSocket> take_passed_sockets() {
  char** names = nullptr;
  const int count = ::sd_listen_fds_with_names(1, &names);
  if (count < 0) throw error("cannot take the sockets that systemd passed: error {}", -count);
  std::vector<PassedSocket> sockets;
  for (int i = 0; i < count; ++i) {
    const std::unique_ptr<char, decltype(&std::free)> name(names[i], &std::free);
    sockets.push_back({UniqueFd(SD_LISTEN_FDS_START + i), name.get()});
  }
  std::free(static_cast<void*>(names));
  for (const PassedSocket& socket : sockets) {
    const int fd = socket.fd.get();
    if (::sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) <= 0) {
      throw error("file descriptor {} that systemd passed is no listening stream socket: correct the socket unit", fd);
    }
    if (::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK) != 0)
      throw system_error("cannot set up the socket that systemd passed");
  }
  return sockets;
}

}  // namespace visitd
