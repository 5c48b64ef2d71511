// How a run ends: nothing more happens to the world, it comes to rest, and everything must be where it belongs.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "tests/simulation/world.hpp"

namespace visitd {

// ---- the end

void World::calm_down() {
  stage_.calm = true;
  slow_.assign(slow_.size(), Slow::nothing);
  for (std::size_t page = 0; page < Stage::pages; ++page) {
    if (stage_.spoiled[page]) mend(page);
  }
  if (stage_.has_cluster()) stage_.end_reshards();
  // What shards refuse they refuse on for a while: it keeps no visit of another shard from getting there.
  settle();
  check_held();
  for (SimulatedShard& shard : stage_.shards) shard.refuse(SimulatedShard::Refusing::nothing);
  settle();
}

void World::settle() {
  const auto settled = [&] {
    for (std::size_t host = 0; host < present_; ++host) {
      if (!hosts_[host].is_settled()) return false;
    }
    return true;
  };
  // Once the operator has raised what a correction waits for, many others may have waited behind it.
  for (std::uint64_t i = 0; i < 80000 && !settled(); ++i) {
    step();
    if (scene_.forgets && i % 500 == 0) {
      for (SimulatedHost& host : hosts_) host.accept_held();
    }
    if (i > 20000 && i % 5000 == 0) raise_owed();
  }
}

/// Long after the others have sent again what the shards lost, a correction may still wait, because another host has
/// corrected the page without it: the operator does what the flusher's warning says.
void World::raise_owed() {
  for (SimulatedShard& shard : stage_.shards) {
    for (const SimulatedShard::Owed& owed : shard.raise_owed()) {
      hosts_[owed.host].raised(stage_.page_of(owed.page), owed.visits);
    }
  }
}

/// What a host has in the shards, the others show within a TTL.
void World::see_each_other() {
  if (present_ == 1 || stage_.may_hold) return;
  const std::uint64_t settled_ms = stage_.now.ms + 1;
  stage_.now.ms = settled_ms;
  const auto held = [&](std::size_t page) {
    return stage_.shards[stage_.home_of(page)].count(stage_.names[page], stage_.bucket_of(page));
  };
  std::array<std::uint64_t, Stage::pages> settled{};
  for (std::size_t page = 0; page < Stage::pages; ++page) settled[page] = held(page);
  for (std::size_t host = 0; host < present_; ++host) {
    for (std::size_t page = 0; page < Stage::pages; ++page) {
      // Past what an entry that was asked for before may show. A bucket of a cluster is looked for with pauses.
      const std::uint64_t timeouts = stage_.has_cluster() ? 30 : 10;
      const std::uint64_t until_ms = stage_.now.ms + Stage::ttl_ms + timeouts * Stage::answer_timeout_ms;
      for (int i = 0; !hosts_[host].knows_since(page, settled_ms); ++i) {
        if (stage_.now.ms > until_ms)
          throw Broken(fmt::format("host {} does not look for what others counted of {}", host, stage_.names[page]));
        if (i % 20 == 0) hosts_[host].post_request(page);
        step();
      }
      hosts_[host].read(page, 0);
      // A host that leaves its ring only now may have recorded visits in it; and the next life of one that ended does
      // what owners have asked for.
      const std::uint64_t waits = hosts_[host].recorded(page) - stage_.in_shards(host, page);
      const std::uint64_t there = held(page);
      const std::uint64_t shown = hosts_[host].shown(page);
      if (scene_.corrects && shown != there + waits && shown != settled[page] + waits) {
        throw Broken(fmt::format("host {} shows {} of {}, which was corrected to {}, and {} of it are to come", host,
                                 shown, stage_.names[page], there, waits));
      }
    }
  }
}

/// Each total, and each list of the best pages, is exact, wherever what the host has recorded is: in its lanes, open,
/// or on its way.
void World::check_sums() {
  if (stage_.may_hold) return;
  SimulatedHost& host = hosts_[0];
  std::size_t limit = 0;
  std::array<std::uint64_t, Stage::pages> truth{};
  const auto ask = [&] {
    limit = 1 + chance(Stage::pages);
    if (!host.ask_sums(limit)) return false;
    for (std::size_t page = 0; page < Stage::pages; ++page) {
      truth[page] = stage_.filled[page];
      for (std::size_t other = 0; other < present_; ++other) truth[page] += hosts_[other].recorded(page);
    }
    return true;
  };
  for (int round = 0; round < 3; ++round) {
    bool asked = ask();
    for (int i = 0; !asked || !host.sums_are_told(); ++i) {
      if (i > 40000) throw Broken("a host does not say what all counts come to");
      step();
      // Who has asked a flusher that ends asks the next one; and if a shard was away, once more.
      if (!asked || host.sums_are_lost() || host.sums_lack_a_shard()) asked = ask();
    }
    host.check_sums(truth, limit);
    for (std::uint64_t visits = chance(6); visits > 0; --visits) publish(host);
    for (std::uint64_t steps = chance(300); steps > 0; --steps) step();
    // What is on its way may be executed, now or later, and is not answered.
    if (chance(2) == 0) host.break_connection(stage_.any_shard(), "broken");
  }
  settle();
}

void World::check_end() const {
  for (std::size_t host = 0; host < present_; ++host) {
    if (is_copied()) hosts_[host].check_nothing_lost();
  }
  check_held();
  for (std::size_t page = 0; page < Stage::pages; ++page) {
    const std::uint32_t home = stage_.home_of(page);
    if (stage_.exchanged[home]) continue;
    std::uint64_t recorded = stage_.filled[page];
    for (std::size_t host = 0; host < present_; ++host) {
      // A copy that is held is in doubt: what the shard has of it is what it had.
      if (hosts_[host].is_held(home)) {
        recorded += is_copied() ? stage_.in_shards(host, page) : at_restore_[page];
      } else {
        recorded += hosts_[host].recorded(page);
      }
    }
    const std::uint64_t there = stage_.shards[home].count(stage_.names[page], stage_.bucket_of(page));
    if (there != recorded)
      throw Broken(fmt::format("shard {} holds {} of {}, recorded were {}", Stage::shard_names()[home], there,
                               stage_.names[page], recorded));
  }
  for (std::uint32_t shard = 0; shard < stage_.shards.size(); ++shard) {
    for (std::size_t page = 0; page < Stage::pages; ++page) {
      const bool swapped = scene_.harm == Harm::swapped && harmed_;
      // What lost a drop with its tail keeps the content, and says that the bucket left.
      const bool has_left = stage_.moves_buckets() && !stage_.shards[shard].has_bucket(stage_.bucket_of(page));
      // If a replica takes a node's place, it may bring back a bucket whose slot another node has by then. No host asks
      // the promoted one for it.
      const bool is_left_over = stage_.is_node(shard) && stage_.shards[shard].has_lost();
      const bool belongs =
          has_left || is_left_over || (swapped ? stage_.home_of(page) != shard : stage_.home_of(page) == shard);
      if ((!belongs || (stage_.exchanged[shard] && !swapped)) &&
          stage_.shards[shard].holds(stage_.names[page], stage_.bucket_of(page)))
        throw Broken(fmt::format("{} was written into shard {}, which is not what it was", stage_.names[page],
                                 Stage::shard_names()[shard]));
    }
  }
}

/// Each shard is up with everything in it, or held, or refuses what it is asked.
void World::check_held() const {
  for (std::size_t host = 0; host < present_; ++host) {
    if (!hosts_[host].is_settled()) {
      throw Broken(
          fmt::format("host {} comes to no end: it neither has all its visits in the shards, nor holds them", host));
    }
  }
}

}  // namespace visitd
