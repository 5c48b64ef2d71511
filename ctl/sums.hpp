// What buckets say of their own sums: without reading the pages.
#pragma once

#include "common/config/settings.hpp"
#include "ctl/report.hpp"

namespace visitd {

/// The sum of the counts of all pages. Throws Error where the flusher cannot be asked.
[[nodiscard]] Json sum_of_all(const Settings& settings);

/// Rows of `page` and `count`.
[[nodiscard]] std::string counts_table(const Json& pages);

/// What to say of pages without a count; empty: there are none.
[[nodiscard]] std::string unknown_pages_text(const Json& report);

}  // namespace visitd
