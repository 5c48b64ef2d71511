#include "common/config/setting_checks.hpp"

#include <algorithm>
#include <filesystem>
#include <initializer_list>
#include <set>
#include <string>

#include "common/config/setting_text.hpp"
#include "common/config/setting_values.hpp"
#include "common/config/shard_address.hpp"
#include "common/os/errors.hpp"
#include "common/os/text.hpp"
#include "common/shm/cache_layout.hpp"

namespace visitd::setting {

namespace {

/// Where the first of these values that is no default was set, as an error begins.
std::string place(std::initializer_list<Origin> values_at_fault) {
  for (const Origin& origin : values_at_fault) {
    if (origin.source != Source::built_in) return origin.where + ": ";
  }
  return {};
}

std::string normal_path(const std::string& path) {
  return std::filesystem::path(path + '/').lexically_normal();
}

void check_distinct_shards(const Draft& draft) {
  // Addresses in a list are counted as their key's other limits are; tables are counted here.
  if (draft.redis.shards.size() > max_shards) {
    throw error("{}: this is shard {} of {}, and visitd keeps at most {} apart; list fewer",
                draft.shard_places[max_shards], max_shards + 1, draft.redis.shards.size(), max_shards);
  }
  std::set<std::string> names;
  std::set<std::string> addresses;
  for (std::size_t i = 0; i < draft.redis.shards.size(); ++i) {
    ShardSettings shard = draft.redis.shards[i];
    if (!names.insert(shard.name).second) {
      throw error("{}: two shards are called '{}'; give one of them another name", draft.shard_places[i], shard.name);
    }
    shard.username.clear();
    shard.host = lower_case(shard.host);
    // Names of one address that are known without a lookup.
    if (shard.host == "localhost" || shard.host == "::1") shard.host = "127.0.0.1";
    if (!addresses.insert(shard_url(shard)).second) {
      throw error("{}: two shards are {}; each needs a server or a database of its own", draft.shard_places[i],
                  shard_url(shard));
    }
  }
}

void check_request_has_room(const Draft& draft, const Sources& sources) {
  const std::uint64_t id_bytes = draft.pages.page_id_limit_bytes;
  // A byte of an id may take three in the request line: %XX.
  const std::uint64_t head_bytes = 3 * id_bytes + draft.http.api_prefix.size() + 256;
  if (draft.http.head_limit_bytes < head_bytes) {
    throw error(
        "{}http.head_limit_bytes is {}, too small for a request with a page id of {} bytes; allowed: {} or more, or a "
        "smaller pages.page_id_limit_bytes",
        place({sources.origin("http", "head_limit_bytes"), sources.origin("pages", "page_id_limit_bytes")}),
        draft.http.head_limit_bytes, id_bytes, head_bytes);
  }
  const std::uint64_t target_bytes = 3 * id_bytes + draft.http.api_prefix.size() + 16;
  if (draft.http.target_limit_bytes < target_bytes) {
    throw error(
        "{}http.target_limit_bytes is {}, too small for a page id of {} bytes; allowed: {} or more, or a "
        "smaller pages.page_id_limit_bytes",
        place({sources.origin("http", "target_limit_bytes"), sources.origin("pages", "page_id_limit_bytes")}),
        draft.http.target_limit_bytes, id_bytes, target_bytes);
  }
}

}  // namespace

void check_together(const Draft& draft, const Sources& sources) {
  check_distinct_shards(draft);
  check_request_has_room(draft, sources);
  if (normal_path(draft.paths.runtime_directory) == normal_path(draft.paths.state_directory)) {
    throw error(
        "{}paths.state_directory is the runtime directory, which does not survive a reboot; give it another path",
        place({sources.origin("paths", "state_directory"), sources.origin("paths", "runtime_directory")}));
  }
  if (draft.http.cors_origins.size() > 1 &&
      std::ranges::find(draft.http.cors_origins, "*") != draft.http.cors_origins.end()) {
    refuse(sources.origin("http", "cors_origins").where, key_named("http", "cors_origins"), "\"*\" and others");
  }
  if (!draft.http.visit_path.empty() && (draft.http.api_prefix + '/').starts_with(draft.http.visit_path)) {
    throw error(
        "{}http.visit_path is {}, and http.api_prefix begins with it, so that a path would name one page with "
        "the prefix and another without it; give one of them another name",
        place({sources.origin("http", "visit_path"), sources.origin("http", "api_prefix")}), draft.http.visit_path);
  }
  const auto has_shape = [&](std::string_view name) {
    return std::ranges::find(draft.http.shapes, name) != draft.http.shapes.end();
  };
  if (has_shape("countapi") && has_shape("abacus")) {
    refuse(sources.origin("http", "shapes").where, key_named("http", "shapes"),
           "countapi and abacus, which have the same paths: name one of them");
  }
  const std::uint64_t shards = draft.redis.shards.size();
  if (shards > draft.redis.buckets) {
    throw error("{}redis.buckets is {}, fewer than the {} shards",
                place({sources.origin("redis", "buckets"), sources.origin("redis", "shards")}), draft.redis.buckets,
                shards);
  }
}

}  // namespace visitd::setting
