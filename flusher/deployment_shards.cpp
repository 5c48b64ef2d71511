#include "flusher/deployment_shards.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "common/config/shard_address.hpp"
#include "common/os/errors.hpp"
#include "common/os/log.hpp"
#include "common/os/text.hpp"

namespace visitd {

namespace {

/// The address alone.
void take_address(ShardSettings& shard, const ShardSettings& address) {
  shard.host = address.host;
  shard.port = address.port;
  shard.unix_path = address.unix_path;
  shard.over_tls = address.over_tls;
  shard.sentinels.addresses = address.sentinels.addresses;
  shard.sentinels.primary = address.sentinels.primary;
}

ShardSettings shard_of(const ShardPlace& place, const RedisSettings& settings) {
  const auto named = std::ranges::find(settings.shards, place.name, &ShardSettings::name);
  ShardSettings shard = named == settings.shards.end() ? settings.added_shard : *named;
  shard.name = place.name;
  if (!place.url.empty()) {
    const ShardAddress address = parse_shard_address(place.url);
    take_address(shard, address.shard);
    if (shard.over_tls && shard.tls == ShardTls()) shard.tls = settings.added_shard.tls;
    if (address.has_database) shard.database = address.shard.database;
  } else if (named == settings.shards.end()) {
    throw error(
        "the deployment has the shard {}, and neither it nor these settings say its address: add {}=URL to "
        "redis.shards, as the other hosts have it",
        place.name, place.name);
  }
  return shard;
}

constexpr std::string_view scheme = "cluster://";
constexpr std::string_view scheme_over_tls = "clusters://";

/// The node of an address that the operator gave. Throws Error.
ShardSettings parse_node(const std::string& text) {
  ShardSettings node = parse_shard_address(text).shard;
  if (!node.unix_path.empty() || !node.sentinels.addresses.empty()) {
    throw error("'{}' is no address of a node: the nodes of a cluster are reached by HOST:PORT", shard_url(node));
  }
  if (!node.password.empty()) {
    throw error(
        "the address of the node {}:{} has a password, which the deployment would show to every host: leave it out and "
        "set redis.password on each host",
        node.host, node.port);
  }
  if (node.database != 0) {
    throw error("the node {}:{} has database {}, and a cluster has database 0 alone", node.host, node.port,
                node.database);
  }
  return node;
}

std::string nodes_text(const std::vector<ShardSettings>& nodes) {
  std::vector<std::string> texts;
  texts.reserve(nodes.size());
  for (const ShardSettings& node : nodes) {
    const bool plain = !node.over_tls && node.username.empty();
    texts.push_back(fmt::format("\"{}\"", plain ? server_text({node.host, node.port}) : shard_url(node)));
  }
  return fmt::format("[{}]", fmt::join(texts, ", "));
}

}  // namespace

std::vector<ShardSettings> nodes_of(const ShardPlace& cluster, const ShardSettings& like) {
  std::string_view rest = cluster.url;
  const bool over_tls = rest.starts_with(scheme_over_tls);
  rest.remove_prefix(over_tls ? scheme_over_tls.size() : scheme.size());
  std::vector<ShardSettings> nodes;
  std::string username = like.username;
  while (!rest.empty()) {
    const ShardSettings address = parse_shard_address(fmt::format("redis://{}", take_until(rest, ','))).shard;
    if (!address.username.empty()) username = address.username;
    ShardSettings node = like;
    node.username = username;
    node.host = address.host;
    node.port = address.port;
    node.name = server_text({node.host, node.port});
    node.in_cluster = true;
    node.over_tls = over_tls;
    if (!over_tls) node.tls = {};
    nodes.push_back(std::move(node));
  }
  return nodes;
}

std::vector<ShardSettings> shards_of(const Layout& layout, const std::optional<ClusterMap>& cluster,
                                     const RedisSettings& named) {
  std::vector<ShardSettings> shards;
  for (const ShardPlace& place : all_shards(layout)) {
    if (!place.is_cluster()) shards.push_back(shard_of(place, named));
  }
  if (!cluster) return shards;
  const std::vector<ShardSettings> seeds = seeds_of(*cluster_of(layout), named);
  for (const std::string& node : cluster->primaries()) shards.push_back(node_settings(node, seeds));
  return shards;
}

std::vector<ShardSettings> seeds_of(const ShardPlace& cluster, const RedisSettings& named) {
  std::vector<ShardSettings> seeds;
  if (named.mode == RedisMode::cluster) seeds = named.shards;
  const ShardSettings like = seeds.empty() ? named.added_shard : seeds.front();
  for (ShardSettings& node : nodes_of(cluster, like)) {
    if (std::ranges::find(seeds, node.name, &ShardSettings::name) == seeds.end()) seeds.push_back(std::move(node));
  }
  if (seeds.empty()) {
    throw Error(
        "the deployment is in a cluster, and neither it nor these settings name a node of it: set redis.mode to "
        "\"cluster\" and redis.nodes, as the other hosts have it");
  }
  return seeds;
}

ClusterMap first_guess(const std::vector<ShardSettings>& seeds) {
  ClusterMap map;
  map.slots.push_back({0, cluster_slots - 1, seeds.front().name});
  return map;
}

ShardSettings node_settings(const std::string& name, const std::vector<ShardSettings>& seeds) {
  const auto known = std::ranges::find(seeds, name, &ShardSettings::name);
  if (known != seeds.end()) return *known;
  const ShardSettings address = parse_shard_address(name).shard;
  ShardSettings node = seeds.front();
  node.name = name;
  node.host = address.host;
  node.port = address.port;
  return node;
}

ShardPlace parse_cluster_place(const std::string& text) {
  std::vector<ShardSettings> nodes;
  std::string_view rest = text;
  while (!rest.empty()) {
    ShardSettings node = parse_node(std::string(take_until(rest, ',')));
    const ServerAddress address{node.host, node.port};
    for (const ShardSettings& known : nodes) {
      if (ServerAddress{known.host, known.port} == address) {
        throw error("the node {} is named twice", server_text(address));
      }
      if (known.over_tls != node.over_tls || known.username != node.username) {
        throw Error("the nodes are named with rediss:// or a user, and without: all nodes of a cluster have the same");
      }
    }
    nodes.push_back(std::move(node));
  }
  if (nodes.empty()) throw Error("no node of the cluster is named: write HOST:PORT,HOST:PORT");
  return cluster_place(nodes);
}

ShardPlace cluster_place(const std::vector<ShardSettings>& nodes) {
  std::vector<ServerAddress> servers;
  servers.reserve(nodes.size());
  for (const ShardSettings& node : nodes) servers.push_back({node.host, node.port});
  // As an address of a shard has the user, which the first node stands for.
  const std::string first = shard_url(nodes.front());
  const std::size_t user = first.find("//") + 2;
  const std::size_t at = first.find('@');
  return {cluster_name,
          fmt::format("{}{}{}", nodes.front().over_tls ? scheme_over_tls : scheme,
                      at == std::string::npos ? "" : first.substr(user, at + 1 - user), servers_text(servers))};
}

ShardPlace parse_shard_place(const std::string& text) {
  const ShardAddress address = parse_shard_address(text);
  const ShardSettings& shard = address.shard;
  if (!is_shard_name(shard.name)) {
    throw error("'{}' names no shard: write NAME=URL, the name 1 to 64 of A-Z a-z 0-9 . _ -", text);
  }
  if (!shard.password.empty() || !shard.username.empty()) {
    throw Error(
        "the address has a user or a password, which the deployment would show to every host: leave them out "
        "and set redis.password, or a [[redis.shard]] of that name, on each host");
  }
  std::string url = shard_url(shard);
  if (url.find_first_of(" ;") != std::string::npos) throw error("the address '{}' has a blank or a semicolon", url);
  return {shard.name, std::move(url)};
}

/// How the settings should name the shards.
static std::string shards_text(const std::vector<ShardPlace>& places) {
  std::vector<std::string> texts;
  texts.reserve(places.size());
  for (const ShardPlace& place : places) texts.push_back(fmt::format("\"{}={}\"", place.name, place.url));
  return fmt::format("[{}]", fmt::join(texts, ", "));
}

std::string settings_difference(const Layout& layout, const RedisSettings& named, const std::string& visitctl) {
  const bool in_cluster = layout.shards.front().is_cluster();
  if (cluster_of(layout) != nullptr && layout.is_moving()) return {};  // they are changed once the buckets are there
  if (in_cluster != (named.mode == RedisMode::cluster)) {
    return in_cluster ? fmt::format(
                            "the deployment is in a cluster since its change {}. It counts; set redis.mode = "
                            "\"cluster\" and redis.nodes = {}, and remove redis.shards",
                            layout.version, nodes_text(seeds_of(layout.shards.front(), named)))
                      : fmt::format(
                            "the deployment has left its cluster with its change {}. It counts; set redis.mode = "
                            "\"shards\" and redis.shards = {}, and remove redis.nodes",
                            layout.version, shards_text(layout.shards));
  }
  if (in_cluster) return {};
  std::vector<std::string> missing;
  std::vector<std::string> unknown;
  const std::vector<ShardPlace> all = all_shards(layout);
  for (const ShardPlace& place : all) {
    if (std::ranges::find(named.shards, place.name, &ShardSettings::name) == named.shards.end()) {
      missing.push_back(place.name);
    }
  }
  for (const ShardSettings& shard : named.shards) {
    if (std::ranges::find(all, shard.name, &ShardPlace::name) == all.end()) unknown.push_back(shard.name);
  }
  std::string text;
  if (!missing.empty()) text += fmt::format("; it has {}, which redis.shards does not name", fmt::join(missing, ", "));
  if (!unknown.empty()) {
    text += fmt::format("; it does not have {}, which redis.shards names", fmt::join(unknown, ", "));
  }
  if (text.empty()) return text;
  return fmt::format(
      "the deployment's shards are those of its change {}: {}. The deployment counts; make redis.shards the same, or "
      "the deployment like redis.shards with: {} shards rebalance",
      layout.version, text.substr(2), visitctl);
}

void use_shards_of(const Layout& layout, const std::optional<ClusterMap>& cluster, LiveSettings& live) {
  live.use_shards([layout, cluster](const RedisSettings& named) { return shards_of(layout, cluster, named); });
  const std::string difference = settings_difference(layout, live.named(), live.visitctl());
  if (!difference.empty()) log::warning("{}", difference);
}

}  // namespace visitd
