// The third pass of reading the settings: what must hold between values that are right alone.
#pragma once

#include "common/config/setting_rows.hpp"
#include "common/config/setting_sources.hpp"

namespace visitd::setting {

/// Throws Error with what is allowed, and where the value at fault was set.
void check_together(const Draft& draft, const Sources& sources);

}  // namespace visitd::setting
