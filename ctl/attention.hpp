// What in a status somebody should look at, and how fast its counters go.
#pragma once

#include "ctl/report.hpp"

namespace visitd {

/// A sentence for each thing in a status report that is not as it should be; an empty list: nothing.
[[nodiscard]] Json things_to_look_at(const Json& status);

/// Visits, reads and requests a second between two status reports that were made `ms` apart, which is not 0. Only
/// processes that are in both count.
[[nodiscard]] Json rates_between(const Json& first, const Json& second, std::uint64_t ms);

}  // namespace visitd
