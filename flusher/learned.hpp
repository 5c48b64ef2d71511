// What one life of a flusher leaves to the next of the same process, which the spool may not know yet.
#pragma once

#include <optional>
#include <string>

#include "flusher/counting/cluster_map.hpp"
#include "flusher/counting/layout.hpp"

namespace visitd {

struct Learned {
  std::optional<Layout> layout = std::nullopt;
  std::optional<ClusterMap> cluster = std::nullopt;  ///< the map of the cluster that the layout has at this address:
  std::string cluster_url = {};
};

}  // namespace visitd
