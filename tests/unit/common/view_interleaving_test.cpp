// Reads of counts, publishing frontends and a flusher that is killed and restarted, interleaved at every access of a
// shared word. Orders weaker than one after the other are what tests/threads looks at.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>

// First: it replaces the shared word for all that follows.
#include "tests/unit/common/interleaving.hpp"
// Then what is made of shared words, with its code.
#include "common/counter/backlog.cpp"
#include "common/counter/count_reader.cpp"
#include "tests/unit/common/view_world.hpp"

using namespace visitd;
using namespace visitd::test;

namespace {

struct Outcome {
  std::string fault;
  std::uint64_t reads = 0;
  std::uint64_t known = 0;
  std::uint64_t kills = 0;
  std::uint64_t most_tries = 0;
};

/// Two readers, a producer and a flusher, until `known` reads have found an entry or something is wrong.
Outcome run(std::uint64_t seed, std::uint64_t known, Broken broken = Broken::none, bool forgetful = false) {
  ViewWorld world(seed, broken);
  world.publish_apart();
  Interleaving interleaving(seed, 1 + seed % 8);
  Outcome outcome;
  std::array<std::uint64_t, ViewWorld::pages> highest{};
  bool over = false;
  interleaving.add([&] {
    world.live(200, false, 0);
    while (!over) world.live(200, world.pick(8) == 0, 1 + world.pick(3000));
  });
  interleaving.add([&] {
    std::mt19937_64 random(seed);
    while (!over) world.publish_some(random);
  });
  // One scans the lanes, the other one keeps an index of them. They stand here, as a reader that is not resumed any
  // more ends without destructors.
  CountReader readers[] = {world.reader(4096, Backlog::usual_short_bytes), world.reader(4096, 0)};
  for (CountReader& reader : readers) {
    const auto read = [&, &counts = reader] {
      while (outcome.known < known && outcome.reads < 50 * known && !over) {
        const std::size_t p = world.pick(ViewWorld::pages);
        const std::uint64_t least = std::max(world.published(p), highest[p]);
        const ViewWorld::Read answer = world.read(counts, p);
        ++outcome.reads;
        outcome.most_tries = std::max<std::uint64_t>(outcome.most_tries, answer.tries);
        if (!answer.known) continue;
        ++outcome.known;
        highest[p] = std::max(highest[p], answer.count);
        if (answer.count >= least && answer.count <= world.attempted(p)) continue;
        outcome.fault = fmt::format("seed {}: page {} read {}, not from {} to {}", seed, p, answer.count, least,
                                    world.attempted(p));
        over = true;
      }
      over = true;
    };
    interleaving.add(read, forgetful);
  }
  interleaving.run();
  outcome.kills = world.kills();
  return outcome;
}

bool is_found(Broken broken, bool forgetful = false) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    try {
      if (!run(seed, 250, broken, forgetful).fault.empty()) return true;
    } catch (const std::exception&) {
      return true;  // a read that never comes to an end, or a record that was written over
    }
  }
  return false;
}

}  // namespace

TEST_CASE(
    "a read amid changes, kills and restarts is never below what was acknowledged, above what was tried, or falling") {
  Outcome all;
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    const Outcome outcome = run(seed, 250);
    REQUIRE(outcome.fault == "");
    all.reads += outcome.reads;
    all.known += outcome.known;
    all.kills += outcome.kills;
    all.most_tries = std::max(all.most_tries, outcome.most_tries);
  }
  CHECK(all.known > 20'000);
  CHECK(all.kills > 100);
  MESSAGE("seeds 1 to 100: ", all.reads, " reads, ", all.known, " of pages with an entry, ", all.kills,
          " kills, at most ", all.most_tries, " tries");
}

TEST_CASE("a rule taken out is found by the readers beside it") {
  CHECK(is_found(Broken::unlink_without_version));
  CHECK(is_found(Broken::unlink_version_late));
  CHECK(is_found(Broken::apply_open_first));
  CHECK(is_found(Broken::apply_position_first));
  CHECK(is_found(Broken::note_after_version));
  CHECK(is_found(Broken::no_note_of_position));
  CHECK(is_found(Broken::seal_without_change));
  CHECK(is_found(Broken::acknowledge_bare));
  CHECK(is_found(Broken::head_before_commit));
}

TEST_CASE("a reader that does not look at version and active again is found") {
  CHECK(is_found(Broken::none, true));
  CHECK_FALSE(is_found(Broken::none));
}
