// Where a deployment's buckets are to be: its shards, and while they change also those that come next. Each change has
// the next version. The shards say which one holds (visits:topology); settings say it only of a deployment that was
// never changed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "flusher/counting/cluster_map.hpp"
#include "flusher/counting/placement.hpp"

namespace visitd {

struct ShardPlace {
  std::string name;
  std::string url = {};  ///< without password; empty: the settings of each host say it
  /// It stands for all nodes of a cluster: "cluster://[USER@]HOST:PORT,HOST:PORT", over TLS "clusters://…"; without
  /// nodes: the settings name them.
  [[nodiscard]] bool is_cluster() const noexcept;
  friend bool operator==(const ShardPlace&, const ShardPlace&) = default;
};

struct Layout {
  std::uint64_t version = 1;
  std::uint32_t buckets = 0;
  std::uint32_t virtual_nodes = 0;
  std::vector<ShardPlace> shards;  ///< where the buckets are, or come from
  std::vector<ShardPlace> next;    ///< where they go; empty: they stay
  std::uint32_t rate = 0;          ///< buckets that move in a second, at most; 0: as fast as it goes
  friend bool operator==(const Layout&, const Layout&) = default;

  [[nodiscard]] bool is_moving() const noexcept { return !next.empty(); }
};

/// As visits:topology has it at its end: "BUCKETS VIRTUAL_NODES NAME,NAME" of the first version, by name; of others
/// "VERSION BUCKETS VIRTUAL_NODES SHARDS NEXT", where SHARDS is "NAME=URL;NAME" and NEXT the same, or "-"; where there
/// is a rate, " RATE" follows.
[[nodiscard]] std::string to_text(const Layout& layout);
/// What to_text wrote of a version above the first; nullopt: the text is something else.
[[nodiscard]] std::optional<Layout> parse_layout(std::string_view text);

[[nodiscard]] std::vector<std::string> names_of(const std::vector<ShardPlace>& places);
/// All shards that hold buckets, or are going to: those of `shards` in their order, then those of `next` that are new.
[[nodiscard]] std::vector<ShardPlace> all_shards(const Layout& layout);
/// The cluster that holds buckets, or is going to; nullptr: none. It is the only one of the `shards`, or of `next`.
[[nodiscard]] const ShardPlace* cluster_of(const Layout& layout);
/// What a life of the flusher speaks to, by name: those of all_shards() that are servers of their own, then the
/// cluster's primaries. `cluster`: where the layout has one, its map.
[[nodiscard]] std::vector<std::string> shards_of_life(const Layout& layout, const std::optional<ClusterMap>& cluster);
/// The shard whose visits:topology decides which change comes next: the first by name of those that hold the buckets.
[[nodiscard]] const std::string& deciding_shard(const Layout& layout);
/// Where each bucket is before anything has moved, and where it goes; by indexes in shards_of_life().
[[nodiscard]] Placement place_buckets(const Layout& layout, const std::optional<ClusterMap>& cluster = std::nullopt);

/// A bucket that has left the shard, which does not say so: somebody put the shard back as it was before.
struct LeftBucket {
  std::uint32_t shard = 0;
  std::uint32_t bucket = 0;
};

/// Says on a bucket's shard where it goes, and by which change: the name of the next place, and the layout's version.
[[nodiscard]] std::string move_marker(std::string_view next, std::uint64_t version);

/// The change that follows: its buckets go to these shards.
[[nodiscard]] Layout begin_move(const Layout& layout, std::vector<ShardPlace> next);
/// The change that follows once every bucket has moved.
[[nodiscard]] Layout end_move(const Layout& layout);

}  // namespace visitd
