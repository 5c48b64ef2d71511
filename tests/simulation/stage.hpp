// What the hosts of a simulation share: time, chance, pages, shards, and what was done to them.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "flusher/counting/engine.hpp"
#include "tests/simulation/simulated_shard.hpp"

namespace visitd {

/// A rule of the protocol does not hold.
struct Broken : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct WorldStatistics {
  std::uint64_t visits = 0;
  std::uint64_t reads = 0;
  std::uint64_t reads_of_others = 0;   ///< that showed visits of another host
  std::uint64_t reads_of_changes = 0;  ///< between two stores of the flusher
  std::uint64_t kills = 0;
  std::uint64_t kills_in_changes = 0;
  std::uint64_t stops = 0;
  std::uint64_t stops_in_full = 0;  ///< that left nothing in lanes and spool
  std::uint64_t rings = 0;          ///< drained and left
  std::uint64_t breaks = 0;
  std::uint64_t timeouts = 0;      ///< connections given up because an answer was slow
  std::uint64_t late_answers = 0;  ///< of commands that were executed, on such connections
  std::uint64_t losses = 0;
  std::uint64_t failovers = 0;
  std::uint64_t duplicates = 0;
  std::uint64_t sent_again = 0;
  std::uint64_t full_disks = 0;
  std::uint64_t wiped_spools = 0;
  std::uint64_t wiped_caches = 0;
  std::uint64_t restored_spools = 0;
  std::uint64_t refused_spools = 0;  ///< restored ones that a start refused
  std::uint64_t copied_spools = 0;   ///< that two hosts went on with
  std::uint64_t evictions = 0;
  std::uint64_t folds = 0;
  std::uint64_t spills = 0;
  std::uint64_t recalls = 0;
  std::uint64_t spoiled = 0;
  std::uint64_t reads_damaged = 0;
  std::uint64_t exchanges = 0;
  std::uint64_t layouts = 0;            ///< that followed another one
  std::uint64_t layouts_taken = 0;      ///< by a flusher that went on
  std::uint64_t moved = 0;              ///< buckets that a host found moved
  std::uint64_t migrated = 0;           ///< keys that a cluster moved
  std::uint64_t unknown_nodes = 0;      ///< redirects to a node that a life does not know
  std::uint64_t forgotten = 0;          ///< times that a host was
  std::uint64_t forgotten_in_full = 0;  ///< of those, in all buckets
  std::uint64_t accepted = 0;           ///< shards that hosts were told to take as they are
  std::uint64_t corrected = 0;          ///< pages that were corrected
  std::uint64_t added_up = 0;           ///< totals, and lists of the best pages
  std::uint64_t given = 0;              ///< pages that were given what others lost, or visits of no lane
  std::uint64_t questions = 0;          ///< that owners asked
  std::uint64_t asked_again = 0;        ///< of those, of a later life
};

/// What happens in a run besides kills, breaks, slow answers and lost tails.
enum class Harm {
  none,
  spoiled,       ///< somebody writes into pages' fields what is no count
  refusing,      ///< a shard answers batches, or everything, with an error, and goes on later
  emptied,       ///< everything on a shard is deleted under the living connections
  deleted,       ///< the buckets of a shard are
  swapped,       ///< two shards stand in each other's place
  wiped,         ///< a host's state directory is wiped while its lanes hold visits
  restored,      ///< a host's state directory is put back as it was earlier
  copied,        ///< a second host begins with a copy of the first one's state directory
  copied_alive,  ///< the same, in the middle of a life: the copies share its incarnation
  moving,        ///< shards are added and removed: buckets move
  failover,      ///< a replica that may be far behind takes a shard's place, and kept batches wait for it
  cluster,       ///< the shards are nodes of a cluster, which moves buckets as it likes
  to_cluster,    ///< buckets of shards go into such a cluster, and some time later back
  to_shards,     ///< those of a cluster go to shards
};

/// What is taken out of the surroundings that the deciders rely on, to see that it is missed.
enum class Mutant {
  none,
  commit_told_before_durable,     ///< the spool says committed, and then loses it with the flusher
  shard_applies_without_compare,  ///< a batch is added whatever the field holds
  answers_of_former_connection,   ///< they arrive on the next one
  kept_batches_lost,              ///< a restart forgets the batches that were answered
  bases_carried_blindly,          ///< also where the view disagrees with the spool
  backlog_trusts_freed_bytes,     ///< a reader does not look at head again
  shard_ignores_identity,         ///< a batch is applied to a bucket of no deployment
  shard_lies_about_replicas,      ///< it says that its replica has what it has not
  shard_ignores_tombstones,       ///< a first batch is applied though its writer was forgotten
  shard_keeps_tombstones,         ///< a mark is put back, and its tombstone stays
  shard_puts_no_mark_back,        ///< the tombstone goes, and the mark is not put back
  shard_ignores_corrections,      ///< a correction is applied though somebody else was faster
  shard_hides_corrections,        ///< it does not say that a bucket was corrected
  shard_compares_no_digest,       ///< it says a bucket's sum whoever has written there
  shard_corrects_no_sum,          ///< a correction does not change it
  shard_raises_no_largest,        ///< a batch does not raise a bucket's largest count
  shard_forgets_what_moves,       ///< also in a bucket that was copied to another shard
  copies_share_incarnations,      ///< the random part of one follows from the one before
};

struct Stage {
  static constexpr std::uint32_t buckets = 4;
  static constexpr std::size_t pages = 7;
  static constexpr std::uint64_t hash_seed = 42;
  static constexpr std::uint64_t ttl_ms = 30;
  static constexpr std::uint64_t stop_flush_ms = 200;
  static constexpr std::uint64_t forget_ms = 500;
  /// The oldest command without an answer waits no longer.
  static constexpr std::uint64_t answer_timeout_ms = 60;

  /// What one host had in the shards, in the course of time.
  struct Past {
    std::uint64_t since_ms = 0;
    std::int64_t visits = 0;  ///< negative: the host took away what others counted
  };

  Stage(std::uint64_t seed, Mutant taken_out, Harm what, std::size_t hosts);

  /// Of all servers. Where deployments go into clusters and out of them, the nodes come after `plain_shards` others.
  [[nodiscard]] static const std::vector<std::string>& shard_names();
  static constexpr std::uint32_t plain_shards = 3;
  [[nodiscard]] bool migrates() const noexcept { return harm == Harm::to_cluster || harm == Harm::to_shards; }
  /// Between shards, or into a cluster and out of it; what a cluster itself moves is no such move.
  [[nodiscard]] bool moves_buckets() const noexcept { return harm == Harm::moving || migrates(); }
  [[nodiscard]] bool has_cluster() const noexcept { return migrates() || harm == Harm::cluster; }
  /// Where a layout has the cluster.
  [[nodiscard]] static ShardPlace cluster_place() { return {cluster_name, "cluster://node-1:1"}; }
  [[nodiscard]] static EngineSettings settings(std::uint64_t batch_pages);
  /// The shard that holds what counts of the page.
  [[nodiscard]] std::uint32_t home_of(std::size_t page) const { return home_of_bucket(buckets_of_pages[page]); }
  [[nodiscard]] std::uint32_t home_of_bucket(std::uint32_t bucket) const;
  /// The server that has the bucket's slot in the cluster, or to which it is on its way.
  [[nodiscard]] std::uint32_t server_in_cluster(std::uint32_t bucket) const;
  [[nodiscard]] bool is_node(std::uint32_t server) const noexcept { return has_cluster() && server >= first_node_; }
  /// The map that the nodes of the cluster say now.
  [[nodiscard]] ClusterMap cluster_map() const;
  /// The cluster goes on with one of its buckets, or with visits:topology: it begins to move it, moves it, ends that.
  void reshard();
  void reshard(std::size_t key);
  /// visits:topology has arrived; a bucket may stay on its way to the node that serves it.
  void end_reshards();
  /// A host knows this layout: what follows another one begins to hold once the first host does.
  void follow(const Layout& layout);

  [[nodiscard]] std::uint64_t chance(std::uint64_t of) { return random() % of; }
  [[nodiscard]] std::uint32_t any_shard() { return static_cast<std::uint32_t>(chance(shards.size())); }
  [[nodiscard]] std::uint32_t bucket_of(std::size_t page) const { return buckets_of_pages[page]; }
  [[nodiscard]] std::size_t page_of(const std::string& name) const {
    return static_cast<std::size_t>(std::ranges::find(names, name) - names.begin());
  }
  [[nodiscard]] std::uint64_t in_shards(std::size_t host, std::size_t page) const;
  /// Notes what each host has in the shards, as far as these are what they were. `lost`: a shard has just lost its
  /// tail.
  void note_past(bool lost = false);
  /// The least and the most that one host had in the shards since `ms`.
  [[nodiscard]] std::pair<std::int64_t, std::int64_t> range_since(std::size_t host, std::size_t page,
                                                                  std::uint64_t ms) const;

  std::mt19937_64 random;
  Mutant mutant;
  Harm harm;
  WorldStatistics statistics;
  Now now{1'000'000, 1'000};
  std::array<std::string, pages> names;
  std::array<std::uint64_t, pages> hashes{};
  std::array<std::uint32_t, pages> buckets_of_pages{};
  Layout layout;                              ///< the latest one that a host knows
  std::vector<std::uint32_t> placement;       ///< of buckets: shards, or in_cluster
  std::vector<std::uint32_t> next_placement;  ///< where they go
  std::array<std::uint64_t, pages> filled{};  ///< visits that were in the shards before
  std::vector<SimulatedShard> shards;
  SimulatedCluster cluster;  ///< where there is one
  bool calm = false;         ///< no more kills, breaks or visits
  bool loses_tails = true;
  bool forgets = false;                           ///< hosts forget each other
  bool corrects = false;                          ///< hosts correct counts
  std::array<std::uint64_t, pages> lowered_ms{};  ///< when a shard, or a host of its own, last had a count fall
  /// A mark that forgetting said it has taken out of a bucket.
  struct Gone {
    std::uint32_t bucket = 0;
    std::string writer;
    std::string mark;
  };
  std::vector<Gone> gone;  ///< as long as nobody puts it back, and no shard loses anything
  std::set<std::pair<std::uint32_t, std::string>> put_back;  ///< buckets and marks: maybe, and maybe late
  bool may_hold = false;                                     ///< a shard, or a spool, is no more what it was
  std::vector<bool> exchanged;  ///< by shard: what it held, the world has forgotten; nothing may be written there
  std::array<bool, pages> spoiled{};
  std::array<bool, pages> ever_spoiled{};

 private:
  static constexpr std::uint32_t in_cluster = UINT32_MAX;

  void make_cluster();
  void note_corrections(bool lost);
  /// Where the bucket goes, or is, and where it was.
  [[nodiscard]] std::pair<std::uint32_t, std::uint32_t> servers_of(std::uint32_t bucket) const;
  [[nodiscard]] std::vector<std::uint32_t> places_of(const std::vector<ShardPlace>& places) const;
  [[nodiscard]] SimulatedShard& node(std::uint32_t number) { return shards[first_node_ + number]; }
  [[nodiscard]] const SimulatedShard& node(std::uint32_t number) const { return shards[first_node_ + number]; }

  std::uint32_t first_node_ = 0;                           ///< of the servers
  std::vector<std::array<std::deque<Past>, pages>> past_;  ///< by host; a single one has none
  std::array<std::uint64_t, pages> fixes_{};               ///< of each page's bucket: the number of its last correction
  /// By host: the most that a server had to which hosts counted.
  std::vector<std::array<std::int64_t, pages>> most_;
};

}  // namespace visitd
