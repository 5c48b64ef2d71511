// One host in memory: a ring, a cache, a spool, shards, producers and readers around the flusher's real deciders. A
// seeded scheduler chooses what happens next; the flusher may die at every store to a view and between any two events.
// Checked all the time: a read of a known page is exact, to the visit; at the end: the shards hold every visit exactly
// once.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/cache_layout.hpp"
#include "common/lane.hpp"
#include "common/view.hpp"
#include "flusher/engine.hpp"
#include "frontend/count_reader.hpp"
#include "tests/simulation/simulated_shard.hpp"
#include "tests/simulation/simulated_spool.hpp"

namespace visitd {

/// A rule of the protocol does not hold.
struct Broken : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct WorldStatistics {
  std::uint64_t visits = 0;
  std::uint64_t reads = 0;
  std::uint64_t reads_of_changes = 0;  ///< between two stores of the flusher
  std::uint64_t kills = 0;
  std::uint64_t kills_in_changes = 0;
  std::uint64_t breaks = 0;
  std::uint64_t losses = 0;
  std::uint64_t duplicates = 0;
  std::uint64_t sent_again = 0;
  std::uint64_t full_disks = 0;
  std::uint64_t wiped_spools = 0;
  std::uint64_t wiped_caches = 0;
  std::uint64_t evictions = 0;
  std::uint64_t folds = 0;
  std::uint64_t spills = 0;
  std::uint64_t recalls = 0;
  std::uint64_t spoiled = 0;
  std::uint64_t reads_damaged = 0;
  std::uint64_t exchanges = 0;
};

/// What becomes of a shard in the middle of a run, besides kills, breaks and lost tails.
enum class Harm {
  none,
  refusing,  ///< it answers batches, or everything, with an error, and goes on later
  emptied,   ///< everything is deleted under the living connection
  deleted,   ///< one bucket is deleted
  swapped,   ///< two shards stand in each other's place
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
};

class World : public EnginePort {
 public:
  explicit World(std::uint64_t seed, Mutant mutant = Mutant::none, Harm harm = Harm::none);
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  ~World() override;

  /// `steps` random events, then calm until everything is in the shards. Throws Broken.
  void run(std::uint64_t steps);

  [[nodiscard]] const WorldStatistics& statistics() const noexcept { return statistics_; }

 private:
  static constexpr std::uint32_t lanes = 2;
  static constexpr std::uint32_t buckets = 4;
  static constexpr std::size_t lane_words = 128;  // 1 KiB: wraps and fills often
  static constexpr std::size_t pages = 7;

  struct alignas(cache_line_bytes) Line {
    std::array<Word, 8> words{};
  };
  struct Lane {
    LonelyWord tail;
    LonelyWord requests_tail;
    Word freed{0};
    std::array<Word, lane_words> records{};
    std::array<Word, lane_words> requests{};
    std::unique_ptr<LaneProducer> producer;
    std::unique_ptr<LaneProducer> asker;
  };

  // events
  void step();
  void publish();
  void post_request();
  void start_flusher();
  void kill_flusher();
  void wipe();
  void flusher_turn();
  void run_spool();
  void tell_spool();
  void break_connection(std::uint32_t shard);
  void between_stores();
  void fill_shards();
  void harm_shard();

  // checks
  void read(std::size_t page, std::size_t reader);
  void read_all();
  void spoil_or_mend();
  void mend_all();
  /// Visits that no shard could take, durably or as the spool is just told.
  [[nodiscard]] std::uint64_t aside(std::size_t page) const;
  void leave_ring_and_cache();
  void check_end() const;

  // EnginePort
  void submit(Transaction transaction) override;
  void connect(std::uint32_t shard) override;
  void close(std::uint32_t shard) override;
  void send(std::uint32_t shard, const ShardCommand& command) override;
  void shard_changed(std::uint32_t shard, ShardState state, const std::string& why) override;
  void shard_unfit(std::uint32_t shard, const std::string& why) override;
  void shard_warned(std::uint32_t, const std::string&) override {}
  void wake_lanes(std::uint64_t lanes) override;

  [[nodiscard]] std::uint64_t chance(std::uint64_t of) { return random_() % of; }
  [[nodiscard]] CacheHeader& cache() noexcept { return *reinterpret_cast<CacheHeader*>(cache_memory_.data()); }
  [[nodiscard]] CountingMemory memory();
  template <typename Event>
  void flusher_event(Event event);

  std::mt19937_64 random_;
  Mutant mutant_;
  Harm harm_;
  bool harmed_ = false;          ///< a shard is no more what it was: it may be held
  std::vector<bool> exchanged_;  ///< by shard: what it held, the world has forgotten; nothing may be written there
  WorldStatistics statistics_;
  Now now_{1'000'000, 1'000};
  std::array<std::string, pages> page_names_;
  std::array<std::uint64_t, pages> recorded_{};
  std::array<std::uint64_t, pages> hashes_{};
  std::array<std::uint32_t, pages> homes_{};  ///< shards
  std::deque<Lane> lanes_;
  CacheShape shape_;
  std::vector<Line> cache_memory_;
  Word superseded_{0};
  /// Whether somebody spoils fields in Redis. Then no server loses its tail: what is sent again would be refused.
  bool spoils_ = false;
  std::array<bool, pages> spoiled_{};
  std::array<bool, pages> ever_spoiled_{};
  std::array<bool, pages> aside_since_{};                ///< since it was spoiled visits were put aside
  std::map<std::string, std::uint64_t> captured_aside_;  ///< in the transaction that is not durable yet
  std::uint64_t captured_number_ = 0;                    ///< of the transaction captured last
  std::deque<CountReader> readers_;
  SimulatedSpool spool_;
  std::vector<SimulatedShard> shards_;
  std::vector<std::deque<ShardAnswer>> former_answers_;

  std::optional<Transaction> submitted_;
  std::optional<Transaction> refused_;  ///< by a full disk, not yet told
  bool committed_ = false;              ///< submitted and durable, not yet told
  SpoolResult result_;                  ///< of what is durable
  bool calm_ = false;                   ///< no more kills, breaks or visits
  std::vector<bool> connecting_;
  std::vector<std::uint64_t> away_until_ms_;  ///< no connection to a shard succeeds before
  std::unique_ptr<Engine> engine_;
};

}  // namespace visitd
