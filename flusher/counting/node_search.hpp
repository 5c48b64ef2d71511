// Which nodes of a cluster are asked next where its primaries are. Decides; knows no clock, loop or socket.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "flusher/counting/cluster_map.hpp"

namespace visitd {

class NodeSearch {
 public:
  /// `seeds`: the nodes that the settings name.
  NodeSearch(std::vector<std::string> seeds, const ClusterMap& known);

  /// The nodes are these now.
  void know(const ClusterMap& map);
  /// Another node named this one: it comes next.
  void prefer(std::string node) { preferred_ = std::move(node); }
  /// So many nodes at most; each one comes before any comes again.
  [[nodiscard]] std::vector<std::string> next(std::size_t most);

 private:
  std::vector<std::string> seeds_;
  std::vector<std::string> nodes_;  ///< primaries, replicas, seeds, each once
  std::string preferred_;           ///< empty: none
  std::size_t turn_ = 0;
};

}  // namespace visitd
