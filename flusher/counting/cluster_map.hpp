// Which node of a cluster serves which slots, as its nodes say it, and so where each bucket is.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace visitd {

inline constexpr std::uint32_t cluster_slots = 16384;

/// What a cluster is called where a shard would have its name.
inline const std::string cluster_name = "cluster";
/// The key that says what a deployment is: one for all nodes of a cluster.
inline constexpr std::string_view topology_key = "visits:topology";

/// The slot of a key: CRC16 of what stands between its first { and the } behind it, or of all of it.
[[nodiscard]] std::uint32_t slot_of_key(std::string_view key) noexcept;

struct ClusterMap {
  struct Slots {
    std::uint32_t first = 0;
    std::uint32_t last = 0;
    std::string node;  ///< the primary that serves them: HOST:PORT
    friend bool operator==(const Slots&, const Slots&) = default;
  };
  std::vector<Slots> slots;
  std::vector<std::string> replicas;  ///< HOST:PORT; asked for nothing but where the primaries are
  friend bool operator==(const ClusterMap&, const ClusterMap&) = default;

  /// The nodes that serve slots, by name.
  [[nodiscard]] std::vector<std::string> primaries() const;
  /// For each bucket the index in primaries(); 0 where no node serves its slot.
  [[nodiscard]] std::vector<std::uint32_t> place(std::uint32_t buckets) const;
};

/// "NODE=FIRST-LAST,…;NODE=…;+REPLICA;…"
[[nodiscard]] std::string to_text(const ClusterMap& map);
/// What to_text wrote; nullopt: the text is something else.
[[nodiscard]] std::optional<ClusterMap> parse_cluster_map(std::string_view text);

}  // namespace visitd
