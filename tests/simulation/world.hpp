// One or two hosts on the same shards. A seeded scheduler chooses what happens next. Checked all the time: a read of a
// known page is exact; at the end: the shards hold every visit exactly once, or are held, and nobody wrote into one
// that is not what it was.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include "tests/simulation/simulated_host.hpp"
#include "tests/simulation/stage.hpp"

namespace visitd {

struct Scene {
  Harm harm = Harm::none;
  std::size_t hosts = 1;
  bool second_only_reads = false;
  bool forgets = false;  ///< hosts forget each other, dead or alive; later somebody has them go on
  bool corrects = false;
  bool adds_up = false;            ///< hosts ask for totals and the best pages all the time
  bool second_keeps_none = false;  ///< the second host's scripts know nothing of the fields of sums
};

class World {
 public:
  World(std::uint64_t seed, const Scene& scene, Mutant mutant = Mutant::none);
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  ~World();

  /// `steps` random events, then calm until everything is in the shards. Throws Broken.
  void run(std::uint64_t steps);

  [[nodiscard]] const WorldStatistics& statistics() const noexcept { return stage_.statistics; }

 private:
  /// What a shard is slow at, for a while.
  enum class Slow { nothing, answers, everything };

  /// How often things happen, drawn for each world: one in so many of the steps that may do them. What lives long, and
  /// what dies young, meet different faults.
  struct Rates {
    std::uint64_t kill;
    std::uint64_t kill_between_stores;
    std::uint64_t break_connection;
    std::uint64_t sync;
  };

  void step();
  void host_step(SimulatedHost& host, std::uint64_t what);
  void look_at_some_connection(SimulatedHost& host);
  void publish(SimulatedHost& host);
  void execute(std::uint32_t shard);
  void break_connections();
  void kill(SimulatedHost& host);
  void between_stores();

  void fill_shards();
  void be_slow();
  /// False: not now.
  [[nodiscard]] bool harm();
  void exchange();
  [[nodiscard]] bool wipe();
  [[nodiscard]] bool restore();
  [[nodiscard]] bool copy();
  void answer_sooner();
  void look_after_forgotten();
  void forget();
  void check_gone() const;
  void spoil_or_mend();
  void mend(std::size_t page);

  void calm_down();
  void settle();
  void raise_owed();
  void see_each_other();
  void check_end() const;
  void check_sums();
  void check_held() const;

  [[nodiscard]] std::uint64_t chance(std::uint64_t of) { return stage_.chance(of); }
  /// One that exists already.
  [[nodiscard]] SimulatedHost& any_host() { return hosts_[chance(present_)]; }
  [[nodiscard]] bool is_copied() const noexcept {
    return scene_.harm == Harm::copied || scene_.harm == Harm::copied_alive;
  }

  Scene scene_;
  Stage stage_;
  Rates rates_;
  std::deque<SimulatedHost> hosts_;
  bool quick_;           ///< servers answer sooner than elsewhere
  std::size_t present_;  ///< hosts; a copy comes later
  std::vector<Slow> slow_;
  std::vector<std::uint64_t> slow_until_ms_;  ///< by shard
  bool harmed_ = false;
  std::array<std::uint64_t, Stage::pages> at_restore_{};  ///< what the shards held
};

}  // namespace visitd
