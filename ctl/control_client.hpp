// Asks a running flusher through its control socket, and waits for the answer.
#pragma once

#include <cstdint>
#include <string>

#include "common/os/errors.hpp"
#include "ctl/report.hpp"

namespace visitd {

/// Nobody listens there.
struct FlusherAway : Error {
  using Error::Error;
};

/// What the flusher answers, without "ok". `argument`: empty: none. `timeout_ms`: of the flusher; its answer is waited
/// for a little longer. `token`: of an offer that is accepted; empty: none. Throws Error with the flusher's reason
/// where it refuses, and FlusherAway.
[[nodiscard]] Json ask_flusher(const std::string& control_socket, const std::string& command,
                               const std::string& argument, std::uint32_t timeout_ms, const std::string& token = {});

}  // namespace visitd
