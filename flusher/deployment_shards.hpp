// The shards of a deployment that were changed: the deployment says which there are, the settings how to reach them.
#pragma once

#include <string>
#include <vector>

#include "common/config/settings.hpp"
#include "flusher/counting/layout.hpp"

namespace visitd {

/// All shards of the layout, in its order. Where the layout has an address, it counts; user, password and database of
/// a shard that the settings do not name are those of `redis.shards_added`. Throws Error where nobody says the address
/// of a shard.
[[nodiscard]] std::vector<ShardSettings> shards_of(const Layout& layout, const RedisSettings& settings);

/// A shard as the operator names it: "NAME=URL". Without password: that is the settings'. Throws Error.
[[nodiscard]] ShardPlace parse_shard_place(const std::string& text);

/// Where the settings name other shards than the deployment has, for the log; empty: they agree.
[[nodiscard]] std::string settings_difference(const Layout& layout, const std::vector<ShardSettings>& named);

}  // namespace visitd
