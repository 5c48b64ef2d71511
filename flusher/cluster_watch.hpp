// Asks the nodes of a cluster where its primaries are: now and then, and more often while something is not well.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/config/settings.hpp"
#include "flusher/counting/engine.hpp"
#include "flusher/counting/node_search.hpp"
#include "flusher/flusher_loop.hpp"

namespace visitd {

class ClusterWatch {
 public:
  /// Called on the loop where the primaries are others than those of this life, which has to end.
  using Changed = std::function<void(ClusterMap map)>;

  /// The nodes that are asked for all others, as the settings say it now; see seeds_of().
  using Seeds = std::function<std::vector<ShardSettings>()>;

  /// `settings`: those in use; the cluster's primaries are among their shards. Loop, engine and settings outlive it.
  ClusterWatch(FlusherLoop& loop, Engine& engine, const RedisSettings& settings, Seeds seeds, const ClusterMap& known,
               std::string writer, Changed changed);
  ClusterWatch(const ClusterWatch&) = delete;
  ClusterWatch& operator=(const ClusterWatch&) = delete;
  ~ClusterWatch();

  /// Asks when it is time.
  void tick(std::uint64_t now_ms);
  /// A node names another one that is none of this life's: asked soon.
  void look_for(const std::string& node);

 private:
  class Look;

  void begin_round();
  void end_round();
  void on_nodes(Nodes nodes);
  [[nodiscard]] bool is_well() const;

  FlusherLoop& loop_;
  Engine& engine_;
  const RedisSettings& settings_;
  Seeds seeds_;
  std::string writer_;
  Changed changed_;
  NodeSearch search_;
  std::vector<std::unique_ptr<Look>> looks_;  ///< of this round
  std::size_t awaited_ = 0;                   ///< looks without an end
  std::uint64_t next_ms_ = 0;
  bool soon_ = false;
  bool answered_ = false;  ///< in this round a node said that the cluster is well
  std::string fault_;      ///< in this round one said that it is not
};

}  // namespace visitd
