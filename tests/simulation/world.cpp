#include "tests/simulation/world.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "common/page_id.hpp"
#include "flusher/deployment.hpp"
#include "flusher/placement.hpp"
#include "tests/simulation/kill_step.hpp"

namespace visitd {

namespace {

constexpr std::uint64_t seed_of_hashes = 42;
constexpr std::uint64_t ring_id = 7;
const std::vector<std::string> shard_names = {"one", "two"};

EngineSettings engine_settings(std::uint64_t batch_pages) {
  EngineSettings settings;
  settings.shards = shard_names;
  settings.virtual_nodes = 10;
  settings.buckets = 4;
  settings.page_id_limit = 32;
  // Less than all pages need: the lanes wait for answers, and what waits for a shard that is away is spilled.
  settings.memory_limit_bytes = 500;
  settings.journal_limit_bytes = 100;
  settings.flush_interval_ms = 40;
  settings.commit_interval_ms = 10;
  settings.batches = {static_cast<std::uint32_t>(batch_pages), 1'000'000, 1'000'000'000, 30};
  settings.batches_in_flight = 1;  // so that unanswered batches wait for each other
  settings.reconnect_ms = 5;
  settings.held_recheck_ms = 20;
  return settings;
}

}  // namespace

World::World(std::uint64_t seed, Mutant mutant, Harm harm)
    : random_(seed),
      mutant_(mutant),
      harm_(harm),
      exchanged_(shard_names.size()),
      shape_{lanes, 4, buckets, 32},
      cache_memory_(shape_.bytes() / sizeof(Line) + 1) {
  const EngineSettings settings = engine_settings(1);
  const auto placement = place_buckets(settings.shards, settings.virtual_nodes, settings.buckets);
  for (std::size_t p = 0; p < pages; ++p) {
    page_names_[p] = p == 0 ? "a" : fmt::format("page-{}-{}", p, std::string(p * 3, 'x'));
    homes_[p] = placement[page_bucket(page_names_[p], buckets)];
    hashes_[p] = page_hash(page_names_[p], seed_of_hashes);
  }
  for (std::uint32_t n = 0; n < lanes; ++n) {
    Lane& lane = lanes_.emplace_back();
    lane.producer = std::make_unique<LaneProducer>(lane.tail.word, lane.records, &cache().head[n].word, &lane.freed);
    lane.asker = std::make_unique<LaneProducer>(lane.requests_tail.word, lane.requests, &cache().requests_read[n]);
  }
  for (int reader = 0; reader < 2; ++reader) {
    std::vector<Backlog::Lane> seen;
    for (Lane& lane : lanes_) seen.push_back({&lane.tail.word, LaneRecords(std::span<const Word>(lane.records))});
    // The second reader's backlog is long from the first byte on: it always reads through its index.
    readers_.emplace_back(std::move(seen), superseded_, 1024, reader == 0 ? Backlog::usual_short_bytes : 0);
    const LonelyWord* const heads = mutant_ == Mutant::backlog_trusts_freed_bytes ? nullptr : cache().head;
    readers_.back().use({&cache().active.word, &cache().retired.word, heads, memory().views});
  }
  spoils_ = harm_ == Harm::none && seed % 4 == 2;
  for (std::size_t shard = 0; shard < shard_names.size(); ++shard) shards_.emplace_back("simulated");
  former_answers_.resize(shards_.size());
  connecting_.resize(shards_.size());
  away_until_ms_.resize(shards_.size());
  if (mutant_ == Mutant::shard_ignores_identity) {
    for (SimulatedShard& shard : shards_) shard.ignore_identity();
  }
  if (harm_ != Harm::none) fill_shards();
  KillStep::between_stores = [this] { between_stores(); };
}

World::~World() {
  KillStep::between_stores = nullptr;
}

CountingMemory World::memory() {
  CountingMemory memory;
  memory.ring_id = ring_id;
  memory.ring_segment = 1;
  memory.hash_seed = seed_of_hashes;
  for (Lane& lane : lanes_)
    memory.lanes.push_back({&lane.tail.word, &lane.requests_tail.word, lane.records, lane.requests,
                            LaneProducer::known_freed(lane.freed.load(), lane.tail.word.load(), 8 * lane_words)});
  memory.cache = &cache();
  auto* const start = reinterpret_cast<std::byte*>(cache_memory_.data());
  memory.views = {ViewMemory{shape_, start + shape_.view_offset(0)}, ViewMemory{shape_, start + shape_.view_offset(1)}};
  return memory;
}

/// Another host has made the deployment and counted: so a read of an emptied shard is wrong also where this host never
/// wrote.
void World::fill_shards() {
  const EngineSettings settings = engine_settings(1);
  for (std::size_t shard = 0; shard < shards_.size(); ++shard) {
    std::vector<std::uint32_t> all(buckets);
    std::iota(all.begin(), all.end(), 0U);
    shards_[shard].make(
        to_text({TopologyText::Kind::deployment, "made", true, shard_names[shard], topology_layout(settings)}), all,
        bucket_identity("made"));
  }
  for (std::size_t p = 0; p < pages; ++p) {
    recorded_[p] = 100 * (p + 1);
    shards_[homes_[p]].set_field(page_bucket(page_names_[p], buckets), page_names_[p], std::to_string(recorded_[p]));
  }
  for (SimulatedShard& shard : shards_) shard.sync();
}

void World::harm_shard() {
  const std::size_t shard = chance(shards_.size());
  switch (harm_) {
    case Harm::none:
      return;
    case Harm::refusing:
      shards_[shard].refuse(chance(2) == 0   ? SimulatedShard::Refusing::nothing
                            : chance(2) == 0 ? SimulatedShard::Refusing::writes
                                             : SimulatedShard::Refusing::all);
      return;
    case Harm::emptied:
    case Harm::deleted:
      if (harmed_) return;
      exchanged_[shard] = true;
      if (harm_ == Harm::emptied) {
        shards_[shard].empty();
      } else {
        for (std::uint32_t bucket = 0; bucket < buckets; ++bucket) shards_[shard].forget(bucket);
      }
      break;
    case Harm::swapped:
      if (harmed_) return;
      for (std::uint32_t n = 0; n < shards_.size(); ++n) break_connection(n);
      SimulatedShard::swap(shards_[0], shards_[1]);
      exchanged_.assign(exchanged_.size(), true);
      break;
  }
  harmed_ = true;
  ++statistics_.exchanges;
}

void World::run(std::uint64_t steps) {
  start_flusher();
  const std::uint64_t harm_at = harm_ == Harm::none ? steps : chance(steps);
  for (std::uint64_t i = 0; i < steps; ++i) {
    step();
    if (i == harm_at || (harm_ == Harm::refusing && chance(100) == 0)) harm_shard();
  }
  calm_ = true;
  mend_all();
  for (SimulatedShard& shard : shards_) shard.refuse(SimulatedShard::Refusing::nothing);
  const auto all_there = [&] {
    std::uint64_t there = 0;
    std::uint64_t recorded = 0;
    for (std::size_t p = 0; p < pages; ++p) {
      if (exchanged_[homes_[p]]) continue;
      const std::uint32_t bucket = page_bucket(page_names_[p], buckets);
      for (const SimulatedShard& shard : shards_) there += shard.count(page_names_[p], bucket);
      recorded += recorded_[p] - aside(p);
    }
    return there >= recorded;
  };
  const std::uint64_t calm_steps = harmed_ ? 5000 : 40000;
  for (std::uint64_t i = 0; i < calm_steps && !(all_there() && engine_ != nullptr && engine_->is_durable()); ++i)
    step();
  check_end();
  read_all();
  leave_ring_and_cache();
}

void World::read_all() {
  for (std::size_t reader = 0; reader < readers_.size(); ++reader) {
    for (std::size_t p = 0; p < pages; ++p) read(p, reader);
  }
}

/// The end of a ring, and of a cache: what is recorded now is not to be seen from here, and no reader shows less.
void World::leave_ring_and_cache() {
  const bool ring_first = chance(2) == 0;
  if (ring_first) {
    // Another ring is there: its visits are in no lane of this one.
    superseded_.store(1, std::memory_order_release);
    for (std::uint64_t& recorded : recorded_) ++recorded;
    read_all();
    return;
  }
  // Another cache frees the lanes, which this one shows as taken; then they are written anew.
  cache().retired.word.store(1, std::memory_order_release);
  LonelyWord head;
  for (Lane& lane : lanes_) {
    head.word.store(lane.tail.word.load(std::memory_order_relaxed), std::memory_order_relaxed);
    LaneProducer producer(lane.tail.word, lane.records, &head.word);
    for (std::size_t visit = 0; visit < 3 * lane_words; ++visit) {
      const std::size_t page = chance(pages);
      if (producer.publish(RecordKind::visit, page_names_[page], 1, 0, hashes_[page]) != Published::full)
        ++recorded_[page];
      head.word.store(lane.tail.word.load(std::memory_order_relaxed), std::memory_order_relaxed);
      read(page, chance(readers_.size()));
    }
  }
}

void World::step() {
  now_.ms += chance(2);
  if (now_.ms % 1000 == 0) ++now_.unix;
  if (engine_ == nullptr) start_flusher();
  switch (chance(calm_ ? 12 : 20)) {
    case 0:
    case 1:
    case 2:
      flusher_turn();
      break;
    case 3:
    case 4:
      run_spool();
      break;
    case 5:
      tell_spool();
      break;
    case 6:
    case 7:
      static_cast<void>(shards_[chance(shards_.size())].execute(random_));
      break;
    case 8:
    case 9: {
      const auto shard = static_cast<std::uint32_t>(chance(shards_.size()));
      if (connecting_[shard] && now_.ms < away_until_ms_[shard] && !calm_) {
        connecting_[shard] = false;
        shards_[shard].drop(random_);
        flusher_event([&] { engine_->on_broken(shard, "away", now_); });
      } else if (connecting_[shard]) {
        connecting_[shard] = false;
        flusher_event([&] { engine_->on_connected(shard); });
      } else if (!former_answers_[shard].empty()) {
        ShardAnswer answer = std::move(former_answers_[shard].front());
        former_answers_[shard].pop_front();
        flusher_event([&] { engine_->on_answer(shard, std::move(answer), now_); });
      } else if (auto answer = shards_[shard].receive()) {
        flusher_event([&] { engine_->on_answer(shard, std::move(*answer), now_); });
      }
      break;
    }
    case 10:
      post_request();
      break;
    case 11:
      read(chance(pages), chance(readers_.size()));
      break;
    case 12:
    case 13:
    case 14:
    case 15:
      publish();
      break;
    case 16:
      read(chance(pages), chance(readers_.size()));
      break;
    case 17:
      shards_[chance(shards_.size())].sync();
      break;
    case 18:
      if (chance(12) == 0) break_connection(static_cast<std::uint32_t>(chance(shards_.size())));
      break;
    case 19:
      if (chance(12) == 0) {
        kill_flusher();
        if (harm_ == Harm::none && !spoils_ && chance(2) == 0) wipe();
      }
      if (spoils_ && chance(8) == 0) spoil_or_mend();
      break;
  }
}

// ---- the frontends

void World::publish() {
  const std::size_t page = chance(pages);
  Lane& lane = lanes_[chance(lanes)];
  if (chance(50) == 0) {
    // The owner dies between two records; the next one appends.
    const auto n = static_cast<std::size_t>(&lane == &lanes_[0] ? 0 : 1);
    lane.producer = std::make_unique<LaneProducer>(lane.tail.word, lane.records, &cache().head[n].word, &lane.freed);
  }
  const auto visits = static_cast<std::uint32_t>(1 + chance(3));
  if (lane.producer->publish(RecordKind::visit, page_names_[page], visits, 0, hashes_[page]) == Published::full) return;
  recorded_[page] += visits;
  statistics_.visits += visits;
}

void World::post_request() {
  const std::size_t page = chance(pages);
  static_cast<void>(lanes_[chance(lanes)].asker->publish(RecordKind::request, page_names_[page], 0, 0, hashes_[page]));
}

void World::read(std::size_t page, std::size_t reader) {
  CountReader::Sighting sighting;
  if (readers_[reader].look(hashes_[page], page_names_[page], sighting) != CountReader::Look::entry) return;
  ++statistics_.reads;
  const std::uint64_t recorded = recorded_[page] - aside(page);
  if (sighting.damaged && ever_spoiled_[page]) {
    ++statistics_.reads_damaged;
    return;
  }
  if (sighting.damaged || sighting.count != recorded || aside_since_[page]) {
    throw Broken(fmt::format("reader {} counts {}{} of {}, of which {} were recorded", reader, sighting.count,
                             sighting.damaged ? " (damaged)" : "", page_names_[page], recorded));
  }
}

std::uint64_t World::aside(std::size_t page) const {
  const auto visits_in = [&](const std::map<std::string, std::uint64_t>& pages_aside) {
    const auto found = pages_aside.find(page_names_[page]);
    return found == pages_aside.end() ? 0 : found->second;
  };
  return visits_in(spool_.set_aside()) + visits_in(captured_aside_);
}

// ---- the operator

void World::spoil_or_mend() {
  const std::size_t page = chance(pages);
  const std::uint32_t bucket = page_bucket(page_names_[page], buckets);
  if (spoiled_[page]) {
    shards_[homes_[page]].mend(bucket, page_names_[page]);
    spoiled_[page] = aside_since_[page] = false;
  } else if (!ever_spoiled_[page]) {
    // Once: of a page that was mended in between, an answer from then may rightly come after the next fault.
    shards_[homes_[page]].spoil(bucket, page_names_[page]);
    ++statistics_.spoiled;
    ever_spoiled_[page] = spoiled_[page] = true;
  }
}

void World::mend_all() {
  for (std::size_t page = 0; page < pages; ++page) {
    if (!spoiled_[page]) continue;
    shards_[homes_[page]].mend(page_bucket(page_names_[page], buckets), page_names_[page]);
    spoiled_[page] = aside_since_[page] = false;
  }
}

// ---- the flusher

template <typename Event>
void World::flusher_event(Event event) {
  if (engine_ == nullptr) return;
  try {
    event();
  } catch (const Killed&) {
    ++statistics_.kills_in_changes;
    kill_flusher();
  }
}

void World::between_stores() {
  if (chance(8) == 0) {
    ++statistics_.reads_of_changes;
    read(chance(pages), chance(readers_.size()));
  }
  if (!calm_ && chance(600) == 0) throw Killed{};
}

void World::start_flusher() {
  const CountingMemory seen = memory();
  SpoolState state = spool_.load();
  state.loaded_at = now_.unix;
  const std::uint64_t active = cache().active.word.load(std::memory_order_relaxed);
  std::vector<CarriedEntry> carried;
  if (active != 0) carried = carried_entries(seen.views[active & 1U], buckets);
  if (mutant_ == Mutant::kept_batches_lost) state.kept.clear();
  if (mutant_ == Mutant::bases_carried_blindly) {
    for (CarriedEntry& entry : carried) {
      const auto mark = std::ranges::find(state.marks, entry.bucket, &BucketMark::bucket);
      entry.answered = mark == state.marks.end() ? 0 : mark->seq;
    }
  }
  try {
    engine_ = std::make_unique<Engine>(engine_settings(1 + chance(3)), seen, std::move(state), std::move(carried),
                                       std::vector<std::string>{"identity-1", "identity-2"}, *this);
    engine_->free_space();
  } catch (const Killed&) {
    ++statistics_.kills_in_changes;
    kill_flusher();
  }
}

void World::kill_flusher() {
  ++statistics_.kills;
  statistics_.evictions += cache().statistics[static_cast<std::size_t>(FlusherStatistic::entries_evicted)].load();
  statistics_.duplicates += cache().statistics[static_cast<std::size_t>(FlusherStatistic::batches_duplicate)].load();
  statistics_.sent_again += cache().statistics[static_cast<std::size_t>(FlusherStatistic::batches_sent_again)].load();
  for (Word& statistic : cache().statistics) statistic.store(0, std::memory_order_relaxed);
  engine_.reset();
  for (std::uint32_t shard = 0; shard < shards_.size(); ++shard) shards_[shard].drop(random_);
  std::ranges::fill(former_answers_, std::deque<ShardAnswer>{});
  connecting_.assign(shards_.size(), false);
  // What the spool's thread had begun is in the file or not, whole.
  if (submitted_ && !committed_ && mutant_ != Mutant::commit_told_before_durable && chance(2) == 0)
    spool_.apply(*submitted_);
  captured_aside_.clear();
  captured_number_ = 0;
  submitted_.reset();
  refused_.reset();
  committed_ = false;
}

/// The state directory is wiped, at a moment when all that the spool held is in the shards too: then it costs no visit,
/// and what was durable must not be counted again. With it, at times, the cache goes.
void World::wipe() {
  std::array<std::uint64_t, pages> in_lanes{};
  for (std::uint32_t n = 0; n < lanes; ++n) {
    const LaneRecords records{std::span<const Word>(lanes_[n].records)};
    const std::uint64_t tail = lanes_[n].tail.word.load();
    Record record;
    for (std::uint64_t at = cache().head[n].word.load(); at < tail; at += record.size) {
      if (records.read(at, tail, record) != RecordCheck::whole) throw Broken("a record above head is damaged");
      if (record.kind != RecordKind::visit) continue;
      in_lanes[static_cast<std::size_t>(std::ranges::find(hashes_, record.page_hash) - hashes_.begin())] +=
          record.visits;
    }
  }
  if (std::ranges::any_of(shards_, &SimulatedShard::has_late)) return;
  for (std::size_t p = 0; p < pages; ++p) {
    std::uint64_t there = in_lanes[p];
    for (const SimulatedShard& shard : shards_)
      there += shard.count(page_names_[p], page_bucket(page_names_[p], buckets));
    if (there != recorded_[p]) return;
  }
  ++statistics_.wiped_spools;
  spool_ = {};
  for (SimulatedShard& shard : shards_) {
    shard.sync();  // nobody keeps what it would lose
    shard.set_writer(fmt::format("simulated-{}", statistics_.wiped_spools));
  }
  if (chance(2) != 0) return;
  ++statistics_.wiped_caches;
  for (Lane& lane : lanes_) lane.producer->look_at_head();  // the last heartbeat
  for (LonelyWord& head : cache().head) head.word.store(0);
  cache().active.word.store(0);
}

void World::flusher_turn() {
  flusher_event([&] {
    static_cast<void>(engine_->drain(now_));
    if (chance(4) == 0) engine_->tick(now_);
    if (chance(100) == 0) engine_->commit_soon();
  });
}

void World::run_spool() {
  if (!submitted_ || committed_) return;
  if (!calm_ && chance(40) == 0) {
    ++statistics_.full_disks;
    refused_ = std::exchange(submitted_, std::nullopt);
    return;
  }
  if (mutant_ == Mutant::commit_told_before_durable && chance(2) == 0) {
    // Told at once; written only if the flusher lives long enough.
    SimulatedSpool told = spool_;
    const SpoolResult result = told.apply(*submitted_);
    flusher_event([&] { engine_->on_committed(result, now_); });
    if (submitted_ && engine_ != nullptr && chance(4) != 0) spool_.apply(*std::exchange(submitted_, std::nullopt));
    submitted_.reset();
    return;
  }
  result_ = spool_.apply(*submitted_);
  statistics_.spills += submitted_->spilled.size();
  statistics_.recalls += submitted_->recalled.size();
  statistics_.folds += submitted_->open.size();
  captured_aside_.clear();
  committed_ = true;
}

void World::tell_spool() {
  if (refused_) {
    Transaction transaction = std::move(*std::exchange(refused_, std::nullopt));
    flusher_event([&] { engine_->on_spool_full(std::move(transaction), now_); });
  } else if (committed_) {
    committed_ = false;
    submitted_.reset();
    flusher_event([&] { engine_->on_committed(result_, now_); });
  }
}

void World::break_connection(std::uint32_t shard) {
  if (!shards_[shard].is_connected()) return;
  ++statistics_.breaks;
  if (mutant_ == Mutant::answers_of_former_connection) {
    while (auto answer = shards_[shard].receive()) former_answers_[shard].push_back(std::move(*answer));
  }
  shards_[shard].drop(random_);
  connecting_[shard] = false;
  if (chance(3) == 0) away_until_ms_[shard] = now_.ms + chance(400);
  if (!spoils_ && chance(3) == 0) {
    ++statistics_.losses;
    shards_[shard].lose_tail();
  }
  flusher_event([&] { engine_->on_broken(shard, "broken", now_); });
}

// ---- EnginePort

void World::submit(Transaction transaction) {
  captured_aside_.clear();
  for (const SetAside& aside : transaction.set_aside) {
    captured_aside_[aside.page.page] += aside.page.visits;
    const auto page = static_cast<std::size_t>(std::ranges::find(page_names_, aside.page.page) - page_names_.begin());
    // One that found the disk full comes again: the page may have been mended and spoiled anew since its batch.
    if (spoiled_[page] && transaction.number != captured_number_) aside_since_[page] = true;
  }
  captured_number_ = transaction.number;
  submitted_ = std::move(transaction);
}

void World::connect(std::uint32_t shard) {
  shards_[shard].connect();
  connecting_[shard] = true;
}

void World::close(std::uint32_t shard) {
  shards_[shard].drop(random_);
  connecting_[shard] = false;
}

void World::send(std::uint32_t shard, const ShardCommand& command) {
  const auto* const batch = std::get_if<SendBatch>(&command);
  if (mutant_ == Mutant::shard_applies_without_compare && batch != nullptr) {
    // The field agrees with whatever is expected.
    if (shards_[shard].mark(batch->batch->bucket) != batch->batch->expected) {
      shards_[shard].set_mark(batch->batch->bucket, batch->batch->expected);
    }
  }
  shards_[shard].send(command);
}

void World::shard_changed(std::uint32_t shard, ShardState state, const std::string& why) {
  if (state == ShardState::held && !harmed_) throw Broken(fmt::format("shard {} is held: {}", shard, why));
}

void World::shard_unfit(std::uint32_t shard, const std::string& why) {
  throw Broken(fmt::format("shard {} is unfit: {}", shard, why));
}

void World::wake_lanes(std::uint64_t) {}

// ---- the end

void World::check_end() const {
  for (std::size_t p = 0; p < pages; ++p) {
    const std::uint32_t bucket = page_bucket(page_names_[p], buckets);
    const std::uint64_t home = homes_[p];
    if (exchanged_[home]) continue;
    if (const std::uint64_t there = shards_[home].count(page_names_[p], bucket); there != recorded_[p] - aside(p))
      throw Broken(fmt::format("shard {} holds {} of {}, recorded were {}", shard_names[home], there, page_names_[p],
                               recorded_[p]));
  }
  for (std::size_t shard = 0; shard < shards_.size(); ++shard) {
    for (std::size_t p = 0; p < pages; ++p) {
      const std::uint32_t bucket = page_bucket(page_names_[p], buckets);
      const bool belongs = harm_ == Harm::swapped && harmed_ ? homes_[p] != shard : homes_[p] == shard;
      if ((!belongs || (exchanged_[shard] && harm_ != Harm::swapped)) && shards_[shard].holds(page_names_[p], bucket))
        throw Broken(
            fmt::format("{} was written into shard {}, which is not what it was", page_names_[p], shard_names[shard]));
    }
  }
}

}  // namespace visitd
