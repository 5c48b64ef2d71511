// What passes between a process and systemd, where there is one. service_manager.cpp is the sole user of libsystemd.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/os/unique_fd.hpp"

namespace visitd {

/// Whether systemd itself started this process, as a command of a unit. (What such a process starts is not meant.)
[[nodiscard]] bool started_by_service_manager() noexcept;

/// Tells the service manager: "READY=1", "STOPPING=1", "STATUS=...".
void notify_service_manager(const std::string& state) noexcept;

/// Around a reload: whoever asked systemd for it waits in between.
void notify_reloading() noexcept;
void notify_reloaded() noexcept;

/// The service manager's watchdog, where the unit has one (WatchdogSec=): it ends and restarts a process that it has
/// not heard of for that long. So feed it where work has got done, not from a timer.
class Watchdog {
 public:
  Watchdog() noexcept;

  /// WatchdogSec= in milliseconds; 0: nobody watches.
  [[nodiscard]] std::uint64_t limit_ms() const noexcept { return limit_ms_; }
  /// Work has got done. Told a few times in each limit_ms(), however often it is called.
  void feed(std::uint64_t now_ms) noexcept;
  /// Before a piece of work that gets done in `ms`, but cannot say so in between.
  void allow(std::uint64_t ms) noexcept;
  /// After it.
  void restore() noexcept;

 private:
  std::uint64_t limit_ms_ = 0;
  std::uint64_t fed_ms_ = 0;
};

struct PassedSocket {
  UniqueFd fd;
  std::string name;  ///< FileDescriptorName= of its unit, by default the unit's name
};

/// The listening stream sockets that were passed to this process; empty: none. Throws Error where something else was
/// passed.
[[nodiscard]] std::vector<PassedSocket> take_passed_sockets();

}  // namespace visitd
