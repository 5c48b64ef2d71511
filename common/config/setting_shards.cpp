#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/config/setting_secrets.hpp"
#include "common/config/setting_text.hpp"
#include "common/config/setting_values.hpp"
#include "common/config/shard_address.hpp"
#include "common/os/errors.hpp"

namespace visitd::setting {

namespace {

/// Each shard as it was named: in tables of the file, unless the environment has a list.
std::vector<ShardTable> tables_of(const Draft& draft, const Sources& sources) {
  const Origin addresses = sources.origin("redis", "shards");
  if (!sources.shard_tables.empty() && addresses.source != Source::environment) return sources.shard_tables;
  std::vector<ShardTable> tables;
  tables.reserve(draft.for_shards.addresses.size());
  for (const std::string& address : draft.for_shards.addresses) {
    tables.push_back({.where = addresses.where, .url = address});
  }
  return tables;
}

/// Each node of the cluster as it was named. Throws Error where shards are named too, or instead.
std::vector<ShardTable> nodes_of(const Draft& draft, const Sources& sources) {
  const Origin mode = sources.origin("redis", "mode");
  const Origin nodes = sources.origin("redis", "nodes");
  const Origin shards = sources.origin("redis", "shards");
  if (shards.source != Source::built_in || !sources.shard_tables.empty()) {
    throw error(
        "{}: shards are named, and redis.mode is \"cluster\" ({}), which has nodes instead: remove the shards, or set "
        "redis.mode to \"shards\"",
        shards.source != Source::built_in ? shards.where : sources.shard_tables.front().where, mode.where);
  }
  if (draft.for_shards.nodes.empty()) {
    throw error("{}: redis.mode is \"cluster\", and redis.nodes names no node: name one or more of the cluster",
                mode.where);
  }
  if (draft.for_shards.database != 0) {
    throw error("{}: redis.database is {}, and a cluster has database 0 alone: set redis.database to 0",
                sources.origin("redis", "database").where, draft.for_shards.database);
  }
  std::vector<ShardTable> tables;
  tables.reserve(draft.for_shards.nodes.size());
  for (const std::string& address : draft.for_shards.nodes) tables.push_back({.where = nodes.where, .url = address});
  return tables;
}

/// The node of a table.
ShardSettings node_of(const ShardTable& table) {
  ShardAddress address;
  try {
    address = parse_shard_address(table.url);
  } catch (const Error& failure) {
    throw error("{}: {}", table.where, failure.what());
  }
  ShardSettings& node = address.shard;
  if (!node.unix_path.empty()) {
    throw error("{}: the node is the Unix socket '{}'; the nodes of a cluster are reached by HOST:PORT", table.where,
                node.unix_path);
  }
  if (address.has_database && node.database != 0) {
    throw error("{}: the node has database {}, and a cluster has database 0 alone", table.where, node.database);
  }
  node.name = server_text({node.host, node.port});
  node.in_cluster = true;
  return std::move(node);
}

/// The shard of a table, with a password only where its URL has one.
ShardSettings shard_of(const ShardTable& table, std::uint32_t database) {
  ShardAddress address;
  try {
    address = parse_shard_address(table.url);
  } catch (const Error& failure) {
    throw error("{}: {}", table.where, failure.what());
  }
  ShardSettings& shard = address.shard;
  if (!table.name.empty()) shard.name = table.name;
  if (shard.name.empty()) {
    throw error("{}: the shard at {} needs a name: write NAME={}… or 'name' in its [[redis.shard]]", table.where,
                shard_url(shard), shard.unix_path.empty() ? "sentinel://" : "unix://");
  }
  if (!is_shard_name(shard.name)) {
    throw error("{}: the shard's name is {}; allowed: 1 to 64 of A-Z a-z 0-9 . _ -", table.where,
                in_quotes(shard.name));
  }
  if ((shard.password.empty() ? 0 : 1) + (table.password.empty() ? 0 : 1) + (table.password_file.empty() ? 0 : 1) > 1) {
    throw error("{}: the password of shard '{}' is given more than once; keep one", table.where, shard.name);
  }
  if (!address.has_database) shard.database = database;
#ifdef VISITD_WITHOUT_TLS
  if (shard.over_tls) {
    throw error(
        "{}: shard '{}' is one over TLS (rediss:// or sentinels://), and this visitd was built without TLS (meson's "
        "option tls): take "
        "a "
        "build with it, or have stunnel on this host speak TLS and name its port here with redis://",
        table.where, shard.name);
  }
#endif
  return std::move(shard);
}

/// Who set one of these expects it to be used.
void check_use(const Draft& draft, const Sources& sources) {
  bool any_over_tls = false;
  bool any_sentinels = false;
  for (const ShardSettings& shard : draft.redis.shards) {
    any_over_tls = any_over_tls || shard.over_tls;
    any_sentinels = any_sentinels || !shard.sentinels.addresses.empty();
  }
  const ForShards& shared = draft.for_shards;
  const auto refuse_if_set = [&](std::string_view key, const std::string& value, std::string_view what) {
    if (value.empty()) return;
    throw error("{}: redis.{} is set, and no shard is reached {} in the shards' addresses",
                sources.origin("redis", key).where, key, what);
  };
  if (!any_over_tls) {
    constexpr std::string_view what = "over TLS: write rediss://";
    refuse_if_set("tls_ca_file", shared.tls_ca_file, what);
    refuse_if_set("tls_certificate_file", shared.tls_certificate_file, what);
    refuse_if_set("tls_key_file", shared.tls_key_file, what);
    refuse_if_set("tls_server_name", shared.tls_server_name, what);
  }
  if (!any_sentinels) {
    constexpr std::string_view what = "by sentinels: write sentinel://";
    refuse_if_set("sentinel_username", shared.sentinel_username, what);
    refuse_if_set("sentinel_password_file", shared.sentinel_password_file, what);
  }
}

}  // namespace

void make_shards(Draft& draft, const Sources& sources, Secrets secrets) {
  const SharedSecrets shared(draft.for_shards, sources, secrets);
  std::vector<std::string>& secret_files = draft.secret_files;
  const auto note_secret = [&](const std::string& file) {
    if (!file.empty()) secret_files.push_back(file);
  };
  note_secret(draft.for_shards.password_file);
  note_secret(draft.for_shards.tls_key_file);
  note_secret(draft.for_shards.sentinel_password_file);
  const bool cluster = draft.redis.mode == RedisMode::cluster;
  if (!cluster && !draft.for_shards.nodes.empty()) {
    throw error(
        "{}: redis.nodes names nodes of a cluster, and redis.mode is \"shards\": set redis.mode to \"cluster\", or "
        "name the servers in redis.shards",
        sources.origin("redis", "nodes").where);
  }
  for (const ShardTable& table : cluster ? nodes_of(draft, sources) : tables_of(draft, sources)) {
    ShardSettings shard = cluster ? node_of(table) : shard_of(table, draft.for_shards.database);
    shared.give(shard, table);
    note_secret(table.password_file);
    note_secret(table.tls_key_file);
    note_secret(table.sentinel_password_file);
    draft.redis.shards.push_back(std::move(shard));
    draft.shard_places.push_back(table.where);
  }
  check_use(draft, sources);
  draft.redis.added_shard.database = draft.for_shards.database;
  draft.redis.added_shard.over_tls = true;  // its address may be: then it has what the others have
  shared.give(draft.redis.added_shard, {});
}

}  // namespace visitd::setting
