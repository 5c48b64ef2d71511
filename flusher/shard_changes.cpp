#include "flusher/shard_changes.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "common/config/shard_address.hpp"
#include "common/os/errors.hpp"
#include "common/os/log.hpp"
#include "common/os/text.hpp"
#include "common/shm/hash.hpp"
#include "flusher/counting/room_for_moves.hpp"
#include "flusher/deployment_shards.hpp"
#include "flusher/now.hpp"

namespace visitd {

namespace {

bool has(const std::vector<ShardPlace>& places, const std::string& name) {
  return std::ranges::find(places, name, &ShardPlace::name) != places.end();
}

std::uint64_t token_of(const Layout& layout) {
  return hash_bytes(to_text(layout));
}

/// What would move, and where.
ControlAnswer offer_of(const Layout& layout) {
  const Placement placement = place_buckets(layout);
  const std::vector<ShardPlace> all = all_shards(layout);
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
    text += fmt::format("{}{}: {} come, {} go, {} at last", text.empty() ? "" : "; ", all[shard].name, come[shard],
                        go[shard], at_last[shard]);
  }
  return {true,
          "",
          {{"token", encode_token(token_of(layout))}, {"shards", text}},
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
  return {begin_move(layout, std::move(next)), place};
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
  return {std::move(layout), place, false};
}

ShardChanges::Wanted ShardChanges::as_settings_name() const {
  const Layout& layout = engine_.layout();
  std::vector<ShardPlace> next;
  std::optional<ShardPlace> fresh;
  for (const ShardSettings& shard : named_) {
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
  return {begin_move(layout, std::move(next)), fresh};
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
  if (verb == "add") return added(parse_shard_place(what));
  if (verb == "remove") return removed(what);
  if (verb == "replace") return replaced(parse_shard_place(what));
  if (verb == "settings") return as_settings_name();
  throw error("'{}' is no change of shards; this flusher knows add, remove, replace and settings", verb);
}

// ---- the server that becomes a shard

std::string ShardChanges::fault_of_new(const ShardPlace& place, const ShardProbe::Seen& seen) const {
  const Facts& facts = seen.facts;
  if (!facts.topology.empty()) {
    return fmt::format(
        "{} belongs to a deployment already: its visits:topology says '{}'; take an empty server, or "
        "empty it",
        place.url, facts.topology);
  }
  for (std::uint32_t bucket = 0; bucket < seen.buckets.size(); ++bucket) {
    const Marks::Held& held = seen.buckets[bucket];
    if (held.id.empty() && held.field.empty()) continue;
    return fmt::format("{} holds counts already, in visits:{{{}}}; take an empty server, or empty it", place.url,
                       bucket);
  }
  return {};
}

/// What makes the server unfit; empty: nothing.
std::string ShardChanges::fault_of(const Wanted& wanted, const ShardProbe::Seen& seen) const {
  const ShardPlace& place = *wanted.look_at;
  const Facts& facts = seen.facts;
  if (!seen.failure.empty()) return fmt::format("{} cannot be used: {}", place.url, seen.failure);
  if (facts.role && *facts.role != "master") {
    return fmt::format("{} is a replica: what is written to it would be lost; give the address of its primary",
                       place.url);
  }
  const RedisSettings& redis = settings_.redis;
  if (std::string why = why_unfit(place.url, facts, redis.accept_eviction, redis.accept_no_append_only); !why.empty()) {
    return why;
  }
  if (facts.in_cluster.value_or(false)) {
    return fmt::format(
        "{} is a node of a cluster, which decides itself where a key is: take a server of its own (a cluster counts "
        "with "
        "redis.mode = \"cluster\")",
        place.url);
  }
  if (wanted.is_new) return fault_of_new(place, seen);
  const TopologyText topology = parse_topology(facts.topology);
  if (topology.kind == TopologyText::Kind::deployment && topology.shard == place.name &&
      topology.identity == engine_.identity()) {
    return {};
  }
  return fmt::format(
      "{} is not shard {} of this deployment (its visits:topology holds '{}'): replace changes the address "
      "of a shard whose data is there already; to move its buckets to an empty server, add that server "
      "under another name, then remove {}",
      place.url, place.name, facts.topology, place.name);
}

// ---- answers

void ShardChanges::change(const ControlRequest& request, const ControlReply& reply) {
  const Wanted wanted = this->wanted(request.argument);
  if (const std::string why = engine_.why_layout_stays(); !why.empty()) throw Error(why);
  if (!wanted.look_at) return go_on(wanted, std::nullopt, request, reply);
  if (probing_) throw Error("another change is being looked at; try again in a moment");
  const Layout alone{1, 1, 1, {*wanted.look_at}, {}};
  probing_ = true;
  probe_ = std::make_unique<ShardProbe>(loop_, shards_of(alone, settings_.redis).front(), settings_.redis, writer_,
                                        [this, wanted, request, reply](const ShardProbe::Seen& seen) {
                                          probing_ = false;
                                          const std::string fault = fault_of(wanted, seen);
                                          if (!fault.empty()) return reply({false, fault, {}, {}});
                                          go_on(wanted, seen.facts, request, reply);
                                        });
}

std::string ShardChanges::why_no_room_for(const Wanted& wanted, const std::optional<Facts>& fresh) const {
  std::vector<std::optional<Facts>> servers;
  for (const ShardPlace& place : all_shards(wanted.layout)) {
    const auto known = std::ranges::find(settings_.redis.shards, place.name, &ShardSettings::name);
    servers.push_back(
        known == settings_.redis.shards.end()
            ? fresh
            : engine_.shard_report(static_cast<std::uint32_t>(known - settings_.redis.shards.begin()), now()).server);
  }
  return why_no_room(wanted.layout, servers);
}

void ShardChanges::go_on(const Wanted& wanted, const std::optional<Facts>& fresh, const ControlRequest& request,
                         const ControlReply& reply) {
  if (const std::string why = why_no_room_for(wanted, fresh); !why.empty()) return reply({false, why, {}, {}});
  ControlAnswer offer = offer_of(wanted.layout);
  if (!request.token) return reply(std::move(offer));
  if (*request.token != token_of(wanted.layout)) {
    return reply({false, "the shards have changed since this was offered; look again", {}, {}});
  }
  if (const std::string why = engine_.why_layout_stays(); !why.empty()) return reply({false, why, {}, {}});
  log::info("change {} of the shards, as the operator says: {}", wanted.layout.version, request.argument);
  engine_.change_layout(wanted.layout, [reply, offer = std::move(offer)](const std::string& why) {
    reply(why.empty() ? offer : ControlAnswer{false, why, {}, {}});
  });
}

ControlAnswer ShardChanges::progress() const {
  const Layout& layout = engine_.layout();
  ControlAnswer answer{true, "", {}, {{"version", layout.version}, {"moving", layout.is_moving() ? 1U : 0U}}};
  answer.text.emplace_back("shards", fmt::format("{}", fmt::join(names_of(layout.shards), " ")));
  if (const auto progress = engine_.move_progress()) {
    answer.text.emplace_back("next", fmt::format("{}", fmt::join(names_of(layout.next), " ")));
    answer.numbers.emplace_back("buckets", progress->buckets);
    answer.numbers.emplace_back("moved", progress->moved);
    answer.numbers.emplace_back("by_this_host", progress->ours ? 1U : 0U);
    if (!progress->problem.empty()) answer.text.emplace_back("problem", progress->problem);
  }
  return answer;
}

}  // namespace visitd
