// A running flusher: one ring's engine with the loop, the spool's thread, the shards' connections and the control
// socket around it.
#pragma once

#include "common/config/live_settings.hpp"
#include "common/os/file_lease.hpp"
#include "common/os/runtime_directory.hpp"
#include "common/os/service_manager.hpp"
#include "common/shm/ring.hpp"
#include "flusher/flusher_loop.hpp"
#include "flusher/learned.hpp"
#include "flusher/spool/spool.hpp"

namespace visitd {

/// Counts the ring and carries it to the shards, until a signal or until this life must end. `lease`: of the runtime
/// directory, looked at now and then. Throws Error where it cannot start or go on; what was acknowledged is in spool or
/// ring then. `layout`: of a deployment whose shards were changed; the next life's where this one ends for another.
[[nodiscard]] FlusherEnd run_flusher_life(LiveSettings& live, const RuntimeDirectory& directory, const FileLease& lease,
                                          Watchdog& watchdog, Ring ring, Spool spool, SpoolState state,
                                          Learned& learned);

}  // namespace visitd
