// Whether this frontend can count, and what else is amiss on the host: the answer of /readyz.
#pragma once

#include <vector>

#include "common/config/settings.hpp"
#include "common/counter/ring_membership.hpp"
#include "common/os/clock.hpp"
#include "frontend/api/host_status.hpp"

namespace visitd {

/// Looks at segment, lane, flusher, spool and each shard, in this order. Only what keeps this frontend from counting
/// fails: without a flusher or a shard visits are counted all the same, and a host that is taken out of service for
/// them would lose what it could have counted.
[[nodiscard]] std::vector<Check> check_readiness(const Settings& settings, const RingMembership& membership,
                                                 const Clocks& now);

}  // namespace visitd
