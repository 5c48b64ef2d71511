// The second pass of reading the settings: type, form and bounds of each value, as its row wants them, and the shards,
// which are made of several.
#pragma once

#include <string>

#include "common/config/setting_rows.hpp"
#include "common/config/setting_sources.hpp"

namespace visitd::setting {

/// Throws the error for a value of a key that is not allowed; `shown`: the value.
[[noreturn]] void refuse(const std::string& where, const Key& key, const std::string& shown);

/// The defaults, and on them all that the sources give. Throws Error with what is allowed.
[[nodiscard]] Draft values_of(const Sources& sources);

/// Makes the draft's shards, with their passwords, of what the sources give. Throws Error.
void make_shards(Draft& draft, const Sources& sources, Secrets secrets);

}  // namespace visitd::setting
