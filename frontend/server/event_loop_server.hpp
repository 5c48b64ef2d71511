// The HTTP server: sockets, connections, deadlines, on a libuv loop. All calls on the loop's thread.
#pragma once

#include <functional>
#include <memory>

#include "common/config/settings.hpp"
#include "frontend/api/backend.hpp"
#include "frontend/http/refusals.hpp"
#include "frontend/server/listening.hpp"
#include "frontend/server/server_statistics.hpp"

struct uv_loop_s;

namespace visitd {

class EventLoopServer {
 public:
  /// Settings are copied; the loop outlives it.
  EventLoopServer(uv_loop_s* loop, const Settings& settings, const Backend& backend);
  EventLoopServer(const EventLoopServer&) = delete;
  EventLoopServer& operator=(const EventLoopServer&) = delete;
  /// Closes all that is open. The loop must run once more afterwards, to give its handles back.
  ~EventLoopServer();

  /// Begins to accept there. Throws Error.
  void listen(ListeningSocket socket);

  /// Serves health and metrics at the private sockets alone.
  void keep_private() noexcept;

  /// Takes what may change while it runs, for the connections that are open too. Throws Error where the system does not
  /// let it.
  void take_settings(const Settings& settings);

  /// Tries all parked reads again: call it when counts may have become known. Without it they are tried again every 20
  /// ms.
  void look_at_parked();

  /// Now and then: gives memory back to the system after much was held for clients.
  void give_back_memory() noexcept;

  /// Accepts no more, answers what was sent, closes what is idle; after stop_timeout_ms closes the rest. `done` is
  /// called once, from within stop() or from the loop, and must not delete the server.
  void stop(std::function<void()> done);

  [[nodiscard]] const ServerStatistics& statistics() const noexcept;
  [[nodiscard]] const RefusalCounts& refusals() const noexcept;

 private:
  class Core;
  std::unique_ptr<Core> core_;
};

}  // namespace visitd
