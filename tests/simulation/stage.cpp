#include "tests/simulation/stage.hpp"

#include <fmt/format.h>

#include "common/shm/page_id.hpp"
#include "flusher/counting/placement.hpp"

namespace visitd {

const std::vector<std::string>& Stage::shard_names() {
  static const std::vector<std::string> names = {"one", "two"};
  return names;
}

EngineSettings Stage::settings(std::uint64_t batch_pages) {
  EngineSettings settings;
  settings.shards = shard_names();
  settings.virtual_nodes = 10;
  settings.buckets = buckets;
  settings.page_id_limit = max_page_id_bytes;
  // Less than all pages need: the lanes wait for answers, and what waits for a shard that is away is spilled.
  settings.memory_limit_bytes = 5'000;
  settings.journal_limit_bytes = 1'000;
  settings.flush_interval_ms = 40;
  settings.commit_interval_ms = 10;
  settings.batches = {static_cast<std::uint32_t>(batch_pages), 1'000'000, 1'000'000'000, ttl_ms};
  settings.batches_in_flight = 1;  // so that unanswered batches wait for each other
  settings.reconnect_ms = 5;
  settings.held_recheck_ms = 20;
  settings.check_ms = 25;  // more often than a slow answer takes
  return settings;
}

Stage::Stage(std::uint64_t seed, Mutant taken_out, Harm what, std::size_t hosts)
    : random(seed), mutant(taken_out), harm(what), exchanged(shard_names().size()), past_(hosts == 1 ? 0 : hosts) {
  const EngineSettings placing = settings(1);
  placement = place_buckets(placing.shards, placing.virtual_nodes, placing.buckets).shard_of_bucket();
  for (std::size_t p = 0; p < pages; ++p) {
    names[p] = p == 0 ? "a" : fmt::format("page-{}-{}", p, std::string(p * 3, 'x'));
    // Of the others, ids take two cells of a view, three and four.
    if (p >= 2) names[p].resize(p == 2 ? 300 : p == 3 ? 600 : max_page_id_bytes, 'y');
    buckets_of_pages[p] = page_bucket(names[p], buckets);
    homes[p] = placement[buckets_of_pages[p]];
    hashes[p] = page_hash(names[p], hash_seed);
  }
  for (std::size_t shard = 0; shard < shard_names().size(); ++shard) shards.emplace_back(hosts);
  if (mutant == Mutant::shard_ignores_identity) {
    for (SimulatedShard& shard : shards) shard.ignore_identity();
  }
  if (mutant == Mutant::shard_ignores_tombstones) {
    for (SimulatedShard& shard : shards) shard.ignore_tombstones();
  }
  note_past();
}

std::uint64_t Stage::in_shards(std::size_t host, std::size_t page) const {
  std::uint64_t visits = 0;
  for (const SimulatedShard& shard : shards) visits += shard.count_of(host, names[page]);
  return visits;
}

void Stage::note_past() {
  for (std::size_t host = 0; host < past_.size(); ++host) {
    for (std::size_t page = 0; page < pages; ++page) {
      if (exchanged[homes[page]]) continue;
      std::deque<Past>& past = past_[host][page];
      const std::uint64_t visits = in_shards(host, page);
      if (past.empty() || past.back().visits != visits) past.push_back({now.ms, visits});
    }
  }
}

std::pair<std::uint64_t, std::uint64_t> Stage::range_since(std::size_t host, std::size_t page, std::uint64_t ms) const {
  std::pair<std::uint64_t, std::uint64_t> range{~std::uint64_t{0}, 0};
  bool at_start = true;
  for (auto past = past_[host][page].rbegin(); past != past_[host][page].rend(); ++past) {
    // A base stays where the shard fell below it: the most is that of all time.
    range.second = std::max(range.second, past->visits);
    if (at_start) range.first = std::min(range.first, past->visits);
    at_start = at_start && past->since_ms >= ms;
  }
  return range;
}

}  // namespace visitd
