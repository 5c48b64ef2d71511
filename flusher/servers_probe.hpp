// A look at several servers at once, before buckets go there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/config/settings.hpp"
#include "flusher/flusher_loop.hpp"
#include "flusher/shard_probe.hpp"

namespace visitd {

class ServersProbe {
 public:
  struct Target {
    ShardSettings server;
    std::vector<std::uint32_t> buckets;  ///< that are looked at
  };
  /// By target.
  using Done = std::function<void(const std::vector<ShardProbe::Seen>&)>;

  /// `done` is called once, on the loop. Destroying it ends the look, but not from within `done`. `settings`: as
  /// ShardProbe has them.
  ServersProbe(FlusherLoop& loop, const std::vector<Target>& targets, const RedisSettings& settings,
               const std::string& writer, Done done);
  ServersProbe(const ServersProbe&) = delete;
  ServersProbe& operator=(const ServersProbe&) = delete;
  ~ServersProbe() = default;

 private:
  std::vector<ShardProbe::Seen> seen_;
  std::size_t awaited_;
  Done done_;
  std::vector<std::unique_ptr<ShardProbe>> probes_;
};

}  // namespace visitd
