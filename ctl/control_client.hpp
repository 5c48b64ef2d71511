// Asks a running flusher through its control socket, and waits for the answer.
#pragma once

#include <string>

#include "common/control/control_protocol.hpp"
#include "common/os/errors.hpp"
#include "common/os/unique_fd.hpp"
#include "ctl/report.hpp"

namespace visitd {

/// Nobody listens there.
struct FlusherAway : Error {
  using Error::Error;
};

/// It says no.
struct FlusherRefused : Error {
  FlusherRefused(const std::string& why, bool its_passing) : Error(why), passing(its_passing) {}
  bool passing;  ///< it may say yes to the same request a moment later
};

/// One connection for many requests, which are answered in their order.
class ControlConnection {
 public:
  /// `timeout_ms`: of each request. Throws Error, and FlusherAway.
  ControlConnection(const std::string& control_socket, std::uint32_t timeout_ms);

  /// Asks; the answer may be waited for later, after further requests.
  void say(const ControlRequest& request);
  /// What the flusher answers to the oldest request without an answer, without "ok". Throws Error, FlusherRefused where
  /// it refuses, and FlusherAway.
  [[nodiscard]] Json answer();

 private:
  std::uint32_t timeout_ms_;
  UniqueFd socket_;
  std::string received_;
};

/// What the flusher answers, without "ok"; it is waited for a little longer than the request's timeout. Throws
/// Error, FlusherRefused where it refuses, and FlusherAway.
[[nodiscard]] Json ask_flusher(const std::string& control_socket, const ControlRequest& request);

/// The same. If the flusher begins anew, it closes the connection without an answer, and does not listen for a moment:
/// then this function asks again. Throws FlusherAway if no flusher answers for `patience_ms`.
[[nodiscard]] Json ask_patiently(const std::string& control_socket, const ControlRequest& request,
                                 std::uint64_t patience_ms);

}  // namespace visitd
