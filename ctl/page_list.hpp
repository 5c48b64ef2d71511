// Reads the list of all pages from the flusher, a piece at a time, and shows on a terminal how far it is.
#pragma once

#include <cstdint>
#include <string>

#include "common/config/settings.hpp"
#include "common/control/page_lines.hpp"
#include "common/os/wide_sum.hpp"
#include "ctl/report.hpp"

namespace visitd {

/// A number where it is one of 64 bits, else its digits as text.
[[nodiscard]] Json json_of(const WideSum& sum);

/// Whether a page's id matches a pattern, as a shell matches file names, but that '*' stands for a slash too. An empty
/// pattern matches all.
[[nodiscard]] bool is_chosen(const std::string& glob, std::string_view page);

/// Has `each` called with every page. Throws Error where the flusher cannot be asked. Returns why the list is not
/// complete, for people; empty: it is.
[[nodiscard]] std::string list_pages(const Settings& settings, const EachPage& each);

}  // namespace visitd
