// Where a connection came in. It says how far its other end is believed.
#pragma once

#include <cstdint>

namespace visitd {

enum class Entrance : std::uint8_t {
  public_address,    ///< a port, or a Unix socket at which its owner and group alone may connect
  open_unix_socket,  ///< a Unix socket at which every user of this host may connect, or nobody can tell who
  private_address,   ///< of http.private_listen: only let those reach it who may add and see all
};

}  // namespace visitd
