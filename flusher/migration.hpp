// What is wanted, and what is wrong, where a deployment's buckets go into a cluster, or leave one. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/config/settings.hpp"
#include "flusher/counting/layout.hpp"
#include "flusher/shard_probe.hpp"

namespace visitd {

/// The layout that follows if the buckets go into that cluster. Throws Error.
[[nodiscard]] Layout into_cluster(const Layout& layout, ShardPlace cluster);
/// The one that follows if they leave their cluster for these shards. `named`: the nodes that the settings name, if
/// they name nodes. Throws Error.
[[nodiscard]] Layout out_of_cluster(const Layout& layout, std::vector<ShardPlace> shards,
                                    const std::vector<ShardSettings>& named);
/// "NAME=URL NAME=URL". Throws Error.
[[nodiscard]] std::vector<ShardPlace> parse_shard_places(std::string_view text);

/// What is wrong with the nodes that the operator named, for people; empty: they are of one cluster, which is well.
/// `shards`: servers that the deployment has besides.
[[nodiscard]] std::string fault_of_cluster(const std::vector<ShardSettings>& nodes,
                                           const std::vector<ShardProbe::Seen>& seen, std::size_t shards);
/// Why buckets cannot go to the server, for people; empty: it has nothing but what they left behind when they were
/// there. `server`: how it is called.
[[nodiscard]] std::string fault_of_target(std::string_view server, const ShardProbe::Seen& seen,
                                          const std::string& identity, const RedisSettings& settings);

}  // namespace visitd
