// A connection to each shard, which tells the engine what comes in.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/config/settings.hpp"
#include "flusher/counting/engine.hpp"
#include "flusher/flusher_loop.hpp"
#include "flusher/redis/shard_link.hpp"
#include "flusher/replica_question.hpp"

namespace visitd {

class ShardLinks {
 public:
  /// `writer`: see ShardLink. Loop, engine and settings outlive it.
  ShardLinks(FlusherLoop& loop, Engine& engine, const Settings& settings, const std::string& writer);
  ShardLinks(const ShardLinks&) = delete;
  ShardLinks& operator=(const ShardLinks&) = delete;
  ~ShardLinks();

  [[nodiscard]] ShardLink& operator[](std::uint32_t shard) noexcept { return *links_[shard]; }
  /// So many shards, which are those of the settings: the last ones come, or go, of which none has to answer.
  void set_shards(std::size_t count);
  /// As ShardLink::send; how long the server takes to say what it is, is noted. Whether replicas follow is asked over
  /// another connection, which ends with the answer.
  void send(std::uint32_t shard, const ShardCommand& command, Completion done);
  /// How long the shard took to answer when it was last asked what it is, microseconds; nullopt: it was never asked.
  [[nodiscard]] std::optional<std::uint64_t> latency_us(std::uint32_t shard) const noexcept {
    return latencies_us_[shard];
  }
  /// Settings that changed; the shards are the same servers as before.
  void use(const Settings& settings);

 private:
  class Listener;

  void ask_replicas(std::uint32_t shard, const AskReplicas& asked, Completion done);

  FlusherLoop& loop_;
  Engine& engine_;
  const Settings& settings_;
  std::string writer_;
  std::vector<std::unique_ptr<Listener>> listeners_;
  std::vector<std::unique_ptr<ShardLink>> links_;
  std::vector<std::optional<std::uint64_t>> latencies_us_;
  std::vector<std::unique_ptr<ReplicaQuestion>> questions_;  ///< by shard: the last one
};

}  // namespace visitd
