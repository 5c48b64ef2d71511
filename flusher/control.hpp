// The flusher's control socket: what visitctl asks of a running flusher (common/control/control_protocol.hpp). A
// connection's requests are answered one after another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "common/control/control_protocol.hpp"

struct uv_loop_s;

namespace visitd {

/// Call it once, on the loop, from within handle() or later; also after the client or the server has gone, when it is
/// ignored.
using ControlReply = std::function<void(ControlAnswer)>;

class ControlHandler {
 public:
  virtual ~ControlHandler() = default;
  /// Called on the loop. Should reply within the request's timeout; a second after it the client is told that there was
  /// no answer. What it throws becomes the answer.
  virtual void handle(const ControlRequest& request, ControlReply reply) = 0;
  /// Something was thrown where nothing may be: through a callback of the loop. It was caught.
  virtual void on_fault(const std::string& what) noexcept = 0;
};

struct ControlLimits {
  std::size_t line_bytes = control_request_bytes;
  std::size_t connections = 16;
  std::uint32_t idle_timeout_ms = 10000;  ///< for a whole request to arrive, and for its answer to be taken
};

/// All of it on the loop's thread. The process ignores SIGPIPE.
class ControlServer {
 public:
  /// Listens at `path` (mode 0660) in place of whatever socket a flusher that is gone left there: the caller holds the
  /// flusher's lock. Throws Error naming the path.
  /// `refused_user`: of whom nothing is taken, though the group lets them connect.
  ControlServer(uv_loop_s* loop, std::string path, ControlHandler& handler, ControlLimits limits = {},
                std::optional<std::uint32_t> refused_user = {});
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;
  /// Closes all connections and removes its socket. The loop is run once more afterwards.
  ~ControlServer();

 private:
  class Listener;
  class Connection;
  std::unique_ptr<Listener> listener_;
};

}  // namespace visitd
