#include "flusher/engine_settings.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "flusher/salt.hpp"

namespace visitd {

namespace {

/// host:port, or the path of a Unix socket, and the database where it is not the first.
std::string address_text(const ShardSettings& shard) {
  const std::string server = shard.unix_path.empty() ? fmt::format("{}:{}", shard.host, shard.port) : shard.unix_path;
  return shard.database == 0 ? server : fmt::format("{}, database {}", server, shard.database);
}

}  // namespace

EngineSettings engine_settings(const LiveSettings& live, std::uint32_t page_id_limit) {
  const Settings& settings = live.get();
  EngineSettings engine;
  for (const ShardSettings& shard : settings.shards) {
    engine.shards.push_back(shard.name);
    engine.servers.push_back({address_text(shard), shard.database});
  }
  engine.visitctl = live.visitctl();
  engine.virtual_nodes = settings.virtual_nodes;
  engine.buckets = settings.buckets;
  engine.page_id_limit = page_id_limit;
  engine.memory_limit_bytes = settings.memory_limit_bytes;
  engine.journal_limit_bytes = settings.journal_limit_bytes;
  engine.flush_interval_ms = settings.flush_interval_ms;
  engine.commit_interval_ms = settings.commit_interval_ms;
  engine.batches = {settings.batch_pages, settings.keep_batches_s, settings.keep_batches_bytes, settings.ttl_ms};
  engine.batches_in_flight = settings.batches_in_flight;
  engine.reconnect_ms = settings.reconnect_interval_ms;
  engine.held_recheck_ms = settings.held_recheck_ms;
  engine.check_ms = settings.check_interval_ms;
  engine.accept_eviction = settings.accept_eviction;
  engine.accept_no_append_only = settings.accept_no_append_only;
  engine.salt = draw_salt;
  return engine;
}

SpoolLayout spool_layout(const Settings& settings) {
  SpoolLayout layout{settings.buckets, settings.virtual_nodes, {}};
  for (const ShardSettings& shard : settings.shards) layout.shards.push_back(shard.name);
  std::ranges::sort(layout.shards);
  return layout;
}

}  // namespace visitd
