// A running frontend: the ring, the HTTP server and the loop under them, from start to stop.
#pragma once

#include "common/config/live_settings.hpp"
#include "common/counter/ring_membership.hpp"

namespace visitd {

/// How a frontend ended, as its exit status.
enum class FrontendExit : int {
  stopped = 0,     ///< asked to by SIGTERM or SIGINT
  ring_left = 75,  ///< its ring was removed or replaced: to be started again, with the new one
};

/// Takes a lane, listens, serves until a signal or until the ring must be left; SIGHUP lets it read its settings again.
/// Throws Error where it cannot start.
[[nodiscard]] FrontendExit run_frontend(LiveSettings& settings, RingMaker maker);

}  // namespace visitd
