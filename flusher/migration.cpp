#include "flusher/migration.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "common/os/errors.hpp"
#include "common/os/text.hpp"
#include "common/shm/cache_layout.hpp"
#include "flusher/counting/deployment.hpp"
#include "flusher/counting/shard_admission.hpp"
#include "flusher/deployment_shards.hpp"

namespace visitd {

namespace {

std::uint32_t slots_of(const ClusterMap& map) {
  std::uint32_t slots = 0;
  for (const ClusterMap::Slots& range : map.slots) slots += range.last - range.first + 1;
  return slots;
}

/// Whether something holds the bucket there: more than the marker that it has left.
bool is_in_the_way(const Marks::Held& held, const std::string& bucket_id) {
  if (held.redirect || (held.id.empty() && held.field.empty())) return false;
  return held.id != bucket_id || held.moved.empty();
}

}  // namespace

Layout into_cluster(const Layout& layout, ShardPlace cluster) {
  if (layout.shards.front().is_cluster()) {
    throw error("the deployment is in a cluster already ({}); its slots move with redis-cli --cluster reshard",
                layout.shards.front().url);
  }
  if (std::ranges::find(layout.shards, cluster.name, &ShardPlace::name) != layout.shards.end()) {
    throw error(
        "a shard is called {}, as the cluster would be: add its server under another name (visitctl shards remove, "
        "then add)",
        cluster.name);
  }
  return begin_move(layout, {std::move(cluster)});
}

Layout out_of_cluster(const Layout& layout, std::vector<ShardPlace> shards, const std::vector<ShardSettings>& named) {
  if (!layout.shards.front().is_cluster()) {
    throw Error(
        "the deployment is on shards already, not in a cluster: visitctl shards add and remove change which ones");
  }
  Layout now = layout;
  // Until now each host's settings named the nodes.
  if (now.version == 1) now.shards = {cluster_place(named)};
  return begin_move(now, std::move(shards));
}

std::vector<ShardPlace> parse_shard_places(std::string_view text) {
  std::vector<ShardPlace> places;
  while (!text.empty()) {
    const std::string_view one = take_until(text, ' ');
    if (one.empty()) continue;
    ShardPlace place = parse_shard_place(std::string(one));
    if (place.name == cluster_name) throw error("no shard may be called {} here: that is the cluster", place.name);
    for (const ShardPlace& known : places) {
      if (known.name == place.name) throw error("the shard {} is named twice", place.name);
      if (known.url == place.url) throw error("{} is the address of both {} and {}", place.url, known.name, place.name);
    }
    places.push_back(std::move(place));
  }
  if (places.empty()) throw Error("no shard is named: write NAME=URL for each");
  if (places.size() > max_shards) throw error("{} shards are named; there are {} at most", places.size(), max_shards);
  return places;
}

std::string fault_of_cluster(const std::vector<ShardSettings>& nodes, const std::vector<ShardProbe::Seen>& seen,
                             std::size_t shards) {
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const std::string& name = nodes[i].name;
    if (!seen[i].failure.empty()) return fmt::format("the node {} cannot be used: {}", name, seen[i].failure);
    if (!seen[i].nodes) {
      return fmt::format(
          "{} is a server of its own, not a node of a cluster: name nodes of a cluster, or add it as a shard with "
          "visitctl shards add",
          name);
    }
    if (!seen[i].nodes->fault.empty()) return fmt::format("the node {} says: {}", name, seen[i].nodes->fault);
    if (const std::uint32_t slots = slots_of(seen[i].nodes->map); slots != cluster_slots) {
      return fmt::format(
          "the cluster of {} serves {} of {} slots: make it whole first, with redis-cli --cluster fix or reshard", name,
          slots, cluster_slots);
    }
    if (seen[i].nodes->map.primaries() != seen.front().nodes->map.primaries()) {
      return fmt::format("{} and {} name other primaries: they are not of one cluster, or have not agreed yet",
                         nodes.front().name, name);
    }
  }
  const std::size_t primaries = seen.front().nodes->map.primaries().size();
  if (shards + primaries <= max_shards) return {};
  return fmt::format(
      "the cluster has {} primaries, and the deployment {} shards; together there are {} at most while buckets go from "
      "one to the other",
      primaries, shards, max_shards);
}

std::string fault_of_target(std::string_view server, const ShardProbe::Seen& seen, const std::string& identity,
                            const RedisSettings& settings) {
  const Facts& facts = seen.facts;
  if (!seen.failure.empty()) return fmt::format("{} cannot be used: {}", server, seen.failure);
  if (facts.role && *facts.role != "master") {
    return fmt::format("{} is a replica: what is written to it would be lost; give the address of its primary", server);
  }
  if (std::string why = why_unfit(server, facts, settings.accept_eviction, settings.accept_no_append_only);
      !why.empty()) {
    return why;
  }
  const std::string bucket_id = bucket_identity(identity);
  const auto in_the_way = std::ranges::find_if(
      seen.buckets, [&](const ShardProbe::Seen::Bucket& bucket) { return is_in_the_way(bucket.held, bucket_id); });
  const bool is_ours = facts.topology.empty() || parse_topology(facts.topology).identity == identity;
  if (!facts.topology.empty() && (!is_ours || in_the_way != seen.buckets.end())) {
    return fmt::format(
        "{} belongs to a deployment already: its visits:topology says '{}'; take an empty server, or empty it", server,
        facts.topology);
  }
  if (in_the_way == seen.buckets.end()) return {};
  return fmt::format("{} holds counts already, in visits:{{{}}}; take an empty server, or empty it", server,
                     in_the_way->number);
}

}  // namespace visitd
