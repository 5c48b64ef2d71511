// Asks a running flusher through its control socket, and waits for the answer.
#pragma once

#include <string>

#include "common/control/control_protocol.hpp"
#include "common/os/errors.hpp"
#include "ctl/report.hpp"

namespace visitd {

/// Nobody listens there.
struct FlusherAway : Error {
  using Error::Error;
};

/// What the flusher answers, without "ok"; it is waited for a little longer than the request's timeout. Throws Error
/// with the flusher's reason where it refuses, and FlusherAway.
[[nodiscard]] Json ask_flusher(const std::string& control_socket, const ControlRequest& request);

}  // namespace visitd
