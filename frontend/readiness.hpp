// Whether this frontend can count, and what else is amiss on the host: the answer of /readyz.
#pragma once

#include <vector>

#include "common/clock.hpp"
#include "common/settings.hpp"
#include "frontend/host_status.hpp"
#include "frontend/ring_membership.hpp"

namespace visitd {

/// Looks at segment, lane, flusher, spool and each shard, in this order. Only what keeps this frontend from counting
/// fails: without a flusher or a shard visits are counted all the same, and a host that is taken out of service for
/// them would lose what it could have counted.
[[nodiscard]] std::vector<Check> check_readiness(const Settings& settings, const RingMembership& membership,
                                                 const Clocks& now);

}  // namespace visitd
