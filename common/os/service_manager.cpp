#include "common/os/service_manager.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "common/os/clock.hpp"
#include "common/os/errors.hpp"

namespace visitd {

namespace {

/// The unit's limit must hold several times the pauses between two turns of an idle process.
constexpr std::uint64_t feeds_a_limit = 4;

}  // namespace

bool started_by_service_manager() noexcept {
  const char* pid = std::getenv("SYSTEMD_EXEC_PID");
  return pid != nullptr && pid == std::to_string(::getpid());
}

void notify_service_manager(const std::string& state) noexcept {
  // Without a service manager there is nobody to tell, and nothing to do about it.
  static_cast<void>(::sd_notify(0, state.c_str()));
}

Watchdog::Watchdog() noexcept {
  std::uint64_t limit_us = 0;
  if (::sd_watchdog_enabled(0, &limit_us) > 0) limit_ms_ = limit_us / 1000;
}

void Watchdog::feed(std::uint64_t now_ms) noexcept {
  if (limit_ms_ == 0 || now_ms < fed_ms_ + limit_ms_ / feeds_a_limit) return;
  fed_ms_ = now_ms;
  notify_service_manager("WATCHDOG=1");
}

void Watchdog::allow(std::uint64_t ms) noexcept {
  if (limit_ms_ != 0 && ms > limit_ms_) notify_service_manager(fmt::format("WATCHDOG_USEC={}", ms * 1000));
}

void Watchdog::restore() noexcept {
  if (limit_ms_ != 0) notify_service_manager(fmt::format("WATCHDOG_USEC={}", limit_ms_ * 1000));
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
