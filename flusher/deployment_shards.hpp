// The shards of a deployment that were changed: the deployment says which there are, the settings how to reach them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/config/live_settings.hpp"
#include "common/config/settings.hpp"
#include "flusher/counting/cluster_map.hpp"
#include "flusher/counting/layout.hpp"

namespace visitd {

/// What a life speaks to, in the order of shards_of_life(). `named`: the settings with the shards, or nodes, that they
/// name; `cluster`: where the layout has one, its map. Where the layout has an address, it counts; password, database
/// and certificates of what the settings do not name are those of all shards. Throws Error where nobody says the
/// address of a shard.
[[nodiscard]] std::vector<ShardSettings> shards_of(const Layout& layout, const std::optional<ClusterMap>& cluster,
                                                   const RedisSettings& named);
/// The nodes of the address that a layout has of a cluster.
[[nodiscard]] std::vector<ShardSettings> nodes_of(const ShardPlace& cluster, const ShardSettings& like);
/// The nodes that are asked for all others: those that the settings name, and those that the layout names. Throws Error
/// where nobody names one.
[[nodiscard]] std::vector<ShardSettings> seeds_of(const ShardPlace& cluster, const RedisSettings& named);
/// Before any node was asked: all is on the first one.
[[nodiscard]] ClusterMap first_guess(const std::vector<ShardSettings>& seeds);
/// A node by its name, HOST:PORT, with user and password of the seeds.
[[nodiscard]] ShardSettings node_settings(const std::string& name, const std::vector<ShardSettings>& seeds);

/// A shard as the operator names it: "NAME=URL". Without password: that is the settings'. Throws Error.
[[nodiscard]] ShardPlace parse_shard_place(const std::string& text);

/// A cluster as the operator names it: "NODE,NODE". If the nodes want a user, each names the same one; their password
/// is the settings'. Throws Error.
[[nodiscard]] ShardPlace parse_cluster_place(const std::string& text);
/// The same of nodes that the settings name.
[[nodiscard]] ShardPlace cluster_place(const std::vector<ShardSettings>& nodes);

/// The shards in use are those of the layout from now on, in the order of shards_of_life(). Says in the log where the
/// settings name others. Throws as shards_of() does.
void use_shards_of(const Layout& layout, const std::optional<ClusterMap>& cluster, LiveSettings& live);

/// Where the settings name other shards than the deployment has, for the log, and what to do; empty: they agree.
/// `visitctl`: how its commands begin.
[[nodiscard]] std::string settings_difference(const Layout& layout, const RedisSettings& named,
                                              const std::string& visitctl);

}  // namespace visitd
