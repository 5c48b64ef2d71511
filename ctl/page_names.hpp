// Under which name a page of the command line is counted.
#pragma once

#include <string>

#include "common/config/settings.hpp"
#include "ctl/report.hpp"

namespace visitd {

/// The name of the page with this id, which is the id itself if `exact`; both into `report`, and an error if
/// pages.rules leaves nothing of it.
[[nodiscard]] std::string name_page(const Settings& settings, const std::string& id, bool exact, Json& report);
/// A line for people if the name is another than the id.
[[nodiscard]] std::string named_text(const Json& report);

}  // namespace visitd
