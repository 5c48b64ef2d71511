#include "flusher/counting/engine_shards.hpp"

namespace visitd {

SessionSettings session_settings(const EngineSettings& settings, std::uint32_t shard) {
  const auto server = shard < settings.servers.size() ? settings.servers[shard] : EngineSettings::Server();
  const Layout layout = layout_of(settings);
  return {settings.shards[shard],
          to_text(layout),
          layout.version,
          std::ranges::find(layout.shards, place_name(settings, shard), &ShardPlace::name) == layout.shards.end(),
          is_node(settings, shard),
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
          settings.wait_ms,
          settings.unix_ahead_ms};
}

}  // namespace visitd
