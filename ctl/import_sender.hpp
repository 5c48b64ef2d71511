// Has the flusher add the counts of an import, in parts, each of them once.
#pragma once

#include <cstdint>
#include <string>

#include "ctl/import_sums.hpp"

namespace visitd {

/// Sends all parts, some at once, and shows how far it is. Returns how many pages were not counted before. The same
/// counts of the same source make the same parts: one that the flusher has is not counted again. `source`: tells
/// sources apart whose counts are the same. `buckets`: of the deployment. Throws what the first part that failed threw.
/// `timeout_ms`: of each part.
[[nodiscard]] std::uint64_t send_import(const std::string& control_socket, const PageCounts& counts,
                                        std::uint64_t source, std::uint32_t buckets, std::uint32_t timeout_ms);

}  // namespace visitd
