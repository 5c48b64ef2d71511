// Drives the deciders through seeds. usage: simulation [--seeds N] [--from SEED] [--steps N] [--scene N] [--no-mutants]
#include <CLI/CLI.hpp>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "tests/simulation/world.hpp"

namespace {

struct Named {
  visitd::Mutant mutant;
  const char* name;
  std::optional<std::size_t> scene = {};  ///< the one that is about it, where others take thousands of seeds
};
constexpr Named mutants[] = {
    {visitd::Mutant::commit_told_before_durable, "a commit is told before it is durable"},
    {visitd::Mutant::shard_applies_without_compare, "a shard applies a batch without comparing"},
    {visitd::Mutant::answers_of_former_connection, "answers of a former connection arrive"},
    {visitd::Mutant::kept_batches_lost, "answered batches are not kept over a restart"},
    {visitd::Mutant::bases_carried_blindly, "bases are carried over although the bucket disagrees"},
    {visitd::Mutant::backlog_trusts_freed_bytes, "a reader does not look at head again"},
    {visitd::Mutant::shard_ignores_identity, "a batch is applied to a bucket that has no identity"},
    {visitd::Mutant::shard_lies_about_replicas, "a shard says that its replica has what it has not"},
    {visitd::Mutant::shard_ignores_tombstones, "a forgotten writer's first batch is applied"},
    {visitd::Mutant::shard_keeps_tombstones, "a mark is put back, and its tombstone stays"},
    {visitd::Mutant::shard_puts_no_mark_back, "a tombstone goes, and its mark is not put back"},
    {visitd::Mutant::shard_ignores_corrections, "a correction is applied though somebody else was faster", 49},
    {visitd::Mutant::shard_hides_corrections, "a shard does not say that a bucket was corrected"},
    {visitd::Mutant::shard_compares_no_digest, "a bucket says its sum whoever has written there"},
    {visitd::Mutant::shard_corrects_no_sum, "a correction leaves a bucket's sum as it was"},
    {visitd::Mutant::shard_raises_no_largest, "a bucket's largest count is not raised"},
    {visitd::Mutant::shard_forgets_what_moves, "a writer is forgotten in a bucket that was copied elsewhere", 27},
    {visitd::Mutant::copies_share_incarnations, "two copies of a spool share their incarnations"},
};

using Statistics = visitd::WorldStatistics;
struct Told {
  std::uint64_t Statistics::* number;
  const char* name;
};
constexpr Told told[] = {
    {&Statistics::visits, "visits"},
    {&Statistics::reads, "exact reads"},
    {&Statistics::reads_of_others, "reads of another host's visits"},
    {&Statistics::reads_of_changes, "looks between two stores"},
    {&Statistics::kills, "kills"},
    {&Statistics::kills_in_changes, "kills between two stores"},
    {&Statistics::stops, "stops"},
    {&Statistics::stops_in_full, "stops in full"},
    {&Statistics::rings, "rings left"},
    {&Statistics::breaks, "broken connections"},
    {&Statistics::timeouts, "slow answers"},
    {&Statistics::late_answers, "answers after the connection was given up"},
    {&Statistics::losses, "lost tails"},
    {&Statistics::failovers, "failovers"},
    {&Statistics::duplicates, "duplicates refused"},
    {&Statistics::sent_again, "batches sent again"},
    {&Statistics::full_disks, "full disks"},
    {&Statistics::evictions, "evictions"},
    {&Statistics::folds, "folds"},
    {&Statistics::spills, "spills"},
    {&Statistics::recalls, "recalls"},
    {&Statistics::spoiled, "fields spoiled"},
    {&Statistics::reads_damaged, "reads of damaged counts"},
    {&Statistics::exchanges, "shards exchanged"},
    {&Statistics::layouts, "layouts"},
    {&Statistics::layouts_taken, "of them taken by a flusher that went on"},
    {&Statistics::moved, "buckets found moved"},
    {&Statistics::migrated, "keys that a cluster moved"},
    {&Statistics::unknown_nodes, "nodes that were not known"},
    {&Statistics::wiped_spools, "wiped spools"},
    {&Statistics::wiped_caches, "wiped caches"},
    {&Statistics::restored_spools, "restored spools"},
    {&Statistics::refused_spools, "refused spools"},
    {&Statistics::copied_spools, "copied spools"},
    {&Statistics::forgotten, "hosts forgotten"},
    {&Statistics::forgotten_in_full, "of them in all buckets"},
    {&Statistics::accepted, "held shards accepted"},
    {&Statistics::corrected, "pages corrected"},
    {&Statistics::added_up, "totals and best pages told"},
    {&Statistics::given, "pages given visits"},
    {&Statistics::questions, "questions of owners"},
    {&Statistics::asked_again, "of them asked again of a later life"},
};

/// Every fifty-nine seeds meet all of them. The last of their words: hosts forget each other, correct counts, ask what
/// all counts come to, and the second one is of a version that keeps no sums.
constexpr visitd::Scene scenes[] = {
    {visitd::Harm::none, 1},
    {visitd::Harm::swapped, 1},
    {visitd::Harm::spoiled, 1},
    {visitd::Harm::none, 2},
    {visitd::Harm::none, 1},
    {visitd::Harm::emptied, 1},
    {visitd::Harm::spoiled, 1},
    {visitd::Harm::restored, 1},
    {visitd::Harm::wiped, 1},
    {visitd::Harm::none, 2, true},
    {visitd::Harm::refusing, 1},
    {visitd::Harm::copied, 2},
    {visitd::Harm::emptied, 2, true},
    {visitd::Harm::copied_alive, 2},
    {visitd::Harm::deleted, 2, true},
    {visitd::Harm::refusing, 2},
    {visitd::Harm::swapped, 2, true},
    {visitd::Harm::moving, 1},
    {visitd::Harm::moving, 2},
    {visitd::Harm::moving, 2, true},
    {visitd::Harm::failover, 1},
    {visitd::Harm::failover, 2},
    {visitd::Harm::cluster, 1},
    {visitd::Harm::cluster, 2},
    {visitd::Harm::cluster, 2, true},
    {visitd::Harm::none, 2, false, true},
    {visitd::Harm::none, 2, false, true},
    {visitd::Harm::moving, 2, false, true},
    {visitd::Harm::cluster, 2, false, true},
    {visitd::Harm::failover, 2, false, true},
    {visitd::Harm::to_cluster, 1},
    {visitd::Harm::to_cluster, 2},
    {visitd::Harm::to_cluster, 2, true},
    {visitd::Harm::to_shards, 1},
    {visitd::Harm::to_shards, 2},
    {visitd::Harm::to_shards, 2, true},
    {visitd::Harm::none, 1, false, false, true},
    {visitd::Harm::none, 2, false, false, true},
    {visitd::Harm::refusing, 2, false, false, true},
    {visitd::Harm::moving, 2, false, false, true},
    {visitd::Harm::failover, 2, false, false, true},
    {visitd::Harm::cluster, 2, false, false, true},
    {visitd::Harm::to_cluster, 2, false, false, true},
    {visitd::Harm::refusing, 2, false, false, true},
    {visitd::Harm::none, 1, false, false, false, true},
    {visitd::Harm::none, 2, false, false, true, true},
    {visitd::Harm::none, 2, false, false, false, true, true},
    {visitd::Harm::none, 2, false, false, true, true, true},
    {visitd::Harm::none, 2, false, true, false, true},
    {visitd::Harm::refusing, 2, false, false, true, true},
    {visitd::Harm::moving, 2, false, false, true, true},
    {visitd::Harm::failover, 2, false, false, true, true},
    {visitd::Harm::cluster, 2, false, false, true, true},
    {visitd::Harm::to_cluster, 2, false, false, false, true, true},
    {visitd::Harm::refusing, 2, false, true},
    {visitd::Harm::to_cluster, 2, false, true},
    {visitd::Harm::to_shards, 2, false, true},
    {visitd::Harm::spoiled, 2},
    {visitd::Harm::spoiled, 2, false, false, true},
};

/// `only`: one of the scenes, for all seeds. Empty: the seed holds; else what broke.
std::string run_seed(std::uint64_t seed, std::uint64_t steps, std::optional<std::size_t> only, visitd::Mutant mutant,
                     Statistics& sum) {
  try {
    visitd::World world(seed, scenes[only.value_or(seed % std::size(scenes))], mutant);
    world.run(steps);
    for (const Told& one : told) sum.*one.number += world.statistics().*one.number;
    return {};
  } catch (const std::exception& broken) {
    return broken.what();
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::uint64_t seeds = 2000;
  std::uint64_t from = 0;
  std::uint64_t steps = 3000;
  CLI::App app("Drives the flusher's deciders, and readers beside them, through seeded interleavings");
  app.add_option("--seeds", seeds, "How many seeds");
  app.add_option("--from", from, "The first seed");
  app.add_option("--steps", steps, "Random events of a seed");
  bool no_mutants = false;
  app.add_flag("--no-mutants", no_mutants, "Do not take rules out of the surroundings");
  std::optional<std::size_t> scene;
  app.add_option("--scene", scene, "The one scene that all seeds meet, by its place among the scenes")
      ->check(CLI::Range(std::size_t{0}, std::size(scenes) - 1));
  CLI11_PARSE(app, argc, argv);

  int failures = 0;
  visitd::WorldStatistics sum;
  for (std::uint64_t seed = from; seed < from + seeds; ++seed) {
    const std::string broken = run_seed(seed, steps, scene, visitd::Mutant::none, sum);
    if (broken.empty()) continue;
    std::printf("seed %llu: %s\n", static_cast<unsigned long long>(seed), broken.c_str());
    if (++failures == 10) break;
  }
  std::printf("%llu seeds", static_cast<unsigned long long>(seeds));
  for (const Told& one : told) {
    std::printf("%s %llu %s", &one == std::begin(told) ? ":" : ",", static_cast<unsigned long long>(sum.*one.number),
                one.name);
  }
  std::printf("\n");
  for (const auto& [mutant, name, its_scene] : mutants) {
    if (no_mutants) break;
    std::string broken;
    std::uint64_t seed = from;
    const auto where = scene ? scene : its_scene;
    for (; seed < from + seeds && broken.empty(); ++seed) broken = run_seed(seed, steps, where, mutant, sum);
    std::printf("%s: %s\n", name,
                broken.empty() ? "NOT FOUND" : ("found at seed " + std::to_string(seed - 1) + ": " + broken).c_str());
    if (broken.empty()) ++failures;
  }
  return failures == 0 ? 0 : 1;
}
