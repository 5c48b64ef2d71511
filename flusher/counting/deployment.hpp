// What a deployment is, as its shards say it: one identity for all shards, which every bucket has. Decides; knows no
// clock, loop or socket.
//
// A deployment without identity gets one when all its shards have answered, from the first of them by name; whatever
// is written to a shard is written by compare-and-set, so that hosts that begin together agree. A shard's topology
// says `making` until every bucket was seen with the identity, then `made`: from then on a bucket without it was
// emptied.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace visitd {

/// What visits:topology on a shard says.
///   "IDENTITY 2 making|made SHARD BUCKETS VIRTUAL_NODES SHARDS"
///   "IDENTITY 3 making|made SHARD VERSION BUCKETS VIRTUAL_NODES SHARDS NEXT"    once its shards have been changed
///   "IDENTITY 1 BUCKETS VIRTUAL_NODES SHARDS"    of versions before every bucket had the identity: one a shard
struct TopologyText {
  /// `newer`: a later version of visitd wrote it. `elsewhere`: another node of the cluster holds it.
  enum class Kind { none, former, deployment, newer, unknown, elsewhere };
  Kind kind = Kind::none;
  std::string identity;
  bool made = false;          ///< deployment: every bucket has the identity
  std::string shard;          ///< deployment: the name of the shard that it stands on
  std::string layout;         ///< what follows the shard; see to_text(const Layout&)
  std::uint64_t version = 1;  ///< of the layout
};

[[nodiscard]] TopologyText parse_topology(std::string_view text);
/// Of a deployment.
[[nodiscard]] std::string to_text(const TopologyText& topology);

/// What every bucket of a deployment has: its identity and the number of the layout.
[[nodiscard]] std::string bucket_identity(std::string_view identity);
/// The deployment's identity out of that; empty: the text is something else.
[[nodiscard]] std::string deployment_identity(std::string_view bucket_identity);

/// The spool notes the deployment's own identity in the place of a shard of this name, and its layout and its cluster's
/// map in the places of the others.
inline constexpr const char* deployment_row = "";
inline constexpr const char* layout_row = "\x01layout";
inline constexpr const char* cluster_row =
    "\x01"
    "cluster";

class Deployment {
 public:
  /// `identity`: what the spool knows; empty: nothing.
  Deployment(std::vector<std::string> shards, std::uint32_t buckets, const std::string& identity);

  /// Empty: not known yet.
  [[nodiscard]] const std::string& identity() const noexcept { return identity_; }
  /// What every bucket has. Empty: not known yet.
  [[nodiscard]] const std::string& bucket_id() const noexcept { return bucket_id_; }
  void adopt(const std::string& identity);

  /// The deployment gets a shard, which has not answered yet; or it loses one.
  void add_shard(std::string name);
  void remove_shard(const std::string& name);
  /// What a shard says now.
  void saw(const std::string& shard, const TopologyText& topology);
  /// Which server and database is behind a shard, by a text that names both, and how people call its address.
  void note_server(const std::string& shard, const std::string& server, const std::string& address);
  /// Another shard that is the same server and database.
  struct Twin {
    std::string name;
    std::string address;
  };
  /// Of two shards that are one, the shard that has to give way has a twin: the one that the topology does not name;
  /// where it names none of them, the later one by name.
  [[nodiscard]] std::optional<Twin> twin_of(const std::string& shard, const TopologyText& topology) const;
  /// The bucket was seen with the identity, on whichever shard: it takes the identity along where it moves.
  void stamped(std::uint32_t bucket);

  /// Whether another shard says that every shard has borne the identity: one that does not was emptied.
  [[nodiscard]] bool made_besides(const std::string& shard) const noexcept;
  /// Whether a topology was seen, and whether it says that every bucket has the identity.
  [[nodiscard]] bool is_begun() const noexcept;
  [[nodiscard]] bool is_made() const noexcept;
  /// Whether every shard has said what it holds.
  [[nodiscard]] bool all_answered() const noexcept;
  /// Whether this shard gives the identity to a deployment that has none.
  [[nodiscard]] bool decided_by(const std::string& shard) const noexcept;
  /// For people: which shards have to answer first, or which one decides.
  [[nodiscard]] std::string waits_for() const;
  /// Whether every bucket was seen with the identity.
  [[nodiscard]] bool complete() const noexcept { return unstamped_ == 0; }
  /// How often a shard has said what the deployment is.
  [[nodiscard]] std::uint64_t looks() const noexcept { return looks_; }
  /// Grows with everything that is learned.
  [[nodiscard]] std::uint64_t changes() const noexcept { return changes_; }

 private:
  struct Shard {
    std::string name;
    bool known = false;  ///< it has answered
    TopologyText topology;
    std::string server = {};   ///< empty: not known
    std::string address = {};  ///< of that server
  };
  [[nodiscard]] const Shard* deciding() const noexcept;

  std::vector<Shard> shards_;  ///< by name
  std::vector<bool> stamped_;  ///< by bucket
  std::size_t unstamped_;
  std::string identity_;
  std::string bucket_id_;
  std::uint64_t looks_ = 0;
  std::uint64_t changes_ = 1;
};

}  // namespace visitd
