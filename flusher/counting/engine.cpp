#include "flusher/counting/engine.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "common/os/errors.hpp"
#include "common/os/invariant.hpp"
#include "common/shm/page_id.hpp"
#include "flusher/counting/engine_shards.hpp"

namespace visitd {

namespace {

constexpr std::uint64_t spool_retry_ms = 1000;
// Of a series in an unanswered batch: its place in the table of series, the batch, and its copies for spool and shard.
constexpr std::uint64_t series_in_flight_bytes = 400;
// Rests of large buckets are sealed together, so that a flush of many costs few transactions.
constexpr std::uint64_t seal_gap_ms = 50;

std::vector<std::uint64_t> heads_of(const CountingMemory& memory) {
  std::vector<std::uint64_t> heads;
  heads.reserve(memory.lanes.size());
  for (std::size_t lane = 0; lane < memory.lanes.size(); ++lane) {
    heads.push_back(at_index(memory.cache->head, lane).word.load(std::memory_order_relaxed));
  }
  return heads;
}

std::vector<std::uint64_t> freed_of(const CountingMemory& memory) {
  std::vector<std::uint64_t> freed;
  freed.reserve(memory.lanes.size());
  for (const LaneMemory& lane : memory.lanes) freed.push_back(lane.freed);
  return freed;
}

FlusherView cleared_view(const CountingMemory& memory, std::span<const std::uint64_t> positions) {
  const std::uint64_t active = memory.cache->active.word.load(std::memory_order_relaxed);
  FlusherView view(memory.views[(active + 1) & 1U]);
  view.clear(positions);
  return view;
}

}  // namespace

Layout layout_of(const EngineSettings& settings) {
  if (settings.changed) return *settings.changed;
  if (settings.cluster) return layout_in_cluster(settings.buckets, settings.virtual_nodes);
  Layout layout{1, settings.buckets, settings.virtual_nodes, {}, {}};
  for (const std::string& name : settings.shards) layout.shards.push_back({name});
  return layout;
}

Layout layout_in_cluster(std::uint32_t buckets, std::uint32_t virtual_nodes) {
  return {1, buckets, virtual_nodes, {{cluster_name, "cluster://"}}, {}};
}

bool is_node(const EngineSettings& settings, std::uint32_t shard) {
  return settings.cluster && shard + settings.cluster->primaries().size() >= settings.shards.size();
}

const std::string& place_name(const EngineSettings& settings, std::uint32_t shard) {
  return is_node(settings, shard) ? cluster_name : settings.shards[shard];
}

/// What the spool notes in the place of a shard of this name; empty: nothing.
static std::string noted_of(const SpoolState& spool, std::string_view shard) {
  const auto row = std::ranges::find(spool.identities, shard, &ShardIdentity::shard);
  return row == spool.identities.end() ? std::string() : row->identity;
}

std::optional<Layout> known_layout(const SpoolState& spool) {
  return parse_layout(noted_of(spool, layout_row));
}

/// A cluster that the layout names is noted with its map: a spool may know that of another one.
std::string name_in_note(const ShardPlace& cluster) {
  return cluster.url.ends_with("//") ? std::string() : cluster.url + " ";
}

std::optional<ClusterMap> known_cluster(const SpoolState& spool, const ShardPlace& cluster) {
  const std::string noted = noted_of(spool, cluster_row);
  const std::string name = name_in_note(cluster);
  if (noted.empty() || !noted.starts_with(name)) return std::nullopt;
  return parse_cluster_map(std::string_view(noted).substr(name.size()));
}

/// The deployment's identity, as the spool knows it; empty: it knows none.
static std::string known_identity(const SpoolState& spool) {
  return deployment_identity(noted_of(spool, deployment_row));
}

/// Three quarters of the memory are for open visits. So a shard that goes away with all that is on its way to it leaves
/// the others their room.
static std::uint64_t open_limit(const EngineSettings& settings) {
  return settings.memory_limit_bytes / 4 * 3;
}

/// The last quarter is for what is on its way to all shards.
static BatchLimits batch_limits(const EngineSettings& settings) {
  BatchLimits limits = settings.batches;
  limits.series_in_flight =
      std::clamp<std::uint64_t>(settings.memory_limit_bytes / 4 / series_in_flight_bytes / settings.shards.size(), 1,
                                settings.batches.series_in_flight);
  return limits;
}

Engine::Engine(const EngineSettings& settings, const CountingMemory& memory, SpoolState spool, ShownUntilNow shown,
               std::vector<std::string> new_identities, EnginePort& port)
    : settings_(settings),
      memory_(memory),
      port_(port),
      statistics_(memory.cache->statistics),
      layout_(layout_of(settings)),
      placement_(place_buckets(layout_, settings.cluster)),
      view_(cleared_view(memory, positions_of(spool, memory.ring_id, heads_of(memory), freed_of(memory)))),
      open_({open_limit(settings), settings.journal_limit_bytes}, placement_, pending_, statistics_),
      batches_(batch_limits(settings), spool.incarnation, placement_, view_, pending_, open_, statistics_),
      drain_(memory, view_, pending_,
             {settings.buckets, settings.page_id_limit, memory.hash_seed, open_limit(settings)}, statistics_,
             [this](std::uint32_t page) { open_.series_opened(page); }),
      lookups_(memory, settings.buckets, settings.batches.ttl_ms, view_, pending_, statistics_,
               [this](std::uint32_t page) { return ask_shard(page); }),
      deployment_(settings.shards, settings.buckets, known_identity(spool)),
      writers_({spool.writer, settings.host, settings.version, spool.incarnation.number}, batches_, placement_),
      scanner_(std::make_unique<Scanner>(*this)),
      askable_(settings.shards.size(), settings.scan_pages_per_s, *scanner_),
      scan_({placement_, pending_, open_, batches_, lookups_.uncountable(), memory.hash_seed}, askable_, *scanner_),
      sums_({placement_, pending_, open_, batches_, lookups_.uncountable(), memory.hash_seed}, askable_, *scanner_),
      flushes_(settings.shards.size(), settings.flush_interval_ms, spool.writer) {
  batches_.use_salt(settings.salt);
  corrector_ = std::make_unique<Corrector>(*this);
  corrections_ = std::make_unique<Corrections>(batches_, *corrector_, settings.batches.batch_pages);
  batches_.use_corrections(*corrections_, memory.hash_seed);
  corrections_->recover(spool);
  recover_pending(spool, memory.hash_seed, settings.buckets, pending_, open_, batches_);
  recovered_pages_ = pending_.with_visits();
  for (const SetAside& aside : spool.set_aside)
    lookups_.uncountable().recover(aside.effect.series, aside.effect.operand);
  statistics_.set(FlusherStatistic::pending_visits, pending_.visits());
  recover_entries(spool, entries_known_to(spool, std::move(shown)), memory.hash_seed, view_, pending_, open_, batches_,
                  lookups_);

  for (std::uint32_t shard = 0; shard < settings.shards.size(); ++shard) {
    sessions_.push_back(
        std::make_unique<Session>(*this, shard, noted_of(spool, place_name(settings, shard)), new_identities[shard]));
    writers_.add_shard(settings.shards[shard], sessions_.back()->session, is_node(shard));
  }
  if (layout_.is_moving()) mover_ = std::make_unique<Mover>(*this, spool.writer);
  if (layout_.version > 1) batches_.note_identity({layout_row, to_text(layout_)});
  if (settings.cluster) {
    note_cluster();
    may_follow_ms_.resize(settings.buckets);
  }
  // Not what the lanes' owners say: a head that the spool does not know would have the next start take it for an old
  // copy, if this one ends before it has committed anything.
  durable_ = positions_of(spool, memory.ring_id, heads_of(memory));
  // Shown with one store; only then may space be freed. Partner: the readers' R1.
  memory_.cache->active.word.store(memory_.cache->active.word.load(std::memory_order_relaxed) + 1,
                                   std::memory_order_release);
}

Engine::~Engine() = default;

void Engine::use(const EngineSettings& settings, Now now) {
  settings_ = settings;
  flushes_.use(settings.flush_interval_ms, now.ms);
  batches_.use(batch_limits(settings));
  open_.use({open_limit(settings), settings.journal_limit_bytes});
  drain_.use(open_limit(settings));
  lookups_.use(settings.batches.ttl_ms);
  askable_.use(settings.scan_pages_per_s);
  for (std::uint32_t shard = 0; shard < sessions_.size(); ++shard) {
    sessions_[shard]->session.use(session_settings(settings, shard));
  }
}

/// What is spilled of a page is not known here: its bucket comes first. While the shard cannot be asked anyway, it
/// stays where it is.
Lookups::Asked Engine::ask_shard(std::uint32_t number) {
  asked_ms_ = now_ms_;
  const SeriesVisits& page = pending_[number];
  Session& session = *sessions_[placement_.shard_of(page.bucket)];
  const ShardState state = session.session.state();
  if (session.session.is_arriving(page.bucket)) {
    return session.session.is_up() ? Lookups::Asked::later : Lookups::Asked::no;
  }
  if (open_.is_in_memory(page.bucket)) {
    return session.session.look_up(number, page.bucket, std::string(page.name())) ? Lookups::Asked::yes
                                                                                  : Lookups::Asked::no;
  }
  if (state != ShardState::up && state != ShardState::refuses_writes) return Lookups::Asked::no;
  open_.want_for_read(page.bucket);
  return Lookups::Asked::later;
}

/// As the lanes have it; and a transaction has room for them.
bool Engine::Corrector::has_room() const {
  return engine_.pending_.open_bytes() < open_limit(engine_.settings_) && !engine_.pending_.unspooled_is_full();
}

bool Engine::drain(Now now) {
  const bool applied = drain_.run();
  const bool asked = lookups_.run(now.ms);
  wake();
  return applied || asked;
}

void Engine::tick(Now now) {
  now_ms_ = now.ms;
  for (const auto& session : sessions_) session->session.tick(now.ms);
  std::erase_if(former_movers_, [](const auto& former) { return former->mover.is_answered(); });
  // A map that the cluster has not confirmed would send buckets to nodes that do not serve them.
  if (mover_ != nullptr && (!settings_.cluster || cluster_is_known_)) mover_->mover.tick(now.ms);
  writers_.tick(now.ms);
  corrections_->tick(now.ms);
  // Before a transaction, which may spill a bucket that came with the last one.
  if (std::exchange(ask_waiting_, false)) lookups_.ask_waiting();
  if (!scan_.is_idle()) scan_.tick(now.ms);
  if (!sums_.is_idle()) sums_.tick(now.ms);
  wake();
  flush_when_due(now);
  tell_flushed(now);
  if (to_retry_ && now.ms >= retry_at_ms_) port_.submit(*std::exchange(to_retry_, std::nullopt));
  if (committing_) return;
  if (finishing_ == Finishing::wanted && is_durable()) {
    submit_finished_ring(now);
    return;
  }
  // Somebody waits for a correction, which takes two seals: of the visits before it, and of itself.
  if (batches_.wants_seal() && (now.ms >= last_seal_ms_ + seal_gap_ms || corrections_->waits_for_seal())) {
    last_seal_ms_ = now.ms;
    submit(true, now);
    return;
  }
  // Or for its answer, which is told once it is durable.
  if (batches_.has_corrected() && corrections_->waits_for_seal()) commit_soon_ = true;
  const bool news = pending_.has_unspooled() || batches_.has_news() || positions_moved();
  const std::uint64_t quarter = memory_.lanes.front().records.size_bytes() / 4;
  if ((news && (commit_soon_ || now.ms >= last_commit_ms_ + settings_.commit_interval_ms ||
                pending_.unspooled_is_full() || drain_.deepest(durable_) > quarter)) ||
      open_.wants_transaction()) {
    submit(false, now);
  }
}

void Engine::flush_when_due(Now now) {
  // Early, when the pending pages come near the limit of memory: answers make room.
  const bool crowded = pending_.open_bytes() > open_limit(settings_) / 4 * 3;
  for (std::uint32_t shard = 0; shard < sessions_.size(); ++shard) {
    if (!flushes_.begins(shard, now.ms, shard_state(shard) == ShardState::up, crowded)) continue;
    note_begin(batches_.begin_flush(shard), now);
    seal_at_once(now);
  }
}

void Engine::tell_flushed(Now now) {
  for (std::uint32_t shard = 0; shard < sessions_.size(); ++shard) {
    if (flushes_.is_running(shard) && batches_.is_flushed(shard)) {
      flushes_.flushed(shard);
      writers_.note(shard, now.unix);
    }
    at_index(memory_.cache->shard, shard).unanswered.store(batches_.unanswered_on(shard), std::memory_order_relaxed);
  }
  if (!flushes_.take_flush_of_all()) return;
  lookups_.ask_uncountable();
  statistics_.add(FlusherStatistic::flushes);
  statistics_.set(FlusherStatistic::last_flush_ns, now.ms * 1'000'000);
}

void Engine::seal_at_once(Now now) noexcept {
  last_seal_ms_ = now.ms < seal_gap_ms ? 0 : now.ms - seal_gap_ms;
}

void Engine::submit(bool seal, Now now) {
  commit_soon_ = false;
  last_commit_ms_ = now.ms;
  const RingNote ring{memory_.ring_id, memory_.ring_segment, false, drain_.positions()};
  committing_ = true;
  committing_positions_ = ring.positions;
  Transaction transaction = batches_.capture(seal, ring, now.unix);
  note_set_aside(transaction.set_aside);
  port_.submit(std::move(transaction));
}

bool Engine::commit_last(Now now) {
  if (committing_) return false;
  if (pending_.has_unspooled() || batches_.has_news() || positions_moved()) submit(false, now);
  return true;
}

void Engine::note_set_aside(const std::vector<SetAside>& pages) {
  for (const SetAside& aside : pages) lookups_.uncountable().set_aside(aside.effect.series, aside.effect.operand);
}

void Engine::submit_finished_ring(Now now) {
  finishing_ = Finishing::submitted;
  last_commit_ms_ = now.ms;
  Transaction finished;
  finished.ring = RingNote{memory_.ring_id, memory_.ring_segment, true, drain_.positions()};
  committing_ = true;
  committing_positions_ = drain_.positions();
  port_.submit(std::move(finished));
}

void Engine::on_committed(const SpoolResult& result, Now now) {
  durable_ = std::move(committing_positions_);
  committing_ = false;
  lookups_.uncountable().aside_is_durable();
  store_heads();
  statistics_.add(FlusherStatistic::commits);
  statistics_.set(FlusherStatistic::last_commit_ns, now.ms * 1'000'000);
  if (finishing_ == Finishing::submitted) {
    finishing_ = Finishing::done;
    return;
  }
  batches_.show_corrections();
  const auto recalled = open_.committed(result, [this](std::string_view page) {
    return pending_.find_or_insert(page, memory_.hash_seed, settings_.buckets);
  });
  for (const std::uint32_t bucket : batches_.committed())
    sessions_[placement_.shard_of(bucket)]->session.batch_ready(bucket);
  for (const std::uint32_t bucket : recalled) batches_.recalled(bucket);
  ask_waiting_ = ask_waiting_ || !recalled.empty();
}

void Engine::on_spool_full(Transaction transaction, Now now) {
  to_retry_ = std::move(transaction);
  statistics_.add(FlusherStatistic::commit_failures);
  retry_at_ms_ = now.ms + spool_retry_ms;
}

void Engine::store_heads() {
  for (std::size_t lane = 0; lane < durable_.size(); ++lane) {
    Word& head = at_index(memory_.cache->head, lane).word;
    must_hold(head.load(std::memory_order_relaxed) <= durable_[lane] && durable_[lane] <= drain_.positions()[lane],
              "a head never goes back, and never past what is applied");
    head.store(durable_[lane],
               std::memory_order_release);  // partner: LaneProducer::look_at_head
  }
}

void Engine::on_connected(std::uint32_t shard) {
  sessions_[shard]->session.on_connected();
}

void Engine::on_answer(std::uint32_t shard, const Completion& done, ShardAnswer answer, Now now) {
  sessions_[shard]->session.on_answer(done, std::move(answer), now.ms, now.unix);
  wake();
}

void Engine::on_broken(std::uint32_t shard, const std::string& why, Now now) {
  sessions_[shard]->session.on_broken(why, now.ms);
  wake();
}

void Engine::on_turned_away(std::uint32_t shard, const std::string& why, Now now) {
  sessions_[shard]->session.on_turned_away(why, now.ms);
  wake();
}

void Engine::wake() {
  if (const std::uint64_t lanes = lookups_.take_lanes_to_wake(); lanes != 0) port_.wake_lanes(lanes);
}

std::uint64_t Engine::begin_flush(Now now) {
  flushes_.begin_all();
  seal_at_once(now);
  const std::uint64_t flush = batches_.begin_flush();
  note_begin(flush, now);
  return flush;
}

void Engine::note_begin(std::uint64_t flush, Now now) {
  std::uint64_t oldest = flush;
  for (std::uint32_t shard = 0; shard < sessions_.size(); ++shard) {
    oldest = std::min(oldest, batches_.oldest_flush(shard).value_or(flush));
  }
  flushes_.note_begin(flush, oldest, now.ms);
}

bool Engine::positions_moved() const noexcept {
  return durable_ != drain_.positions();
}

bool Engine::lanes_are_durable() const noexcept {
  return drain_.is_empty() && !positions_moved() && !committing_;
}

bool Engine::is_durable() const noexcept {
  return lanes_are_durable() && !pending_.has_unspooled() && !batches_.has_news();
}

}  // namespace visitd
