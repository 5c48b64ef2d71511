// Drives the deciders through seeds. usage: simulation [--seeds N] [--from SEED] [--steps N] [--no-mutants]
#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "tests/simulation/world.hpp"

namespace {

struct Named {
  visitd::Mutant mutant;
  const char* name;
};
constexpr Named mutants[] = {
    {visitd::Mutant::commit_told_before_durable, "a commit is told before it is durable"},
    {visitd::Mutant::shard_applies_without_compare, "a shard applies a batch without comparing"},
    {visitd::Mutant::answers_of_former_connection, "answers of a former connection arrive"},
    {visitd::Mutant::kept_batches_lost, "answered batches are not kept over a restart"},
    {visitd::Mutant::bases_carried_blindly, "bases are carried over although the bucket disagrees"},
    {visitd::Mutant::backlog_trusts_freed_bytes, "a reader does not look at head again"},
    {visitd::Mutant::shard_ignores_identity, "a batch is applied to a bucket that bears no identity"},
};

void add(visitd::WorldStatistics& sum, const visitd::WorldStatistics& one) {
  sum.visits += one.visits;
  sum.reads += one.reads;
  sum.reads_of_changes += one.reads_of_changes;
  sum.kills += one.kills;
  sum.kills_in_changes += one.kills_in_changes;
  sum.breaks += one.breaks;
  sum.losses += one.losses;
  sum.duplicates += one.duplicates;
  sum.sent_again += one.sent_again;
  sum.full_disks += one.full_disks;
  sum.wiped_spools += one.wiped_spools;
  sum.wiped_caches += one.wiped_caches;
  sum.evictions += one.evictions;
  sum.folds += one.folds;
  sum.spills += one.spills;
  sum.recalls += one.recalls;
  sum.spoiled += one.spoiled;
  sum.reads_damaged += one.reads_damaged;
  sum.exchanges += one.exchanges;
}

/// Empty: the seed holds; else what broke.
std::string run_seed(std::uint64_t seed, std::uint64_t steps, visitd::Mutant mutant, visitd::WorldStatistics& sum) {
  try {
    // Half of the seeds harm no shard; the others take turns.
    constexpr visitd::Harm harms[] = {visitd::Harm::refusing, visitd::Harm::emptied, visitd::Harm::deleted,
                                      visitd::Harm::swapped};
    visitd::World world(seed, mutant, seed % 2 == 0 ? visitd::Harm::none : harms[seed / 2 % 4]);
    world.run(steps);
    add(sum, world.statistics());
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
  CLI11_PARSE(app, argc, argv);

  int failures = 0;
  visitd::WorldStatistics sum;
  for (std::uint64_t seed = from; seed < from + seeds; ++seed) {
    const std::string broken = run_seed(seed, steps, visitd::Mutant::none, sum);
    if (broken.empty()) continue;
    std::printf("seed %llu: %s\n", static_cast<unsigned long long>(seed), broken.c_str());
    if (++failures == 10) break;
  }
  std::printf(
      "%llu seeds: %llu shards exchanged, %llu visits, %llu exact reads (%llu looks between two stores), %llu kills "
      "(%llu between two "
      "stores), %llu broken "
      "connections, %llu lost tails, %llu duplicates refused, %llu batches sent again, %llu full disks, %llu "
      "evictions, %llu folds, %llu spills, %llu recalls, %llu fields spoiled, %llu reads of damaged counts, %llu wiped "
      "spools (%llu with the cache)\n",
      static_cast<unsigned long long>(seeds), static_cast<unsigned long long>(sum.exchanges),
      static_cast<unsigned long long>(sum.visits), static_cast<unsigned long long>(sum.reads),
      static_cast<unsigned long long>(sum.reads_of_changes), static_cast<unsigned long long>(sum.kills),
      static_cast<unsigned long long>(sum.kills_in_changes), static_cast<unsigned long long>(sum.breaks),
      static_cast<unsigned long long>(sum.losses), static_cast<unsigned long long>(sum.duplicates),
      static_cast<unsigned long long>(sum.sent_again), static_cast<unsigned long long>(sum.full_disks),
      static_cast<unsigned long long>(sum.evictions), static_cast<unsigned long long>(sum.folds),
      static_cast<unsigned long long>(sum.spills), static_cast<unsigned long long>(sum.recalls),
      static_cast<unsigned long long>(sum.spoiled), static_cast<unsigned long long>(sum.reads_damaged),
      static_cast<unsigned long long>(sum.wiped_spools), static_cast<unsigned long long>(sum.wiped_caches));
  for (const auto& [mutant, name] : mutants) {
    if (no_mutants) break;
    std::string broken;
    std::uint64_t seed = from;
    for (; seed < from + seeds && broken.empty(); ++seed) broken = run_seed(seed, steps, mutant, sum);
    std::printf("%s: %s\n", name,
                broken.empty() ? "NOT FOUND" : ("found at seed " + std::to_string(seed - 1) + ": " + broken).c_str());
    if (broken.empty()) ++failures;
  }
  return failures == 0 ? 0 : 1;
}
