// What the nodes of a simulated cluster agree on: which of them serves a bucket, and where it is being moved to.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "flusher/counting/shard_protocol.hpp"

namespace visitd {

struct SimulatedCluster {
  std::vector<std::string> nodes;
  std::vector<std::uint32_t> owner;                   ///< of each bucket, and behind them of visits:topology: a node
  std::vector<std::optional<std::uint32_t>> goes_to;  ///< the node to which the bucket is being moved

  [[nodiscard]] std::size_t topology_key() const noexcept { return owner.size() - 1; }

  /// What a node answers instead of executing a command; nullopt: it executes it. `here`: the node holds the key.
  [[nodiscard]] std::optional<Redirect> redirect(std::uint32_t node, std::size_t key, bool here, bool once) const {
    if (owner[key] == node) {
      if (here || !goes_to[key]) return std::nullopt;
      return Redirect{nodes[*goes_to[key]], true};
    }
    if (once && goes_to[key] == node) return std::nullopt;
    return Redirect{nodes[owner[key]]};
  }
};

}  // namespace visitd
