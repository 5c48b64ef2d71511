// The HTTP server: sockets, connections, deadlines, on a libuv loop. All calls on the loop's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "common/config/settings.hpp"
#include "frontend/api/counter.hpp"
#include "frontend/api/host_status.hpp"
#include "frontend/http/refusals.hpp"
#include "frontend/server/listening.hpp"

struct uv_loop_s;

namespace visitd {

/// Counted since start, but for what is open now.
struct ServerStatistics {
  std::uint64_t requests = 0;      ///< answered
  std::uint64_t reads_parked = 0;  ///< reads that had to wait
  std::uint64_t connections_accepted = 0;
  std::uint64_t connections_open = 0;     ///< now
  std::uint64_t connections_evicted = 0;  ///< closed to make room for others
  std::uint64_t connections_timed_out = 0;
  std::uint64_t connections_over_address_limit = 0;  ///< closed at once, or in place of another of their address
  std::uint64_t connections_evicted_sending = 0;     ///< closed because answers that nobody took filled their room
};

class EventLoopServer {
 public:
  /// Settings are copied; loop, counter and host outlive it.
  EventLoopServer(uv_loop_s* loop, const Settings& settings, Counter& counter, const HostStatus& host);
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
  void use(const Settings& settings);

  /// Tries all parked reads again: call it when counts may have become known. Without it they are tried again every 20
  /// ms.
  void replay_parked();

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
