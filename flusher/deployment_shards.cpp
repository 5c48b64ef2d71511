#include "flusher/deployment_shards.hpp"

#include <fmt/ranges.h>

#include <algorithm>

#include "common/config/shard_address.hpp"
#include "common/os/errors.hpp"

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

}  // namespace

std::vector<ShardSettings> shards_of(const Layout& layout, const RedisSettings& settings) {
  const std::vector<ShardPlace> all = all_shards(layout);
  std::vector<ShardSettings> shards;
  shards.reserve(all.size());
  for (const ShardPlace& place : all) shards.push_back(shard_of(place, settings));
  return shards;
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

std::string settings_difference(const Layout& layout, const std::vector<ShardSettings>& named) {
  std::vector<std::string> missing;
  std::vector<std::string> unknown;
  const std::vector<ShardPlace> all = all_shards(layout);
  for (const ShardPlace& place : all) {
    if (std::ranges::find(named, place.name, &ShardSettings::name) == named.end()) missing.push_back(place.name);
  }
  for (const ShardSettings& shard : named) {
    if (std::ranges::find(all, shard.name, &ShardPlace::name) == all.end()) unknown.push_back(shard.name);
  }
  std::string text;
  if (!missing.empty()) text += fmt::format("; it has {}, which redis.shards does not name", fmt::join(missing, ", "));
  if (!unknown.empty())
    text += fmt::format("; it does not have {}, which redis.shards names", fmt::join(unknown, ", "));
  return text.empty() ? text : text.substr(2);
}

}  // namespace visitd
