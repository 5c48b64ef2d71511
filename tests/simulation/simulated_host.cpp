#include "tests/simulation/simulated_host.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <ranges>
#include <utility>

#include "common/os/errors.hpp"
#include "tests/simulation/kill_step.hpp"

namespace visitd {

SimulatedHost::SimulatedHost(Stage& stage, std::size_t number, std::size_t hosts)
    : stage_(stage),
      number_(number),
      hosts_(hosts),
      shape_{lanes, cells, Stage::buckets, max_page_id_bytes},
      cache_memory_(shape_.bytes() / sizeof(Line) + 1),
      spool_(fmt::format("host-{}", number)),
      former_answers_(stage.shards.size()),
      connecting_(stage.shards.size()),
      accepted_(stage.shards.size()),
      away_until_ms_(stage.shards.size()) {
  make_lanes();
}

CountingMemory SimulatedHost::memory() {
  CountingMemory memory;
  memory.ring_id = ring_id();
  memory.ring_segment = 1;
  memory.hash_seed = Stage::hash_seed;
  memory.lanes.reserve(lanes);
  for (Lane& lane : lanes_)
    memory.lanes.push_back({&lane.tail.word, &lane.requests_tail.word, lane.records, lane.requests,
                            LaneProducer::known_freed(lane.freed.load(), lane.tail.word.load(), 8 * lane_words)});
  memory.cache = &cache();
  auto* const start = reinterpret_cast<std::byte*>(cache_memory_.data());
  memory.views = {ViewMemory{shape_, start + shape_.view_offset(0)}, ViewMemory{shape_, start + shape_.view_offset(1)}};
  return memory;
}

// ---- the frontends

void SimulatedHost::publish(std::size_t page, std::uint32_t visits) {
  if (!publishes_ || is_deserted()) return;
  const std::size_t n = chance(lanes);
  Lane& lane = lanes_[n];
  if (chance(50) == 0) {
    // The owner dies between two records; the next one appends.
    lane.producer = std::make_unique<LaneProducer>(lane.tail.word, lane.records, &cache().head[n].word, &lane.freed);
  }
  if (lane.producer->publish(RecordKind::visit, stage_.names[page], visits, 0, stage_.hashes[page]) == Published::full)
    return;
  recorded_[page] += visits;
  gained_[page] += visits;
  stage_.statistics.visits += visits;
}

void SimulatedHost::post_request(std::size_t page) {
  if (is_deserted()) return;
  static_cast<void>(
      lanes_[chance(lanes)].asker->publish(RecordKind::request, stage_.names[page], 0, 0, stage_.hashes[page]));
}

void SimulatedHost::leave_ring_and_cache() {
  const auto read_all = [&] {
    for (std::size_t reader = 0; reader < readers(); ++reader) {
      for (std::size_t page = 0; page < Stage::pages; ++page) read(page, reader);
    }
  };
  read_all();
  if (chance(2) == 0) {
    // Another ring is there: its visits are in no lane of this one.
    superseded_.store(1, std::memory_order_release);
    for (std::uint64_t& recorded : recorded_) ++recorded;
    read_all();
    return;
  }
  // This cache is retired. The next one frees space in the lanes that this one still shows as taken, and producers
  // write over it.
  cache().retired.word.store(1, std::memory_order_release);
  LonelyWord head;
  for (Lane& lane : lanes_) {
    head.word.store(lane.tail.word.load(std::memory_order_relaxed), std::memory_order_relaxed);
    LaneProducer producer(lane.tail.word, lane.records, &head.word);
    for (std::size_t visit = 0; visit < lane_words / 4; ++visit) {
      const std::size_t page = chance(Stage::pages);
      if (producer.publish(RecordKind::visit, stage_.names[page], 1, 0, stage_.hashes[page]) != Published::full)
        ++recorded_[page];
      head.word.store(lane.tail.word.load(std::memory_order_relaxed), std::memory_order_relaxed);
      read(page, chance(readers()));
    }
  }
}

// ---- the flusher

void SimulatedHost::flusher_event(const std::function<void()>& event) {
  if (engine_ == nullptr) return;
  try {
    event();
    if (std::exchange(must_end_, false)) return end_flusher();
    follow_layout();
  } catch (const Killed&) {
    ++stage_.statistics.kills_in_changes;
    kill_flusher();
  }
}

void SimulatedHost::trust_confirmations(EngineSettings& settings) {
  settings.batches.keep_batches_s = 0;
  settings.wait_replicas = 1;
  settings.wait_aof = true;
}

EngineSettings SimulatedHost::settings() {
  EngineSettings settings = Stage::settings(1 + chance(3));
  settings.memory_limit_bytes -= 800 * chance(2);  // the room for a page less
  if (stage_.harm == Harm::failover || stage_.harm == Harm::moving) trust_confirmations(settings);
  // Where copies share an incarnation, only what each draws for a batch tells them apart.
  if (stage_.harm == Harm::copied_alive) settings.salt = [this] { return stage_.random(); };
  return settings;
}

SpoolState SimulatedHost::load_spool() {
  if (std::exchange(in_same_life_, false)) return spool_.load_in_same_life();
  return spool_.load(stage_.mutant == Mutant::copies_share_incarnations ? 7919 : stage_.random());
}

void SimulatedHost::start_flusher() {
  if (engine_ != nullptr || (stage_.now.ms < off_until_ms_ && !stage_.calm)) return;
  ++life_;
  if (spool_.is_finished(ring_id())) take_next_ring();
  const CountingMemory seen = memory();
  SpoolState state = load_spool();
  state.loaded_at = stage_.now.unix;
  ShownUntilNow shown = cache().active.word.load() != 0 ? shown_until_now() : shown_of_former_;
  if (stage_.mutant == Mutant::kept_batches_lost) state.kept.clear();
  if (stage_.mutant == Mutant::bases_carried_blindly) {
    for (CarriedEntry& entry : shown.entries) {
      const auto mark = std::ranges::find(state.marks, entry.bucket, &BucketMark::bucket);
      entry.answered = mark == state.marks.end() ? 0 : mark->seq;
    }
  }
  try {
    EngineSettings with = settings();
    take_layout(state, with);
    number_servers(with);
    std::vector<std::string> identities;
    for (const std::uint32_t server : servers_)
      identities.push_back(fmt::format("identity-{}-{}", number_, server + 1));
    engine_ = std::make_unique<Engine>(with, seen, std::move(state), std::move(shown), std::move(identities), *this);
    shown_of_former_ = {};
    for (std::size_t page = 0; page < Stage::pages; ++page) {
      gained_[page] += durably_given_[page];
      recorded_[page] += std::exchange(durably_given_[page], 0);
    }
    engine_->free_space();
    ask_again();
    if (std::exchange(must_refuse_, false)) throw Broken("a spool that is older than its ring is taken");
  } catch (const Killed&) {
    ++stage_.statistics.kills_in_changes;
    kill_flusher();
  } catch (const Error& refused) {
    if (!std::exchange(must_refuse_, false)) throw Broken(fmt::format("a start is refused: {}", refused.what()));
    ++stage_.statistics.refused_spools;
    renew_spool();
  }
}

void SimulatedHost::kill_flusher() {
  ++stage_.statistics.kills;
  next_layout_.reset();
  next_cluster_.reset();
  must_end_ = false;
  end_flusher();
}

void SimulatedHost::end_flusher() {
  const std::uint64_t evicted = statistic(FlusherStatistic::entries_evicted);
  evicted_before_ += evicted;
  stage_.statistics.evictions += evicted;
  stage_.statistics.duplicates += statistic(FlusherStatistic::batches_duplicate);
  stage_.statistics.sent_again += statistic(FlusherStatistic::batches_sent_again);
  for (Word& statistic : cache().statistics) statistic.store(0, std::memory_order_relaxed);
  engine_.reset();
  handover_ = {};
  shutdown_ = {};
  last_flush_.reset();
  for (SimulatedShard& shard : stage_.shards) shard.drop(number_, stage_.random);
  std::ranges::fill(former_answers_, std::deque<SimulatedShard::Received>{});
  connecting_.assign(stage_.shards.size(), false);
  // What the spool's thread had begun is in the file or not, whole.
  if (submitted_ && !committed_ && stage_.mutant != Mutant::commit_told_before_durable && chance(2) == 0) {
    spool_.apply(*submitted_);
    note_durable(*submitted_);
  }
  for (auto& [key, undurable] : undurable_) undurable.in_doubt = true;
  captured_aside_.clear();
  captured_number_ = 0;
  submitted_.reset();
  refused_.reset();
  committed_ = false;
}

void SimulatedHost::renew_spool() {
  spool_ = SimulatedSpool(fmt::format("host-{}-{}", number_, ++spools_));
}

void SimulatedHost::forget_cache() {
  for (Lane& lane : lanes_) lane.producer->look_at_head();  // the last heartbeat
  for (LonelyWord& head : cache().head) head.word.store(0);
  cache().active.word.store(0);
  shown_of_former_ = {};
}

ShownUntilNow SimulatedHost::shown_until_now() {
  ShownUntilNow shown{ring_id(), {}, {}};
  for (std::uint32_t lane = 0; lane < lanes; ++lane) shown.heads.push_back(cache().head[lane].word.load());
  const std::uint64_t active = cache().active.word.load();
  if (active != 0) shown.entries = carried_entries(memory().views[active & 1U], Stage::buckets);
  return shown;
}

/// At a moment when all that the spool held is in the shards too: then it costs no visit, and what was durable must not
/// be counted again. With it, at times, the cache goes.
bool SimulatedHost::wipe() {
  // The heads may have gone with the cache just before.
  const auto has_head = [&](std::uint32_t n) {
    return lanes_[n].tail.word.load() - cache().head[n].word.load() <= 8 * lane_words;
  };
  if (!std::ranges::all_of(std::views::iota(0U, lanes), has_head) || !all_in_shards()) return false;
  ++stage_.statistics.wiped_spools;
  renew_spool();
  for (SimulatedShard& shard : stage_.shards) shard.sync();  // nobody keeps what it would lose
  if (chance(2) != 0) return true;
  ++stage_.statistics.wiped_caches;
  forget_cache();
  return true;
}

bool SimulatedHost::restore() {
  if (!copy_ || !all_in_shards()) return false;
  ++stage_.statistics.restored_spools;
  spool_ = *std::exchange(copy_, std::nullopt);
  for (SimulatedShard& shard : stage_.shards) shard.sync();
  if (chance(2) == 0) {
    forget_cache();
    return true;
  }
  for (std::uint32_t n = 0; n < lanes; ++n) {
    must_refuse_ =
        must_refuse_ || (spool_.knows_ring(ring_id()) && spool_.position(ring_id(), n) < cache().head[n].word.load());
  }
  return true;
}

void SimulatedHost::go_on_as(const SimulatedHost& other, bool alive) {
  ++stage_.statistics.copied_spools;
  spool_ = other.spool_;
  in_same_life_ = alive;
}

void SimulatedHost::flusher_turn() {
  flusher_event([&] {
    static_cast<void>(engine_->drain(stage_.now));
    if (chance(4) == 0) engine_->tick(stage_.now);
    check_moves();
    if (chance(100) == 0) engine_->commit_soon();
    if (shutdown_.is_asked()) return go_on_stopping();
    if (must_leave_ && chance(4) == 0) look_at_ring();
  });
}

void SimulatedHost::run_spool() {
  if (!submitted_ || committed_) return;
  if (!stage_.calm && stage_.now.ms < disk_slow_until_ms_) return;
  if (!stage_.calm && chance(40) == 0) {
    ++stage_.statistics.full_disks;
    refused_ = std::exchange(submitted_, std::nullopt);
    return;
  }
  if (stage_.mutant == Mutant::commit_told_before_durable && chance(2) == 0) {
    // Told at once; written only if the flusher lives long enough.
    SimulatedSpool told = spool_;
    const SpoolResult result = told.apply(*submitted_);
    flusher_event([&] { engine_->on_committed(result, stage_.now); });
    if (submitted_ && engine_ != nullptr && chance(4) != 0) spool_.apply(*std::exchange(submitted_, std::nullopt));
    submitted_.reset();
    return;
  }
  result_ = spool_.apply(*submitted_);
  note_durable(*submitted_);
  stage_.statistics.spills += submitted_->spilled.size();
  stage_.statistics.recalls += submitted_->recalled.size();
  stage_.statistics.folds += submitted_->open.size();
  captured_aside_.clear();
  committed_ = true;
}

void SimulatedHost::tell_spool() {
  if (refused_) {
    Transaction transaction = std::move(*std::exchange(refused_, std::nullopt));
    flusher_event([&] { engine_->on_spool_full(std::move(transaction), stage_.now); });
  } else if (committed_) {
    committed_ = false;
    submitted_.reset();
    flusher_event([&] {
      engine_->on_committed(result_, stage_.now);
      look_at_end_of_ring();
    });
  }
}

// ---- EnginePort

void SimulatedHost::submit(Transaction transaction) {
  captured_aside_.clear();
  for (const SetAside& aside : transaction.set_aside) {
    captured_aside_[aside.effect.series] += aside.effect.operand;
    const std::size_t page = stage_.page_of(aside.effect.series);
    // A transaction that found the disk full is captured once and submitted again. The page may have been mended and
    // spoiled again in between.
    if (stage_.spoiled[page] && transaction.number != captured_number_) aside_since_[page] = true;
  }
  captured_number_ = transaction.number;
  submitted_ = std::move(transaction);
}

void SimulatedHost::connect(std::uint32_t shard) {
  stage_.shards[server_of(shard)].connect(number_);
  connecting_[server_of(shard)] = true;
}

void SimulatedHost::close(std::uint32_t shard) {
  for (const Completion& lost : stage_.shards[server_of(shard)].drop(number_, stage_.random)) lost(Lost{});
  connecting_[server_of(shard)] = false;
}

void SimulatedHost::send(std::uint32_t shard, const ShardCommand& command, Completion done) {
  SimulatedShard& server = stage_.shards[server_of(shard)];
  check_on_their_way(server_of(shard), command);
  const auto* const batch = std::get_if<SendBatch>(&command);
  if (batch != nullptr && is_rejoin(*batch->batch)) note_rejoin(*batch->batch);
  if (stage_.mutant == Mutant::shard_applies_without_compare && batch != nullptr) {
    // The field agrees with whatever is expected.
    const std::uint32_t bucket = batch->batch->bucket;
    if (server.mark(bucket, spool_.writer()) != batch->batch->expected)
      server.set_mark(bucket, spool_.writer(), batch->batch->expected);
  }
  if (const auto* asked = std::get_if<AskMarks>(&command)) done = noting_tombstones(asked->buckets, std::move(done));
  server.send(number_, spool_.writer(), command, std::move(done), stage_.now.ms);
}

/// However slow the answers are, what is asked does not pile up.
void SimulatedHost::check_on_their_way(std::uint32_t shard, const ShardCommand& command) const {
  if (std::holds_alternative<AskMarks>(command) || std::holds_alternative<MakeTopology>(command) ||
      std::holds_alternative<MoveBucket>(command) || std::holds_alternative<AskPages>(command) ||
      std::holds_alternative<AskSums>(command)) {
    return;
  }
  // Who corrects a page reads it too.
  if (stage_.corrects && std::holds_alternative<AskCount>(command)) return;
  // Somebody may say it twice.
  const auto* const note = std::get_if<NoteWriter>(&command);
  if (std::holds_alternative<ForgetWriter>(command) ||
      (note != nullptr && note->fields.size() == 1 && note->fields.front().first.ends_with(":forgotten")))
    return;
  if (stage_.shards[shard].on_their_way(number_, command) == 0) return;
  constexpr const char* what[] = {"what the server is",
                                  "",
                                  "",
                                  "a batch of the bucket",
                                  "a read of the page",
                                  "",
                                  "who moves buckets",
                                  "what it has synced",
                                  "to note the writer",
                                  "who the writers are",
                                  "",
                                  "",
                                  "whether its replica follows"};
  throw Broken(fmt::format("host {}: shard {} is asked again while it has not answered: {}", number_,
                           Stage::shard_names()[shard], what[command.index()]));
}

void SimulatedHost::shard_changed(std::uint32_t shard, ShardState state, const std::string& why) {
  if (state == ShardState::up && accepted_[server_of(shard)]) ++went_on_;
  if (state == ShardState::held) accepted_[server_of(shard)] = false;
  if (state == ShardState::held && !stage_.may_hold)
    throw Broken(fmt::format("host {}: shard {} is held: {}", number_, Stage::shard_names()[server_of(shard)], why));
}

void SimulatedHost::shard_unfit(std::uint32_t shard, const std::string& why) {
  throw Broken(fmt::format("host {}: shard {} is unfit: {}", number_, Stage::shard_names()[server_of(shard)], why));
}

}  // namespace visitd
