// What is reported of rings and lanes, by more than one command.
#pragma once

#include "ctl/report.hpp"
#include "ctl/segments.hpp"

namespace visitd {

/// Each ring with its lanes. A ring that is not attached has "error" and no lanes.
[[nodiscard]] Json rings_report(const Segments& segments);

}  // namespace visitd
