#include "flusher/counting/node_search.hpp"

#include <algorithm>
#include <utility>

namespace visitd {

NodeSearch::NodeSearch(std::vector<std::string> seeds, const ClusterMap& known) : seeds_(std::move(seeds)) {
  know(known);
}

void NodeSearch::know(const ClusterMap& map) {
  std::vector<std::string> nodes;
  const auto add = [&](const std::vector<std::string>& more) {
    for (const std::string& node : more) {
      if (std::ranges::find(nodes, node) == nodes.end()) nodes.push_back(node);
    }
  };
  add(map.primaries());
  add(map.replicas);
  add(seeds_);
  if (nodes != nodes_) turn_ = 0;
  nodes_ = std::move(nodes);
}

std::vector<std::string> NodeSearch::next(std::size_t most) {
  std::vector<std::string> asked;
  if (!preferred_.empty()) asked.push_back(std::exchange(preferred_, {}));
  for (std::size_t looked = 0; looked < nodes_.size() && asked.size() < most; ++looked) {
    const std::string& node = nodes_[turn_++ % nodes_.size()];
    if (std::ranges::find(asked, node) == asked.end()) asked.push_back(node);
  }
  return asked;
}

}  // namespace visitd
