#include "flusher/servers_probe.hpp"

#include <utility>

namespace visitd {

ServersProbe::ServersProbe(FlusherLoop& loop, const std::vector<Target>& targets, const RedisSettings& settings,
                           const std::string& writer, Done done)
    : seen_(targets.size()), awaited_(targets.size()), done_(std::move(done)) {
  for (std::size_t i = 0; i < targets.size(); ++i) {
    probes_.push_back(std::make_unique<ShardProbe>(loop, targets[i].server, settings, writer, targets[i].buckets,
                                                   [this, i](const ShardProbe::Seen& seen) {
                                                     seen_[i] = seen;
                                                     if (--awaited_ == 0) done_(seen_);
                                                   }));
  }
}

}  // namespace visitd
