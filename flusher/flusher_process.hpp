// A running flusher: one ring's engine with the loop, the spool's thread, the shards' connections and the control
// socket around it.
#pragma once

#include "common/config/live_settings.hpp"

namespace visitd {

/// Why a flusher's life on one ring ended.
enum class FlusherEnd {
  stopped,  ///< asked to by SIGTERM or SIGINT
  again,    ///< its ring was left, or its runtime directory or cache replaced: to be run once more, from the spool
};

/// Sets the spool aside, where no flusher runs, so that the next one begins anew. Says in the log what it held. Throws
/// Error.
void set_spool_aside(const Settings& settings);

/// Waits for a ring, counts it and carries it to the shards, until a signal or until the ring is left; SIGHUP lets it
/// read its settings again. Throws Error where it cannot start or go on; what was acknowledged is in spool or ring
/// then.
[[nodiscard]] FlusherEnd run_flusher(LiveSettings& settings);

}  // namespace visitd
