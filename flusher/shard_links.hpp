// A connection to each shard, which tells the engine what comes in.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/config/settings.hpp"
#include "flusher/counting/engine.hpp"
#include "flusher/flusher_loop.hpp"
#include "flusher/redis/shard_connection.hpp"

namespace visitd {

class ShardLinks {
 public:
  /// `writer`: see ShardConnection. Loop and engine outlive it.
  ShardLinks(FlusherLoop& loop, Engine& engine, const Settings& settings, const std::string& writer);
  ShardLinks(const ShardLinks&) = delete;
  ShardLinks& operator=(const ShardLinks&) = delete;
  ~ShardLinks();

  [[nodiscard]] ShardConnection& operator[](std::uint32_t shard) noexcept { return *connections_[shard]; }
  void set_timeout(std::uint32_t timeout_ms) noexcept;

 private:
  class Listener;

  std::vector<std::unique_ptr<Listener>> listeners_;
  std::vector<std::unique_ptr<ShardConnection>> connections_;
};

}  // namespace visitd
