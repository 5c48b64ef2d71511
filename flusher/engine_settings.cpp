#include "flusher/engine_settings.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "common/config/program.hpp"
#include "common/config/shard_address.hpp"
#include "common/os/clock.hpp"
#include "flusher/host_identity.hpp"
#include "flusher/now.hpp"
#include "flusher/salt.hpp"

namespace visitd {

namespace {

/// host:port, or the path of a Unix socket, or who says where it is; and the database where it is not the first.
std::string address_text(const ShardSettings& shard) {
  std::string server = shard.unix_path.empty() ? fmt::format("{}:{}", shard.host, shard.port) : shard.unix_path;
  if (!shard.sentinels.addresses.empty()) {
    server = fmt::format("{} of the sentinels {}", shard.sentinels.primary, servers_text(shard.sentinels.addresses));
  }
  return shard.database == 0 ? server : fmt::format("{}, database {}", server, shard.database);
}

}  // namespace

EngineSettings engine_settings(const LiveSettings& live, std::uint32_t page_id_limit) {
  const Settings& settings = live.get();
  EngineSettings engine;
  for (const ShardSettings& shard : settings.redis.shards) {
    engine.shards.push_back(shard.name);
    engine.servers.push_back({address_text(shard), shard.database});
  }
  engine.visitctl = live.visitctl();
  engine.virtual_nodes = settings.redis.virtual_nodes;
  engine.buckets = settings.redis.buckets;
  engine.page_id_limit = page_id_limit;
  engine.memory_limit_bytes = settings.flusher.memory_limit_bytes;
  engine.journal_limit_bytes = settings.flusher.journal_limit_bytes;
  engine.flush_interval_ms = settings.flusher.flush_interval_ms;
  engine.commit_interval_ms = settings.flusher.commit_interval_ms;
  engine.batches = {settings.flusher.batch_pages, settings.flusher.keep_batches_s, settings.flusher.keep_batches_bytes,
                    settings.cache.ttl_ms};
  engine.batches_in_flight = settings.flusher.batches_in_flight;
  engine.reconnect_ms = settings.redis.reconnect_interval_ms;
  engine.held_recheck_ms = settings.redis.held_recheck_ms;
  engine.check_ms = settings.redis.check_interval_ms;
  engine.accept_eviction = settings.redis.accept_eviction;
  engine.accept_no_append_only = settings.redis.accept_no_append_only;
  engine.wait_replicas = settings.redis.wait_replicas;
  engine.wait_aof = settings.redis.wait_aof;
  engine.wait_ms = settings.redis.timeout_ms;
  engine.unix_ahead_ms = even_time().ahead_ms();
  engine.host = host_identity().host;
  engine.version = program_version();
  engine.salt = draw_salt;
  engine.scan_pages_per_s = settings.flusher.scan_pages_per_s;
  engine.now_us = [] { return monotonic_ns() / 1000; };
  return engine;
}

SpoolLayout spool_layout(const LiveSettings& live) {
  const Settings& settings = live.get();
  SpoolLayout layout{settings.redis.buckets, settings.redis.virtual_nodes, {}};
  if (settings.redis.mode == RedisMode::cluster) {
    layout.shards.push_back(cluster_name);
    return layout;
  }
  for (const ShardSettings& shard : live.named_shards()) layout.shards.push_back(shard.name);
  std::ranges::sort(layout.shards);
  return layout;
}

}  // namespace visitd
