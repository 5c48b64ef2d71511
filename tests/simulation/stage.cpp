#include "tests/simulation/stage.hpp"

#include <fmt/format.h>

#include <utility>

#include "common/shm/page_id.hpp"
#include "flusher/counting/layout.hpp"

namespace visitd {

const std::vector<std::string>& Stage::shard_names() {
  static const std::vector<std::string> names = {"one", "two", "new", "node-1", "node-2", "node-3"};
  return names;
}

namespace {

std::size_t servers_with(Harm harm) {
  if (harm == Harm::to_cluster || harm == Harm::to_shards) return Stage::shard_names().size();
  return harm == Harm::moving || harm == Harm::cluster ? 3 : 2;
}

}  // namespace

EngineSettings Stage::settings(std::uint64_t batch_pages) {
  EngineSettings settings;
  settings.shards = {shard_names()[0], shard_names()[1]};
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
  settings.buckets_moved_at_once = 1;
  settings.durable_after_ms = SimulatedShard::sync_ms + 1;
  settings.move_turn_ms = 200;
  return settings;
}

Stage::Stage(std::uint64_t seed, Mutant taken_out, Harm what, std::size_t hosts)
    : random(seed),
      mutant(taken_out),
      harm(what),
      exchanged(servers_with(what)),
      past_(hosts == 1 ? 0 : hosts),
      most_(past_.size()) {
  layout = layout_of(settings(1));
  next_placement = placement = place_buckets(layout).shard_of_bucket();
  for (std::size_t p = 0; p < pages; ++p) {
    names[p] = p == 0 ? "a" : fmt::format("page-{}-{}", p, std::string(p * 3, 'x'));
    // Of the others, ids take two cells of a view, three and four.
    if (p >= 2) names[p].resize(p == 2 ? 300 : p == 3 ? 600 : max_page_id_bytes, 'y');
    buckets_of_pages[p] = page_bucket(names[p], buckets);
    hashes[p] = page_hash(names[p], hash_seed);
  }
  for (std::size_t shard = 0; shard < exchanged.size(); ++shard) shards.emplace_back(hosts);
  if (mutant == Mutant::shard_ignores_identity) {
    for (SimulatedShard& shard : shards) shard.ignore_identity();
  }
  if (has_cluster()) make_cluster();
  if (mutant == Mutant::shard_lies_about_replicas) {
    for (SimulatedShard& shard : shards) shard.lie_about_replicas();
  }
  for (SimulatedShard& shard : shards) {
    using Rejoining = SimulatedShard::Rejoining;
    if (mutant == Mutant::shard_ignores_corrections) shard.ignore_fix();
    if (mutant == Mutant::shard_hides_corrections) shard.keep_fix();
    using Summing = SimulatedShard::Summing;
    if (mutant == Mutant::shard_compares_no_digest) shard.sum_wrongly(Summing::digest_is_not_compared);
    if (mutant == Mutant::shard_corrects_no_sum) shard.sum_wrongly(Summing::correction_leaves_sum);
    if (mutant == Mutant::shard_raises_no_largest) shard.sum_wrongly(Summing::largest_is_not_raised);
    if (mutant == Mutant::shard_ignores_tombstones) shard.ignore_tombstones();
    if (mutant == Mutant::shard_keeps_tombstones) shard.rejoin_in_part(Rejoining::puts_back_alone);
    if (mutant == Mutant::shard_puts_no_mark_back) shard.rejoin_in_part(Rejoining::takes_away_alone);
    if (mutant == Mutant::shard_forgets_what_moves) shard.forget_what_moves();
  }
  note_past();
}

// ---- a cluster

void Stage::make_cluster() {
  if (migrates()) first_node_ = plain_shards;
  cluster.nodes.assign(shard_names().begin() + first_node_,
                       shard_names().begin() + static_cast<std::ptrdiff_t>(shards.size()));
  for (std::uint32_t key = 0; key <= buckets; ++key) {
    cluster.owner.push_back(static_cast<std::uint32_t>(chance(cluster.nodes.size())));
  }
  cluster.goes_to.resize(cluster.owner.size());
  for (std::uint32_t number = 0; number < cluster.nodes.size(); ++number) node(number).join(cluster, number);
  if (harm == Harm::to_cluster) return;
  layout = layout_in_cluster(buckets, layout.virtual_nodes);
  next_placement = placement = places_of(layout.shards);
}

/// Of the slots of our keys alone: what is in the others does not matter.
ClusterMap Stage::cluster_map() const {
  ClusterMap map;
  for (std::uint32_t bucket = 0; bucket < buckets; ++bucket) {
    const std::uint32_t slot = slot_of_key(fmt::format("visits:{{{}}}", bucket));
    map.slots.push_back({slot, slot, cluster.nodes[cluster.owner[bucket]]});
  }
  const std::uint32_t slot = slot_of_key("visits:topology");
  map.slots.push_back({slot, slot, cluster.nodes[cluster.owner[cluster.topology_key()]]});
  return map;
}

void Stage::reshard() {
  reshard(chance(cluster.owner.size()));
}

void Stage::reshard(std::size_t key) {
  std::optional<std::uint32_t>& to = cluster.goes_to[key];
  std::uint32_t& owner = cluster.owner[key];
  if (!to) {
    if (const auto other = static_cast<std::uint32_t>(chance(cluster.nodes.size())); other != owner) to = other;
  } else if (node(owner).holds_key(key)) {
    SimulatedShard::migrate(node(owner), node(*to), key);
    ++statistics.migrated;
  } else {
    // Ended; or taken back, where nothing has gone over.
    const bool is_there = node(*to).holds_key(key);
    if (is_there || chance(2) == 0) owner = *to;
    to.reset();
  }
}

void Stage::end_reshards() {
  for (std::size_t key = cluster.owner.size(); key-- > 0;) {
    const auto& to = cluster.goes_to[key];
    if (key != cluster.topology_key() && to == cluster.owner.back() && chance(2) == 0) continue;
    while (to) reshard(key);
  }
}

std::uint32_t Stage::server_in_cluster(std::uint32_t bucket) const {
  const std::uint32_t owner = cluster.owner[bucket];
  return first_node_ + (cluster.goes_to[bucket] && !node(owner).holds_key(bucket) ? *cluster.goes_to[bucket] : owner);
}

std::uint32_t Stage::home_of_bucket(std::uint32_t bucket) const {
  const auto [next, former] = servers_of(bucket);
  return shards[next].has_bucket(bucket) ? next : former;
}

std::pair<std::uint32_t, std::uint32_t> Stage::servers_of(std::uint32_t bucket) const {
  const auto server = [&](std::uint32_t place) { return place == in_cluster ? server_in_cluster(bucket) : place; };
  return {server(next_placement[bucket]), server(placement[bucket])};
}

/// By names: a layout that lacks a shard counts the others otherwise.
std::vector<std::uint32_t> Stage::places_of(const std::vector<ShardPlace>& places) const {
  if (places.front().is_cluster()) return std::vector<std::uint32_t>(buckets, in_cluster);
  std::vector<std::uint32_t> placed = place_on_circle(names_of(places), layout.virtual_nodes, buckets);
  for (std::uint32_t& shard : placed) {
    shard = static_cast<std::uint32_t>(std::ranges::find(shard_names(), places[shard].name) - shard_names().begin());
  }
  return placed;
}

void Stage::follow(const Layout& next) {
  if (next.version <= layout.version) return;
  ++statistics.layouts;
  layout = next;
  placement = std::exchange(next_placement, places_of(layout.is_moving() ? layout.next : layout.shards));
}

std::uint64_t Stage::in_shards(std::size_t host, std::size_t page) const {
  const std::uint32_t bucket = buckets_of_pages[page];
  if (moves_buckets()) return shards[home_of(page)].count_of(host, names[page], bucket);
  std::uint64_t visits = 0;
  for (const SimulatedShard& shard : shards) visits += shard.count_of(host, names[page], bucket);
  return visits;
}

/// Where somebody corrects a bucket while a shard lacks what it has lost of a host, each page of the bucket is shown as
/// it stands there, until that host has sent it again.
void Stage::note_corrections(bool lost) {
  for (std::size_t page = 0; page < pages; ++page) {
    const std::uint32_t bucket = buckets_of_pages[page];
    const std::uint64_t fix = shards[home_of(page)].fix_of(bucket);
    const bool is_corrected = !lost && fix > std::exchange(fixes_[page], fix);
    for (std::size_t host = 0; is_corrected && host < past_.size(); ++host) {
      if (static_cast<std::int64_t>(in_shards(host, page)) < most_[host][page]) lowered_ms[page] = now.ms;
    }
  }
}

void Stage::note_past(bool lost) {
  if (corrects) note_corrections(lost);
  for (std::size_t host = 0; host < past_.size(); ++host) {
    for (std::size_t page = 0; page < pages; ++page) {
      if (exchanged[home_of(page)]) continue;
      std::deque<Past>& past = past_[host][page];
      auto visits = static_cast<std::int64_t>(in_shards(host, page));
      const auto [next, former] = servers_of(buckets_of_pages[page]);
      most_[host][page] = std::max(most_[host][page], visits);
      // A shard that has lost its tail may have forgotten that the bucket left it: hosts find one or the other.
      if (next != former && shards[next].has_bucket(buckets_of_pages[page]) &&
          shards[former].has_bucket(buckets_of_pages[page])) {
        const auto there =
            static_cast<std::int64_t>(shards[former].count_of(host, names[page], buckets_of_pages[page]));
        most_[host][page] = std::max(most_[host][page], there);
        // A host that still asks the former shard learns late that the page was corrected at the next one.
        if (corrects && visits < there && shards[former].has_lost()) lowered_ms[page] = now.ms;
        visits = std::min(visits, there);
      }
      if (!lost && !past.empty() && visits < past.back().visits) lowered_ms[page] = now.ms;
      if (past.empty() || past.back().visits != visits) past.push_back({now.ms, visits});
    }
  }
}

std::pair<std::int64_t, std::int64_t> Stage::range_since(std::size_t host, std::size_t page, std::uint64_t ms) const {
  std::pair<std::int64_t, std::int64_t> range{INT64_MAX, most_[host][page]};
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
