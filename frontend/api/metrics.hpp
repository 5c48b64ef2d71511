// The metrics of every process of the host, as they stand in shared memory, in Prometheus' text format 0.0.4.
#pragma once

#include <string>

#include "common/os/clock.hpp"
#include "common/shm/cache.hpp"
#include "common/shm/ring.hpp"

namespace visitd {

/// Appends all metrics. `cache`: nullptr while no flusher has made one.
void write_metrics(const Ring& ring, const Cache* cache, const Clocks& now, std::string& out);

}  // namespace visitd
