// What passes between a process and systemd, where there is one. service_manager.cpp is the sole user of libsystemd.
#pragma once

#include <string>
#include <vector>

#include "common/unique_fd.hpp"

namespace visitd {

/// Tells the service manager: "READY=1", "STOPPING=1", "STATUS=...".
void notify_service_manager(const std::string& state) noexcept;

/// Around a reload: whoever asked systemd for it waits in between.
void notify_reloading() noexcept;
void notify_reloaded() noexcept;

struct PassedSocket {
  UniqueFd fd;
  std::string name;  ///< FileDescriptorName= of its unit, by default the unit's name
};

/// The listening stream sockets that were passed to this process; empty: none. Throws Error where something else was
/// passed.
[[nodiscard]] std::vector<PassedSocket> take_passed_sockets();

}  // namespace visitd
