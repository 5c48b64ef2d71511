// Who has a port, for the message that it is taken.
#pragma once

#include <cstdint>
#include <string>

namespace visitd {

/// Who listens at a TCP port of this host, as far as this process may see: "process 12 (nginx)", "systemd, for a socket
/// unit (systemctl list-sockets names it)", "a process of user www-data", or "another program".
[[nodiscard]] std::string listener_at(std::uint16_t port);

/// The ports below are for processes with CAP_NET_BIND_SERVICE.
[[nodiscard]] unsigned first_unprivileged_port();

}  // namespace visitd
