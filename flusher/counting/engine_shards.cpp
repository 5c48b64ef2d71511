#include "flusher/counting/engine_shards.hpp"

namespace visitd {

SessionSettings session_settings(const EngineSettings& settings, std::uint32_t shard) {
  const auto server = shard < settings.servers.size() ? settings.servers[shard] : EngineSettings::Server();
  const Layout layout = layout_of(settings);
  return {settings.shards[shard],
          to_text(layout),
          layout.version,
          !settings.cluster &&
              std::ranges::find(layout.shards, settings.shards[shard], &ShardPlace::name) == layout.shards.end(),
          settings.cluster.has_value(),
          settings.batches_in_flight,
          settings.reconnect_ms,
          settings.held_recheck_ms,
          settings.accept_eviction,
          settings.accept_no_append_only,
          settings.check_ms,
          server.address,
          server.database,
          settings.visitctl,
          settings.wait_replicas,
          settings.wait_aof,
          settings.wait_ms};
}

}  // namespace visitd
