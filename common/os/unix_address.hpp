// Addresses of Unix sockets.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <cstddef>
#include <string>

#include "common/os/errors.hpp"

namespace visitd {

/// The longest path of a Unix socket; a zero stands behind it.
inline constexpr std::size_t unix_path_limit_bytes = sizeof(sockaddr_un::sun_path) - 1;
static_assert(unix_path_limit_bytes == 107, "as the settings say");

/// Throws Error where the path is too long.
[[nodiscard]] inline sockaddr_un unix_address(const std::string& path) {
  if (path.size() > unix_path_limit_bytes) throw error("{}: too long for a Unix socket", path);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(static_cast<char*>(address.sun_path), path.size());
  return address;
}

}  // namespace visitd
