#include "flusher/shard_changes.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <utility>

#include "common/config/shard_address.hpp"
#include "common/os/errors.hpp"
#include "common/os/log.hpp"
#include "common/os/text.hpp"
#include "common/shm/hash.hpp"
#include "flusher/counting/room_for_moves.hpp"
#include "flusher/deployment_shards.hpp"
#include "flusher/migration.hpp"
#include "flusher/now.hpp"

namespace visitd {

namespace {

bool has(const std::vector<ShardPlace>& places, const std::string& name) {
  return std::ranges::find(places, name, &ShardPlace::name) != places.end();
}

std::uint64_t token_of(const Layout& layout) {
  return hash_bytes(to_text(layout));
}

/// Which buckets move: "3-5,9".
std::string buckets_text(const Placement& placement) {
  std::string text;
  for (std::uint32_t first = 0; first < placement.buckets(); ++first) {
    if (!placement.moves(first)) continue;
    std::uint32_t last = first;
    while (last + 1 < placement.buckets() && placement.moves(last + 1)) ++last;
    text += fmt::format("{}{}", text.empty() ? "" : ",", first);
    if (last > first) text += fmt::format("-{}", last);
    first = last;
  }
  return text;
}

/// Which shards hold buckets that left them as they were before that, for people.
std::string left_text(const std::vector<LeftBucket>& left, const std::vector<ShardSettings>& shards) {
  std::map<std::uint32_t, std::size_t> counts;
  for (const LeftBucket& one : left) ++counts[one.shard];
  std::string text;
  for (const auto& [shard, buckets] : counts) {
    text += fmt::format("{}shard {} holds {} of them as they were before they left it: these older copies are replaced",
                        text.empty() ? "" : "; ", shards[shard].name, buckets);
  }
  return text;
}

/// What would move, and where.
ControlAnswer offer_of(const Layout& layout, const std::optional<ClusterMap>& cluster) {
  const Placement placement = place_buckets(layout, cluster);
  const std::vector<std::string> all = shards_of_life(layout, cluster);
  std::vector<std::uint64_t> come(all.size());
  std::vector<std::uint64_t> go(all.size());
  std::vector<std::uint64_t> at_last(all.size());
  std::uint64_t moved = 0;
  for (std::uint32_t bucket = 0; bucket < placement.buckets(); ++bucket) {
    ++at_last[placement.next_of(bucket)];
    if (!placement.moves(bucket)) continue;
    ++moved;
    ++go[placement.first_of(bucket)];
    ++come[placement.next_of(bucket)];
  }
  std::string text;
  for (std::size_t shard = 0; shard < all.size(); ++shard) {
    text += fmt::format("{}{}: {} come, {} go, {} at last", text.empty() ? "" : "; ", all[shard], come[shard],
                        go[shard], at_last[shard]);
  }
  return {true,
          "",
          {{"token", encode_token(token_of(layout))}, {"shards", text}, {"which", buckets_text(placement)}},
          {{"buckets", placement.buckets()}, {"moves", moved}, {"version", layout.version}}};
}

}  // namespace

// ---- what is wanted

ShardChanges::Wanted ShardChanges::added(const ShardPlace& place) const {
  const Layout& layout = engine_.layout();
  if (has(layout.shards, place.name)) {
    throw error(
        "there is a shard {} already; give the new one another name, or say visitctl shards replace to change "
        "its address",
        place.name);
  }
  if (layout.shards.size() == max_shards) throw error("there are {} shards already, the most that can be", max_shards);
  for (const ShardSettings& known : settings_.redis.shards) {
    if (shard_url(known) == place.url) throw error("{} is the address of shard {} already", place.url, known.name);
  }
  std::vector<ShardPlace> next = layout.shards;
  next.push_back(place);
  return {begin_move(layout, std::move(next)), {place}};
}

ShardChanges::Wanted ShardChanges::removed(const std::string& name) const {
  const Layout& layout = engine_.layout();
  if (!has(layout.shards, name)) {
    throw error("there is no shard {}; the shards are {}", name, fmt::join(names_of(layout.shards), ", "));
  }
  if (layout.shards.size() == 1) throw error("{} is the only shard: add another one first", name);
  std::vector<ShardPlace> next = layout.shards;
  std::erase_if(next, [&](const ShardPlace& place) { return place.name == name; });
  return {begin_move(layout, std::move(next))};
}

ShardChanges::Wanted ShardChanges::replaced(const ShardPlace& place) const {
  Layout layout = engine_.layout();
  const auto known = std::ranges::find(layout.shards, place.name, &ShardPlace::name);
  if (known == layout.shards.end()) {
    throw error("there is no shard {}; the shards are {}", place.name, fmt::join(names_of(layout.shards), ", "));
  }
  known->url = place.url;
  ++layout.version;
  return {std::move(layout), {place}, false};
}

ShardChanges::Wanted ShardChanges::as_settings_name() const {
  if (settings_.redis.mode == RedisMode::cluster) {
    throw Error(
        "the settings name a cluster, and the deployment is on shards: say visitctl migrate --to cluster NODE,NODE, or "
        "set redis.mode to \"shards\" and name them in redis.shards");
  }
  const Layout& layout = engine_.layout();
  std::vector<ShardPlace> next;
  std::optional<ShardPlace> fresh;
  for (const ShardSettings& shard : live_.named_shards()) {
    const auto known = std::ranges::find(layout.shards, shard.name, &ShardPlace::name);
    next.push_back(known == layout.shards.end() ? ShardPlace{shard.name, shard_url(shard)} : *known);
    if (known != layout.shards.end()) continue;
    if (fresh) {
      throw error(
          "the settings name more than one shard that the deployment does not have, {} and {}: add them one "
          "after the other with visitctl shards add",
          fresh->name, shard.name);
    }
    fresh = next.back();
  }
  std::vector<std::string> here = names_of(layout.shards);
  std::vector<std::string> there = names_of(next);
  std::ranges::sort(here);
  std::ranges::sort(there);
  if (here == there) throw error("the deployment has the shards that the settings name: {}", fmt::join(here, ", "));
  Wanted change{begin_move(layout, std::move(next))};
  if (fresh) change.look_at = {*fresh};
  return change;
}

ShardChanges::Wanted ShardChanges::wanted(std::string_view asked) const {
  std::string_view verb = take_until(asked, ' ');
  constexpr std::string_view rate_word = "rate=";
  if (!verb.starts_with(rate_word)) return wanted(verb, std::string(asked));
  std::uint32_t rate = 0;
  if (!parse_decimal(verb.substr(rate_word.size()), rate) || rate == 0) {
    throw error("'{}' is no rate: it is a number of buckets a second, at least 1", verb.substr(rate_word.size()));
  }
  verb = take_until(asked, ' ');
  Wanted change = wanted(verb, std::string(asked));
  if (change.layout.is_moving()) change.layout.rate = rate;
  return change;
}

ShardChanges::Wanted ShardChanges::wanted(std::string_view verb, const std::string& what) const {
  if (engine_.layout().is_moving()) {
    throw Error(
        "buckets are moving already, after the last change; wait until they have arrived: visitctl shards moves");
  }
  if (verb == "cluster") {
    ShardPlace cluster = parse_cluster_place(what);
    return {into_cluster(engine_.layout(), cluster), {cluster}};
  }
  if (verb == "shards") {
    std::vector<ShardPlace> shards = parse_shard_places(what);
    return {out_of_cluster(engine_.layout(), shards, live_.named_shards()), shards};
  }
  if (engine_.layout().shards.front().is_cluster()) {
    throw Error(
        "the cluster decides where buckets are: move its slots with redis-cli --cluster reshard, or leave it with "
        "visitctl migrate --to shards");
  }
  if (verb == "add") return added(parse_shard_place(what));
  if (verb == "remove") return removed(what);
  if (verb == "replace") return replaced(parse_shard_place(what));
  if (verb == "settings") return as_settings_name();
  throw error("'{}' is no change of shards; this flusher knows add, remove, replace, settings, cluster and shards",
              verb);
}

// ---- the servers to which buckets go

/// What makes the server unfit; empty: nothing.
std::string ShardChanges::fault_of(const ShardPlace& place, bool is_new, const ShardProbe::Seen& seen) const {
  if (seen.failure.empty() && seen.facts.in_cluster.value_or(false)) {
    return fmt::format(
        "{} is a node of a cluster, which decides itself where a key is: take a server of its own (visitctl migrate "
        "--to cluster moves a deployment into a cluster)",
        place.url);
  }
  if (is_new) return fault_of_target(place.url, seen, engine_.identity(), settings_.redis);
  const TopologyText topology = parse_topology(seen.facts.topology);
  if (seen.failure.empty() && topology.kind == TopologyText::Kind::deployment && topology.shard == place.name &&
      topology.identity == engine_.identity()) {
    ShardProbe::Seen server = seen;
    server.facts.topology.clear();
    server.buckets.clear();
    return fault_of_target(place.url, server, engine_.identity(), settings_.redis);
  }
  if (!seen.failure.empty()) return fmt::format("{} cannot be used: {}", place.url, seen.failure);
  return fmt::format(
      "{} is not shard {} of this deployment (its visits:topology holds '{}'): replace changes the address "
      "of a shard whose data is there already; to move its buckets to an empty server, add that server "
      "under another name, then remove {}",
      place.url, place.name, seen.facts.topology, place.name);
}

void ShardChanges::probe(const std::vector<ServersProbe::Target>& targets, ServersProbe::Done done) {
  probing_ = true;
  probes_.push_back(
      std::make_unique<ServersProbe>(loop_, targets, settings_.redis, writer_,
                                     [this, done = std::move(done)](const std::vector<ShardProbe::Seen>& seen) {
                                       probing_ = false;
                                       done(seen);
                                     }));
}

std::vector<ShardChanges::Receiver> ShardChanges::receivers_of(const Layout& layout) const {
  if (!layout.is_moving()) return {};
  const Placement placement = place_buckets(layout, engine_.cluster());
  const std::vector<std::string> names = shards_of_life(layout, engine_.cluster());
  const std::vector<ShardSettings>& known = settings_.redis.shards;
  std::vector<Receiver> receivers;
  for (std::uint32_t next = 0; next < placement.shards(); ++next) {
    const auto shard = std::ranges::find(known, names[next], &ShardSettings::name);
    if (shard == known.end()) continue;
    Receiver receiver{static_cast<std::uint32_t>(shard - known.begin()), {}};
    for (std::uint32_t bucket = 0; bucket < placement.buckets(); ++bucket) {
      if (placement.moves(bucket) && placement.next_of(bucket) == next) receiver.buckets.push_back(bucket);
    }
    if (!receiver.buckets.empty()) receivers.push_back(std::move(receiver));
  }
  return receivers;
}

void ShardChanges::look_at_servers(const Wanted& wanted, const ControlRequest& request, const ControlReply& reply) {
  std::vector<std::uint32_t> buckets(wanted.layout.buckets);
  std::iota(buckets.begin(), buckets.end(), 0);
  std::vector<ServersProbe::Target> targets;
  // The settings may have credentials for a shard that the deployment does not have yet.
  for (ShardSettings& server : shards_of({1, 1, 1, wanted.look_at, {}}, std::nullopt, live_.named())) {
    targets.push_back({std::move(server), buckets});
  }
  const std::vector<Receiver> receivers = receivers_of(wanted.layout);
  for (const Receiver& receiver : receivers) {
    targets.push_back({settings_.redis.shards[receiver.number], receiver.buckets});
  }
  if (targets.empty()) return go_on(wanted, {}, request, reply);
  probe(targets, [this, wanted, receivers, request, reply](const std::vector<ShardProbe::Seen>& seen) {
    Found found;
    const std::string bucket_id = bucket_identity(engine_.identity());
    const std::size_t fresh = wanted.look_at.size();
    for (std::size_t i = fresh; i < seen.size(); ++i) {
      const std::uint32_t shard = receivers[i - fresh].number;
      if (!seen[i].failure.empty()) {
        return reply({false,
                      fmt::format("buckets would go to shard {}, which cannot be used: {}; try again once it is up",
                                  settings_.redis.shards[shard].name, seen[i].failure),
                      {},
                      {}});
      }
      for (const ShardProbe::Seen::Bucket& bucket : seen[i].buckets) {
        const bool is_here = bucket.held.id == bucket_id && bucket.held.moved.empty();
        if (is_here) found.left.push_back({shard, bucket.number});
      }
    }
    for (std::size_t i = 0; i < fresh; ++i) {
      const ShardPlace& place = wanted.look_at[i];
      if (const std::string fault = fault_of(place, wanted.is_new, seen[i]); !fault.empty()) {
        return reply({false, fault, {}, {}});
      }
      found.servers[place.name] = seen[i].facts;
    }
    go_on(wanted, found, request, reply);
  });
}

void ShardChanges::look_at_cluster(const Wanted& wanted, const ControlRequest& request, const ControlReply& reply) {
  const std::vector<ShardSettings> nodes = nodes_of(wanted.look_at.front(), settings_.redis.added_shard);
  std::vector<ServersProbe::Target> targets;
  targets.reserve(nodes.size());
  for (const ShardSettings& node : nodes) targets.push_back({node, {}});
  probe(targets, [this, wanted, nodes, request, reply](const std::vector<ShardProbe::Seen>& seen) {
    const std::string fault = fault_of_cluster(nodes, seen, wanted.layout.shards.size());
    if (!fault.empty()) return reply({false, fault, {}, {}});
    look_at_primaries(wanted, seen.front().nodes->map, request, reply);
  });
}

void ShardChanges::look_at_primaries(const Wanted& wanted, const ClusterMap& map, const ControlRequest& request,
                                     const ControlReply& reply) {
  const std::vector<ShardSettings> nodes = nodes_of(wanted.look_at.front(), settings_.redis.added_shard);
  const std::vector<std::string> primaries = map.primaries();
  std::vector<ServersProbe::Target> targets;
  targets.reserve(primaries.size());
  for (const std::string& primary : primaries) targets.push_back({node_settings(primary, nodes), {}});
  const std::vector<std::uint32_t> placed = map.place(wanted.layout.buckets);
  for (std::uint32_t bucket = 0; bucket < placed.size(); ++bucket) targets[placed[bucket]].buckets.push_back(bucket);
  probe(targets, [this, wanted, map, primaries, request, reply](const std::vector<ShardProbe::Seen>& seen) {
    Found found{map};
    for (std::size_t i = 0; i < seen.size(); ++i) {
      const std::string fault =
          fault_of_target(fmt::format("node {}", primaries[i]), seen[i], engine_.identity(), settings_.redis);
      if (!fault.empty()) return reply({false, fault, {}, {}});
      found.servers[primaries[i]] = seen[i].facts;
    }
    go_on(wanted, found, request, reply);
  });
}

// ---- answers

void ShardChanges::change(const ControlRequest& request, const ControlReply& reply) {
  const Wanted wanted = this->wanted(request.argument);
  if (const std::string why = engine_.why_layout_stays(); !why.empty()) throw Error(why);
  if (probing_) throw PassingError("another change is being looked at; try again in a moment");
  probes_.clear();
  if (!wanted.look_at.empty() && wanted.look_at.front().is_cluster()) return look_at_cluster(wanted, request, reply);
  look_at_servers(wanted, request, reply);
}

std::string ShardChanges::why_no_room_for(const Wanted& wanted, const Found& found) const {
  const auto& cluster = found.cluster ? found.cluster : engine_.cluster();
  std::vector<std::optional<Facts>> servers;
  for (const std::string& name : shards_of_life(wanted.layout, cluster)) {
    const auto looked_at = found.servers.find(name);
    const auto known = std::ranges::find(settings_.redis.shards, name, &ShardSettings::name);
    if (looked_at != found.servers.end()) {
      servers.emplace_back(looked_at->second);
    } else if (known != settings_.redis.shards.end()) {
      const auto number = static_cast<std::uint32_t>(known - settings_.redis.shards.begin());
      servers.push_back(engine_.shard_report(number, now()).server);
    } else {
      servers.emplace_back();
    }
  }
  return why_no_room(wanted.layout, cluster, servers);
}

void ShardChanges::go_on(const Wanted& wanted, const Found& found, const ControlRequest& request,
                         const ControlReply& reply) {
  if (const std::string why = why_no_room_for(wanted, found); !why.empty()) return reply({false, why, {}, {}});
  ControlAnswer offer = offer_of(wanted.layout, found.cluster ? found.cluster : engine_.cluster());
  if (!found.left.empty()) {
    offer.text.emplace_back("left", left_text(found.left, settings_.redis.shards));
  }
  if (!request.token) return reply(std::move(offer));
  if (*request.token != token_of(wanted.layout)) {
    return reply({false, "the shards have changed since this was offered; look again", {}, {}});
  }
  if (found.left.empty()) return make(wanted, offer, request, reply);
  engine_.mark_left(found.left, [this, wanted, offer, request, reply](const std::string& why) {
    if (!why.empty()) return reply({false, why, {}, {}});
    make(wanted, offer, request, reply);
  });
}

void ShardChanges::make(const Wanted& wanted, const ControlAnswer& offer, const ControlRequest& request,
                        const ControlReply& reply) {
  if (const std::string why = engine_.why_layout_stays(); !why.empty()) return reply({false, why, {}, {}});
  log::info("change {} of the shards, as the operator says: {}", wanted.layout.version, request.argument);
  engine_.change_layout(wanted.layout, [reply, offer](const std::string& why) {
    reply(why.empty() ? offer : ControlAnswer{false, why, {}, {}});
  });
}

/// A cluster by its address.
static std::string places_text(const std::vector<ShardPlace>& places) {
  std::vector<std::string> texts;
  texts.reserve(places.size());
  for (const ShardPlace& place : places) texts.push_back(place.is_cluster() ? place.url : place.name);
  return fmt::format("{}", fmt::join(texts, " "));
}

ControlAnswer ShardChanges::progress() const {
  const Layout& layout = engine_.layout();
  ControlAnswer answer{true, "", {}, {{"version", layout.version}, {"moving", layout.is_moving() ? 1U : 0U}}};
  answer.text.emplace_back("shards", places_text(layout.shards));
  if (const auto progress = engine_.move_progress()) {
    answer.text.emplace_back("next", places_text(layout.next));
    answer.numbers.emplace_back("buckets", progress->buckets);
    answer.numbers.emplace_back("moved", progress->moved);
    answer.numbers.emplace_back("by_this_host", progress->ours ? 1U : 0U);
    if (!progress->problem.empty()) answer.text.emplace_back("problem", progress->problem);
  }
  return answer;
}

}  // namespace visitd
