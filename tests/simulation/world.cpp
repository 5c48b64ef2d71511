#include "tests/simulation/world.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>

#include "flusher/counting/deployment.hpp"
#include "tests/simulation/kill_step.hpp"

namespace visitd {

namespace {

std::uint64_t one_of(Stage& stage, std::initializer_list<std::uint64_t> choices) {
  return choices.begin()[stage.chance(choices.size())];
}

}  // namespace

World::World(std::uint64_t seed, const Scene& scene, Mutant mutant)
    : scene_(scene),
      stage_(seed, mutant, scene.harm, scene.hosts),
      rates_{one_of(stage_, {12, 60, 300}), one_of(stage_, {600, 6'000, 60'000}), one_of(stage_, {6, 12, 40}),
             one_of(stage_, {3, 30, 300})},
      quick_(stage_.chance(2) == 0),
      present_(is_copied() ? 1 : scene.hosts),
      slow_(stage_.shards.size()),
      slow_until_ms_(stage_.shards.size()) {
  for (std::size_t host = 0; host < scene.hosts; ++host) hosts_.emplace_back(stage_, host, scene.hosts);
  if (scene.second_only_reads) hosts_[1].publish_nothing();
  stage_.forgets = scene.forgets;
  stage_.corrects = scene.corrects;
  for (SimulatedShard& shard : stage_.shards) {
    if (scene.second_keeps_none) shard.keep_no_sums_of(1);
  }
  // What is sent again to a shard that lost its tail would be refused by a spoiled field; of two copies, one may go on
  // from what the shard fell back to.
  stage_.loses_tails = scene.harm != Harm::spoiled && !is_copied();
  // A shard that has forgotten that a bucket left, or the last batches of one, is met by the other scenes of moves.
  if (stage_.moves_buckets() && scene.forgets) stage_.loses_tails = false;
  // What a page comes to can be told only where nothing of others is missing.
  if (scene.harm == Harm::refusing && scene.corrects) stage_.loses_tails = false;
  const bool exchanges = scene.harm == Harm::emptied || scene.harm == Harm::deleted || scene.harm == Harm::swapped;
  if (exchanges || scene.harm == Harm::refusing || scene.harm == Harm::moving || scene.harm == Harm::failover ||
      stage_.migrates()) {
    fill_shards();
  }
  KillStep::between_stores = [this] { between_stores(); };
}

World::~World() {
  KillStep::between_stores = nullptr;
}

/// Another host has made the deployment and counted: so a read of an emptied shard is wrong also where no host of this
/// world ever wrote.
void World::fill_shards() {
  const std::string layout = to_text(stage_.layout);
  for (std::uint32_t shard = 0; shard < stage_.shards.size(); ++shard) {
    std::vector<std::uint32_t> buckets;
    for (std::uint32_t bucket = 0; bucket < Stage::buckets; ++bucket) {
      if (stage_.home_of_bucket(bucket) == shard) buckets.push_back(bucket);
    }
    const bool in_cluster = stage_.layout.shards.front().is_cluster();
    const std::string& name = in_cluster ? cluster_name : Stage::shard_names()[shard];
    const bool named = std::ranges::find(stage_.layout.shards, name, &ShardPlace::name) != stage_.layout.shards.end();
    if (!named || (in_cluster && shard < Stage::plain_shards)) continue;
    const bool tells = !in_cluster || stage_.server_in_cluster(stage_.buckets) == shard;
    stage_.shards[shard].make(
        tells ? to_text({TopologyText::Kind::deployment, "made", true, name, layout}) : std::string(), buckets,
        bucket_identity("made"));
  }
  for (std::size_t page = 0; page < Stage::pages; ++page) {
    stage_.filled[page] = 100 * (page + 1);
    stage_.shards[stage_.home_of(page)].set_field(stage_.bucket_of(page), stage_.names[page],
                                                  std::to_string(stage_.filled[page]));
  }
  for (SimulatedShard& shard : stage_.shards) {
    shard.sync();
    shard.replicate();
  }
}

// ---- what happens

void World::run(std::uint64_t steps) {
  for (std::size_t host = 0; host < present_; ++host) hosts_[host].start_flusher();
  const std::uint64_t harm_at = chance(steps / 3 * 2);
  for (std::uint64_t i = 0; i < steps; ++i) {
    step();
    if (scene_.harm == Harm::refusing && chance(100) == 0) static_cast<void>(harm());
    if (scene_.harm == Harm::moving && chance(200) == 0) any_host().change_shards();
    if (stage_.migrates() && chance(200) == 0) any_host().migrate();
    if (stage_.has_cluster() && chance(stage_.migrates() ? 40 : 15) == 0) stage_.reshard();
    if (scene_.forgets || quick_) answer_sooner();
    if (scene_.forgets) look_after_forgotten();
    if (scene_.corrects && chance(60) == 0) any_host().correct();
    if (scene_.corrects && chance(60) == 0) any_host().ask_question();
    // Who knows nothing of sums asks for none.
    if (scene_.adds_up && chance(60) == 0) (scene_.second_keeps_none ? hosts_[0] : any_host()).add_up();
    if (i >= harm_at && !harmed_) harmed_ = harm();
  }
  calm_down();
  check_end();
  see_each_other();
  check_sums();
  for (std::size_t host = 0; host < present_; ++host) hosts_[host].leave_ring_and_cache();
}

void World::step() {
  // In the end the shards keep up with what they are asked.
  stage_.now.ms += chance(stage_.calm ? 4 : 2) == 0 ? 1 : 0;
  if (stage_.now.ms % 1000 == 0) ++stage_.now.unix;
  if (stage_.has_cluster() && chance(stage_.migrates() ? 40 : 200) == 0) any_host().look_at_cluster();
  const std::uint64_t what = chance(stage_.calm ? 12 : 21);
  switch (what) {
    case 6:
    case 7:
      for (std::size_t more = stage_.shards.size() / 2; more > 0; --more) execute(stage_.any_shard());
      // Of many shards, too: nobody waits longer for one of them in the end.
      for (std::uint32_t more = 2; stage_.calm && more < stage_.shards.size(); ++more) execute(stage_.any_shard());
      break;
    case 17:
      if (chance(rates_.sync) == 0) stage_.shards[stage_.any_shard()].sync();
      if (chance(rates_.sync) == 0) stage_.shards[stage_.any_shard()].replicate();
      break;
    case 18:
      if (chance(rates_.break_connection) == 0) break_connections();
      break;
    case 19:
      if (chance(rates_.kill) == 0) kill(any_host());
      if (chance(rates_.kill) == 0) any_host().stop_flusher();
      if (chance(rates_.kill) == 0) any_host().leave_ring();
      if (scene_.harm == Harm::spoiled && chance(8) == 0) spoil_or_mend();
      if (scene_.harm == Harm::restored && chance(10) == 0) hosts_[0].keep_copy();
      break;
    case 20:
      if (chance(60) == 0) be_slow();
      break;
    default:
      host_step(any_host(), what);
  }
}

void World::host_step(SimulatedHost& host, std::uint64_t what) {
  host.start_flusher();
  switch (what) {
    case 0:
    case 1:
    case 2:
      return host.flusher_turn();
    case 3:
    case 4:
      return host.run_spool();
    case 5:
      return host.tell_spool();
    case 8:
    case 9:
      for (std::size_t looks = stage_.shards.size() / 2; looks > 0; --looks) look_at_some_connection(host);
      return;
    case 10:
      // Where a host only reads, of no more pages than it has entries: none is evicted, and no count may fall.
      return host.post_request(chance(scene_.second_only_reads ? SimulatedHost::entries : Stage::pages));
    case 11:
    case 16:
      return host.read(chance(Stage::pages), chance(SimulatedHost::readers()));
    default:
      publish(host);
  }
}

void World::look_at_some_connection(SimulatedHost& host) {
  const std::uint32_t shard = stage_.any_shard();
  if (slow_[shard] == Slow::nothing || stage_.now.ms >= slow_until_ms_[shard] || chance(8) == 0) {
    host.look_at_connection(shard);
  }
}

void World::publish(SimulatedHost& host) {
  const std::size_t page = chance(Stage::pages);
  if (!is_copied()) return host.publish(page, static_cast<std::uint32_t>(1 + chance(3)));
  // Equal batches of two copies are what is to be told apart.
  for (std::size_t copy = 0; copy < present_; ++copy) hosts_[copy].publish(page, 1);
}

void World::execute(std::uint32_t shard) {
  if (slow_[shard] == Slow::everything && stage_.now.ms < slow_until_ms_[shard]) return;
  stage_.shards[shard].set_time(stage_.now.ms);
  if (stage_.shards[shard].execute(stage_.random)) {
    stage_.note_past();
    check_gone();
  }
  // What was copied is kept twice until it is synced.
  if (stage_.calm && chance(4) == 0) {
    stage_.shards[shard].sync();
    stage_.shards[shard].replicate();
  }
}

/// A disk is slow; or a shard is, for longer than a command may wait: what was sent is executed after the connection
/// was given up, and after the same was sent again; or it is executed, and the answer comes too late.
void World::be_slow() {
  if (chance(3) == 0) return any_host().slow_disk(stage_.now.ms + chance(60));
  const std::uint32_t shard = stage_.any_shard();
  slow_[shard] = chance(2) == 0 ? Slow::answers : Slow::everything;
  slow_until_ms_[shard] = stage_.now.ms + chance(3 * Stage::answer_timeout_ms);
}

void World::break_connections() {
  const std::uint32_t shard = stage_.any_shard();
  const std::uint64_t away_until_ms = stage_.now.ms + chance(400);
  // Some hosts' way to it may be broken for longer than others': so one reads what another has not mended yet.
  for (std::size_t host = 0; host < present_; ++host) {
    if (chance(3) == 0) hosts_[host].keep_away(shard, away_until_ms);
  }
  if (!stage_.loses_tails || chance(3) != 0) return any_host().break_connection(shard, "broken");
  stage_.gone.clear();
  if ((scene_.harm == Harm::failover || stage_.moves_buckets()) && chance(2) == 0 && stage_.shards[shard].fail_over()) {
    ++stage_.statistics.failovers;
  } else {
    ++stage_.statistics.losses;
    stage_.shards[shard].lose_tail();
  }
  stage_.note_past(true);
  for (std::size_t host = 0; host < present_; ++host) hosts_[host].break_connection(shard, "broken");
}

void World::kill(SimulatedHost& host) {
  host.kill_flusher();
  // For so long that another host may have moved all buckets meanwhile.
  if (stage_.migrates() && chance(4) == 0) host.stay_off(stage_.now.ms + chance(1500));
  if (scene_.harm == Harm::none && !scene_.forgets && !scene_.corrects && chance(2) == 0)
    static_cast<void>(host.wipe());
}

void World::between_stores() {
  if (chance(8) == 0) {
    ++stage_.statistics.reads_of_changes;
    any_host().read(chance(Stage::pages), chance(SimulatedHost::readers()));
  }
  if (!stage_.calm && chance(rates_.kill_between_stores) == 0) throw Killed{};
}

// ---- what is done to it

bool World::harm() {
  const std::uint32_t shard = stage_.any_shard();
  switch (scene_.harm) {
    case Harm::none:
    case Harm::spoiled:
    case Harm::moving:
    case Harm::failover:
    case Harm::cluster:
    case Harm::to_cluster:
    case Harm::to_shards:
      return true;
    case Harm::refusing:
      stage_.shards[shard].refuse(chance(2) == 0   ? SimulatedShard::Refusing::nothing
                                  : chance(2) == 0 ? SimulatedShard::Refusing::writes
                                                   : SimulatedShard::Refusing::all);
      return false;
    case Harm::emptied:
      stage_.exchanged[shard] = true;
      stage_.shards[shard].empty();
      break;
    case Harm::deleted:
      stage_.exchanged[shard] = true;
      for (std::uint32_t bucket = 0; bucket < Stage::buckets; ++bucket) stage_.shards[shard].forget(bucket);
      break;
    case Harm::swapped:
      exchange();
      break;
    case Harm::wiped:
      return wipe();
    case Harm::restored:
      return restore();
    case Harm::copied:
    case Harm::copied_alive:
      return copy();
  }
  stage_.may_hold = true;
  ++stage_.statistics.exchanges;
  return true;
}

/// Two shards stand in each other's place: other addresses, or other data under the same living connections.
void World::exchange() {
  stage_.exchanged.assign(stage_.exchanged.size(), true);
  if (chance(2) == 0) return SimulatedShard::swap_data(stage_.shards[0], stage_.shards[1]);
  for (std::size_t host = 0; host < present_; ++host) {
    for (std::uint32_t shard = 0; shard < stage_.shards.size(); ++shard)
      hosts_[host].break_connection(shard, "swapped");
  }
  SimulatedShard::swap_servers(stage_.shards[0], stage_.shards[1]);
}

bool World::wipe() {
  stage_.calm = true;  // until nothing is on its way, so that the spool that goes costs no visit
  if (!hosts_[0].all_in_shards()) return false;
  stage_.calm = false;
  for (std::uint64_t visits = chance(8); visits > 0; --visits) publish(hosts_[0]);
  hosts_[0].kill_flusher();
  return hosts_[0].wipe();
}

bool World::restore() {
  SimulatedHost& host = hosts_[0];
  stage_.calm = true;
  if (!host.all_in_shards()) return false;
  host.kill_flusher();
  stage_.calm = false;
  if (!host.restore()) return true;  // no copy was kept
  stage_.may_hold = true;
  for (std::size_t page = 0; page < Stage::pages; ++page) at_restore_[page] = stage_.in_shards(0, page);
  return true;
}

/// A second host begins with a copy of the first one's state directory, in which no visit waits: visits that wait in
/// both are, rightly, counted by both.
bool World::copy() {
  stage_.calm = true;
  if (!hosts_[0].is_settled() || !hosts_[0].all_in_shards()) return false;
  stage_.calm = false;
  stage_.may_hold = true;
  const bool alive = scene_.harm == Harm::copied_alive;
  hosts_[1].go_on_as(hosts_[0], alive);
  if (!alive) hosts_[0].kill_flusher();  // both begin a life of the same number
  present_ = 2;
  return true;
}

/// A host that is always just connecting can neither forget nor go on, and moves nothing.
void World::answer_sooner() {
  execute(stage_.any_shard());
  any_host().look_at_connection(stage_.any_shard());
}

void World::look_after_forgotten() {
  if (chance(60) == 0) forget();
  if (chance(60) == 0) any_host().accept_held();
}

/// Of a host that lives, or of one that has just died; seldom by one that cannot ask all shards.
void World::forget() {
  const std::size_t gone = chance(2);
  if (!hosts_[1 - gone].is_up() && chance(20) != 0) return;
  stage_.may_hold = true;
  if (chance(6) == 0) kill(hosts_[gone]);
  hosts_[1 - gone].forget(hosts_[gone]);
}

/// What was taken out stays out, wherever the bucket goes; and no bucket has both a mark and the tombstone of it.
void World::check_gone() const {
  for (const Stage::Gone& gone : stage_.gone) {
    const SimulatedShard& home = stage_.shards[stage_.home_of_bucket(gone.bucket)];
    if (home.mark(gone.bucket, gone.writer) != gone.mark) continue;
    throw Broken(fmt::format("{} was forgotten, and bucket {} has its mark {}", gone.writer, gone.bucket, gone.mark));
  }
  for (const SimulatedHost& host : hosts_) {
    for (std::uint32_t bucket = 0; bucket < Stage::buckets; ++bucket) {
      const SimulatedShard& home = stage_.shards[stage_.home_of_bucket(bucket)];
      if (!home.tombstone(bucket, host.writer()).empty() && !home.mark(bucket, host.writer()).empty())
        throw Broken(fmt::format("bucket {} has a mark of {}, and a tombstone", bucket, host.writer()));
    }
  }
}

void World::spoil_or_mend() {
  // Somebody may mend a field while the visits that it refused are still on their way to the spool.
  const auto refused = hosts_[0].being_put_aside();
  if (refused && stage_.spoiled[*refused]) return mend(*refused);
  const std::size_t page = chance(Stage::pages);
  if (stage_.spoiled[page]) return mend(page);
  // Once: of a page that was mended in between, an answer from then may rightly come after the next fault.
  if (stage_.ever_spoiled[page]) return;
  stage_.shards[stage_.home_of(page)].spoil(stage_.bucket_of(page), stage_.names[page]);
  ++stage_.statistics.spoiled;
  stage_.ever_spoiled[page] = stage_.spoiled[page] = true;
}

void World::mend(std::size_t page) {
  stage_.shards[stage_.home_of(page)].mend(stage_.bucket_of(page), stage_.names[page]);
  stage_.spoiled[page] = false;
  for (SimulatedHost& host : hosts_) host.mended(page);
}

}  // namespace visitd
