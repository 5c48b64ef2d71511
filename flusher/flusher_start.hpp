// How a flusher starts: alone on its host, with its spool, once there is a ring.
#pragma once

#include "common/config/live_settings.hpp"
#include "flusher/flusher_loop.hpp"
#include "flusher/learned.hpp"

namespace visitd {

/// Renames the spool's file, so that the next flusher makes a new one. No flusher may run. Logs what the old one held.
/// Throws Error.
void put_spool_away(const Settings& settings);

/// Waits for a ring, counts it and carries it to the shards, until a signal or until the ring is left; SIGHUP lets it
/// read its settings again. Throws Error where it cannot start or go on; what was acknowledged is in spool or ring
/// then. `layout`: that a former life in this process has learned of; kept for the next one.
[[nodiscard]] FlusherEnd run_flusher(LiveSettings& settings, Learned& learned);

}  // namespace visitd
