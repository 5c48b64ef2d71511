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

/// The same. When a flusher begins anew, it closes the connection without an answer, or nobody listens for a moment:
/// then this asks again. Throws FlusherAway if no flusher answers for `patience_ms`.
[[nodiscard]] Json ask_patiently(const std::string& control_socket, const ControlRequest& request,
                                 std::uint64_t patience_ms);

}  // namespace visitd
