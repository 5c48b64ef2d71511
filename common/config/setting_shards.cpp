#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>
#include <utility>

#include "common/config/setting_forms.hpp"
#include "common/config/setting_text.hpp"
#include "common/config/setting_values.hpp"
#include "common/config/shard_address.hpp"
#include "common/os/errors.hpp"
#include "common/os/whole_file.hpp"

namespace visitd::setting {

namespace {

enum class Empty { is_refused, is_none };

/// `where`: what named the file. `empty`: what a file without a password means.
std::string read_password_file(const std::string& path, const std::string& where, Empty empty = Empty::is_refused) {
  constexpr std::size_t password_limit_bytes = 512;
  std::string password;
  try {
    password = read_whole_file(path, password_limit_bytes, "password file");
  } catch (const Error& failure) {
    throw error("{}: {}", where, failure.what());
  }
  if (password.ends_with('\n')) password.pop_back();
  if (password.ends_with('\r')) password.pop_back();
  if (password.empty() && empty == Empty::is_refused) throw error("{}: the password file '{}' is empty", where, path);
  if (!is_password(password)) throw error("{}: the password file '{}' holds a NUL", where, path);
  return password;
}

struct Password {
  std::string text{};
  std::string place{};  ///< what gave it, for people
};

/// The password of shards that have none of their own.
Password shared_password(const ForShards& shared, const Sources& sources) {
  const Origin password = sources.origin("redis", "password");
  const Origin file = sources.origin("redis", "password_file");
  // Either of them in the environment stands above the other in the settings file.
  const bool file_counts = password.source != Source::environment || file.source == Source::environment;
  const bool password_counts = file.source != Source::environment || password.source == Source::environment;
  const bool has_password = password_counts && !shared.password.empty();
  const bool has_file = file_counts && !shared.password_file.empty();
  if (has_password && has_file) {
    throw error(
        "{}: the password is given twice, as text and as a file; keep one of redis.password and redis.password_file",
        file.where);
  }
  const auto name_of = [](const Origin& origin, std::string_view key) {
    return origin.source == Source::environment ? origin.where : std::string(key);
  };
  if (has_password) return {shared.password, name_of(password, "redis.password")};
  if (has_file) {
    return {read_password_file(shared.password_file, file.where),
            fmt::format("{} ({})", name_of(file, "redis.password_file"), shared.password_file)};
  }
  if (const char* directory = std::getenv("CREDENTIALS_DIRECTORY"); directory != nullptr) {
    const std::string path = std::string(directory) + "/redis_password";
    // If a credential may be missing, its unit sets an empty one or a line break (SetCredential=): that is no password.
    if (std::filesystem::exists(path))
      return {read_password_file(path, "environment variable CREDENTIALS_DIRECTORY", Empty::is_none),
              "the credential redis_password"};
  }
  return {};
}

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
  node.name = address_text(node.host, node.port);
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
    throw error(
        "{}: the shard on the Unix socket '{}' needs a name: write NAME=unix://… or 'name' in its [[redis.shard]]",
        table.where, shard.unix_path);
  }
  if (!is_shard_name(shard.name)) {
    throw error("{}: the shard's name is {}; allowed: 1 to 64 of A-Z a-z 0-9 . _ -", table.where,
                in_quotes(shard.name));
  }
  if ((shard.password.empty() ? 0 : 1) + (table.password.empty() ? 0 : 1) + (table.password_file.empty() ? 0 : 1) > 1) {
    throw error("{}: the password of shard '{}' is given more than once; keep one", table.where, shard.name);
  }
  if (!address.has_database) shard.database = database;
  return std::move(shard);
}

void give_password(ShardSettings& shard, const ShardTable& table, const Password& shared) {
  if (!table.password_file.empty()) {
    shard.password = read_password_file(table.password_file, table.where);
    shard.password_place = fmt::format("password_file ({}) of {}", table.password_file, table.where);
  } else if (!table.password.empty()) {
    shard.password = table.password;
    shard.password_place = fmt::format("password of {}", table.where);
  } else if (!shard.password.empty()) {
    shard.password_place = fmt::format("the shard's URL ({})", table.where);
  } else {
    shard.password = shared.text;
    shard.password_place = shared.place;
  }
}

}  // namespace

void make_shards(Draft& draft, const Sources& sources, Secrets secrets) {
  const Password shared = secrets == Secrets::read ? shared_password(draft.for_shards, sources) : Password{};
  draft.redis.added_shard.password = shared.text;
  draft.redis.added_shard.password_place = shared.place;
  draft.redis.added_shard.database = draft.for_shards.database;
  if (!draft.for_shards.password_file.empty()) draft.redis.password_files.push_back(draft.for_shards.password_file);
  const bool cluster = draft.redis.mode == RedisMode::cluster;
  if (!cluster && !draft.for_shards.nodes.empty()) {
    throw error(
        "{}: redis.nodes names nodes of a cluster, and redis.mode is \"shards\": set redis.mode to \"cluster\", or "
        "name "
        "the servers in redis.shards",
        sources.origin("redis", "nodes").where);
  }
  for (const ShardTable& table : cluster ? nodes_of(draft, sources) : tables_of(draft, sources)) {
    ShardSettings shard = cluster ? node_of(table) : shard_of(table, draft.for_shards.database);
    if (secrets == Secrets::leave) {
      shard.password.clear();
    } else {
      give_password(shard, table, shared);
    }
    if (!table.password_file.empty()) draft.redis.password_files.push_back(table.password_file);
    draft.redis.shards.push_back(std::move(shard));
    draft.shard_places.push_back(table.where);
  }
}

}  // namespace visitd::setting
