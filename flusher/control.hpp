// The flusher's control socket: what visitctl asks of a running flusher. A Unix stream socket, one JSON object a line
// each way:
//
//   → {"command":"flush","timeout_ms":20000}      ← {"ok":true,"visits":12}
//   → {"command":"page","argument":"home"}        ← {"ok":true,"shard":"redis_7070","count":123}
//   → {"command":"accept","argument":"redis_7070"} ← {"ok":true,"token":"5d41402abc4b2a76","visits":90}
//   → {"command":"accept","argument":"redis_7070","token":"5d41402abc4b2a76"} ← {"ok":true,"shard":"redis_7070"}
//
// A connection's requests are answered one after another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

struct uv_loop_s;

namespace visitd {

/// A vetted request: its command is one of those above, and it has the argument that the command needs.
struct ControlRequest {
  std::string command;
  std::string argument;                     ///< of page: the page id; of accept: the shard's name; else empty
  std::uint32_t timeout_ms = 0;             ///< how long the client waits; at most 600,000
  std::optional<std::uint64_t> token = {};  ///< of accept: what was offered is accepted; without it it is only offered
};

/// What becomes of it. Texts and numbers stand beside "ok" in the answer, under their names.
struct ControlAnswer {
  bool ok = false;
  std::string error;  ///< not ok: why, and what to do
  std::vector<std::pair<std::string, std::string>> text;
  std::vector<std::pair<std::string, std::uint64_t>> numbers;
};

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
  std::size_t line_bytes = 65536;
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
