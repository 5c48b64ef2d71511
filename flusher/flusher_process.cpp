#include "flusher/flusher_process.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/counter/heartbeat.hpp"
#include "common/counter/lane_lease.hpp"
#include "common/counter/ring_registry.hpp"
#include "common/os/clock.hpp"
#include "common/os/doorbell.hpp"
#include "common/os/log.hpp"
#include "common/os/shell_word.hpp"
#include "common/os/text.hpp"
#include "common/shm/cache.hpp"
#include "flusher/cache_header.hpp"
#include "flusher/cache_source.hpp"
#include "flusher/cluster_watch.hpp"
#include "flusher/control.hpp"
#include "flusher/control_commands.hpp"
#include "flusher/copies_watch.hpp"
#include "flusher/counting/engine.hpp"
#include "flusher/counting/ring_handover.hpp"
#include "flusher/counting/shutdown.hpp"
#include "flusher/deployment_shards.hpp"
#include "flusher/engine_settings.hpp"
#include "flusher/now.hpp"
#include "flusher/owner_questions.hpp"
#include "flusher/ring_source.hpp"
#include "flusher/salt.hpp"
#include "flusher/shard_changes.hpp"
#include "flusher/shard_links.hpp"
#include "flusher/spool/spool_thread.hpp"

namespace visitd {

namespace {

// While visits come the lanes are looked at every millisecond; after a quiet while the doorbell wakes, and a look now
// and then.
constexpr std::uint64_t busy_interval_ms = 1;
constexpr std::uint64_t quiet_ms = 50;
constexpr std::uint64_t asleep_interval_ms = flusher_beat_ms;
// How long the loop may stay with the lanes before it looks at the sockets again.
constexpr std::uint64_t drain_budget_ns = 2'000'000;
constexpr std::uint64_t check_interval_ms = 1000;
// Each commit looks at the spool's file too: this is for a file that goes while nothing is counted.
constexpr std::uint64_t checks_a_spool_look = 4;
// What holds up moves for long is told again after so many.
constexpr std::uint64_t checks_a_told_hold_up = 60;
// So long the engine that is to take another layout waits for batches that are on their way to former shards.
constexpr std::uint64_t take_layout_limit_ms = 1000;
// So long a life that gives way to the next one waits for a last commit.
constexpr std::uint64_t last_commit_limit_ms = 1000;
// For the watchdog: a disk may be slow, but a commit that takes as long as this many of its limits is stuck.
constexpr std::uint64_t stuck_commit_limits = 3;

std::vector<std::string> random_identities(std::size_t count) {
  std::vector<std::string> identities;
  identities.reserve(count);
  for (std::size_t i = 0; i < count; ++i) identities.push_back(hex(random_id()));
  return identities;
}

class FlusherProcess : public EnginePort, public FlusherLoop::Events {
 public:
  FlusherProcess(LiveSettings& live, const RuntimeDirectory& directory, const FileLease& lease, Watchdog& watchdog,
                 Ring ring, Spool spool, SpoolState state, Learned& learned)
      : live_(live),
        settings_(live.get()),
        learned_(learned),
        directory_(directory),
        lease_(lease),
        watchdog_(watchdog),
        loop_(directory.flusher_bell()),
        ring_(std::move(ring)),
        lane_owners_(ring_, directory_),
        source_(directory_, cache_shape(), ring_) {
    const Settings& settings = settings_;
    const std::string writer = state.writer;
    const std::uint64_t started_ns = monotonic_ns();
    begin_cache_header(cache().header(), settings);
    say_where_lanes_start(state, ring_, cache().header());
    engine_.emplace(settings_of_engine(learned_.layout), counting_memory(), std::move(state), source_.take_shown(),
                    random_identities(settings.redis.shards.size()), *this);
    tell_placement(cache(), engine_->placement());
    source_.bring_into_use();
    engine_->free_space();
    log::info("shows {} pending pages of ring segment {} after {} ms", engine_->recovered_pages(), ring_.note().segment,
              (monotonic_ns() - started_ns) / 1'000'000);
    spool_.emplace(loop_.get(), std::move(spool),
                   [this](SpoolThread::Outcome outcome) { loop_.guarded([&] { on_spool(std::move(outcome)); }); });
    links_.emplace(loop_, *engine_, settings, writer);
    was_up_.resize(settings.redis.shards.size());
    for (std::uint32_t lane = 0; lane < ring_.shape().lanes; ++lane) lane_bells_.emplace_back();
    // The frontends face the internet: where they have a user of their own, it may not command us.
    const std::uint32_t frontends = ring_.segment().status().owner;
    changes_.emplace(loop_, *engine_, live_, writer);
    if (learned_.cluster) {
      watch_.emplace(
          loop_, *engine_, settings.redis,
          [this, place = *cluster_of(engine_->layout())] { return seeds_of(place, live_.named()); }, *learned_.cluster,
          writer, [this](ClusterMap map) { follow_cluster(std::move(map)); });
    }
    commands_.emplace(loop_, *engine_, *links_, *changes_, cache().header(), settings);
    questions_.emplace(ring_, cache(), *commands_, settings, [this](std::uint32_t lane) { ring_lane_bell(lane); });
    control_.emplace(loop_.get(), directory.control_socket(), *commands_, ControlLimits{},
                     frontends != geteuid() ? std::optional(frontends) : std::nullopt);
    last_visit_ms_ = monotonic_ms();
    next_check_ms_ = last_visit_ms_ + check_interval_ms;
    loop_.start(*this);
  }
  FlusherProcess(const FlusherProcess&) = delete;
  FlusherProcess& operator=(const FlusherProcess&) = delete;
  ~FlusherProcess() override = default;

  FlusherEnd run() {
    watchdog_.restore();
    loop_.run();
    cache().header().sleeping.word.store(0, std::memory_order_seq_cst);
    return loop_.outcome();
  }

 private:
  // ---- start

  /// `changed`: the layout, if the shards of the deployment have been changed; else nullopt.
  [[nodiscard]] EngineSettings settings_of_engine(std::optional<Layout> changed) const {
    EngineSettings settings = engine_settings(live_, ring_.shape().page_id_limit);
    settings.changed = std::move(changed);
    settings.cluster = learned_.cluster;
    return settings;
  }
  [[nodiscard]] CacheShape cache_shape() const noexcept {
    return {ring_.shape().lanes, settings_.cache.entries, settings_.redis.buckets, ring_.shape().page_id_limit};
  }
  [[nodiscard]] Cache& cache() noexcept { return source_.cache(); }

  CountingMemory counting_memory() {
    CountingMemory memory;
    memory.ring_id = ring_.id();
    memory.ring_segment = ring_.note().segment;
    memory.hash_seed = ring_.hash_seed();
    for (std::uint32_t n = 0; n < ring_.shape().lanes; ++n) {
      memory.lanes.push_back({&ring_.lane(n).tail.word, &ring_.lane(n).requests_tail.word, ring_.records(n),
                              ring_.requests(n), freed_of(ring_, n)});
    }
    memory.cache = &cache().header();
    memory.views = cache().views();
    return memory;
  }

  // ---- the loop's turns

  void on_turn() override {
    Word& sleeping = cache().header().sleeping.word;
    sleeping.store(0, std::memory_order_seq_cst);
    const std::uint64_t start_ns = monotonic_ns();
    Heartbeat::beat(cache().header().heartbeat_ns.word, start_ns);
    Now at = now();
    bool more = true;
    bool any = false;
    while (more && monotonic_ns() - start_ns < drain_budget_ns) {
      more = engine_->drain(at);
      any |= more;
    }
    at = now();
    for (const Drain::Damage& damage : engine_->take_damage()) {
      log::error("lane {}: a damaged record at position {}; {} bytes up to the lane's tail were skipped", damage.lane,
                 damage.position, damage.bytes);
    }
    if (take_layout_by_ms_) take_layout(at);
    if (next_life_ms_) return begin_next_life(at);
    engine_->tick(at);
    if (watch_) watch_->tick(at.ms);
    tell_uncountable_pages();
    questions_->look(at.ms);
    commands_->tell(at);
    // Within a turn, of which there are always some a second: a timer would wake a flusher that has nothing to do.
    if (at.ms >= next_check_ms_) {
      next_check_ms_ = at.ms + check_interval_ms;
      on_check();
      if (loop_.is_ending()) return;
    }
    if (any) last_visit_ms_ = at.ms;
    // A turn alone is no progress: the sockets were looked at since the last one, and what the spool's thread was given
    // gets done.
    if (loop_.take_looked_at_sockets() && spool_->busy_ms() < stuck_commit_limits * watchdog_.limit_ms()) {
      watchdog_.feed(at.ms);
    }
    if (shutdown_.is_asked()) stop(at);
    if (loop_.is_ending()) return;
    if (more) {
      loop_.turn_next();
    } else if (at.ms < last_visit_ms_ + quiet_ms || shutdown_.is_asked() || commands_->any_waits()) {
      loop_.turn_in(busy_interval_ms);
    } else {
      // Partner: a producer stores its tail, then looks whether we sleep.
      sleeping.store(1, std::memory_order_seq_cst);
      loop_.turn_in(engine_->is_idle() ? asleep_interval_ms : busy_interval_ms);
    }
  }

  void tell_uncountable_pages() {
    for (const UncountablePages::News& news : engine_->take_uncountable()) {
      const Engine::PageState state = engine_->page_state(news.page);
      const std::string& shard = settings_.redis.shards[state.shard].name;
      if (news.change == UncountablePages::Change::countable) {
        log::info("page {} of shard {} can be counted again", news.page, shard);
      } else {
        log::error(
            "page {} of shard {} cannot be counted: {}. Its readers are answered 503 count-damaged; mend its field in "
            "the hash visits:{{{}}} ({} page {} shows it)",
            news.page, shard, describe(news.change), state.bucket, live_.visitctl(), shell_word(news.page));
      }
    }
  }

  /// Between two turns: none sees some of the old settings and some of the new.
  void on_reload() override {
    if (shutdown_.is_asked()) return;
    notify_reloading();
    if (live_.read_again()) {
      // One that was learned may not be taken yet.
      const Layout& layout = engine_->layout();
      engine_->use(settings_of_engine(layout.version > 1 ? std::optional(layout) : std::nullopt), now());
      links_->use(settings_);
      cache().header().ttl_ms.store(settings_.cache.ttl_ms, std::memory_order_release);  // partner: Counts::follow_ttl
      loop_.turn_next();
    }
    notify_reloaded();
  }

  void on_check() {
    if (++checks_ % checks_a_spool_look == 0) spool_->look();
    if (shutdown_.is_asked()) return;
    tell_held_up_moves();
    // Spool, ring and shards are the truth: this life may end at any moment, and the next one goes on.
    if (const std::string why = copies_.look(monotonic_ms()); !why.empty()) {
      end_again(why);
    } else if (!lease_.still_named()) {
      end_again("the runtime directory was replaced");
    } else if (cache().segment().status().removed) {
      end_again(fmt::format("cache segment {} was removed", cache().note().segment));
    } else {
      look_at_ring();
    }
  }

  /// What lasts for a check alone is a server that was killed, or the like.
  void tell_held_up_moves() {
    const auto progress = engine_->move_progress();
    checks_of_held_up_moves_ = progress && !progress->problem.empty() ? checks_of_held_up_moves_ + 1 : 0;
    if (checks_of_held_up_moves_ % checks_a_told_hold_up == 2) {
      log::warning("buckets wait to move, held up by {} ({} shards moves says how far they are)", progress->problem,
                   live_.visitctl());
    }
  }

  void end_again(const std::string& why) {
    log::info("{}: starting over from the spool", why);
    loop_.end(FlusherEnd::again);
  }

  /// The answers that came since the last commit become durable first: counts of their pages go on being read from
  /// memory in the next life.
  void end_again_soon(const std::string& why) {
    if (next_life_ms_) return;
    log::info("{}: starting over from the spool", why);
    next_life_ms_ = monotonic_ms() + last_commit_limit_ms;
    loop_.turn_next();
  }

  /// What is submitted is durable before the spool is opened again.
  void begin_next_life(Now at) {
    if (engine_->commit_last(at) || at.ms >= *next_life_ms_) return loop_.end(FlusherEnd::again);
    loop_.turn_in(busy_interval_ms);
  }

  void look_at_ring() {
    const bool must_leave = RingRegistry(directory_).is_former(ring_);
    const RingHandover::Step step = handover_.look(must_leave, must_leave && lane_owners_.is_deserted());
    if (step == RingHandover::Step::stay) return;
    engine_->commit_soon();
    source_.tell_former_version(engine_->durable());
    if (step == RingHandover::Step::finish) engine_->finish_ring();
  }

  void on_spool(SpoolThread::Outcome outcome) {
    switch (outcome.kind) {
      case SpoolThread::Outcome::Kind::committed:
        if (spool_was_full_) log::info("the spool has room again");
        spool_was_full_ = false;
        log::debug("committed {} batches and {} answers in {:.1f} ms", outcome.transaction.sealed.size(),
                   outcome.transaction.answered.size(), static_cast<double>(outcome.took_ns) / 1e6);
        engine_->on_committed(outcome.result, now());
        if (handover_.committed(engine_->ring_is_finished()) == RingHandover::Step::end) {
          log::info("ring segment {} is drained", ring_.note().segment);
          // A stop that was asked for meanwhile is not forgotten: what is not sent yet waits in the spool.
          loop_.end(shutdown_.is_asked() ? FlusherEnd::stopped : FlusherEnd::again);
        }
        return;
      case SpoolThread::Outcome::Kind::full:
        if (!spool_was_full_)
          log::error("{}; visits wait in the lanes, and are refused once those are full", outcome.message);
        spool_was_full_ = true;
        engine_->on_spool_full(std::move(outcome.transaction), now());
        return;
      case SpoolThread::Outcome::Kind::failed:
        loop_.end_with(outcome.message);
        return;
    }
  }

  // ---- stop

  void on_stop() override {
    if (shutdown_.is_asked()) return;
    log::info("stopping: one last flush within {} ms", settings_.flusher.stop_flush_timeout_ms);
    notify_service_manager("STOPPING=1");
    shutdown_.ask(monotonic_ms(), settings_.flusher.stop_flush_timeout_ms);
    loop_.turn_next();
  }

  void stop(Now at) {
    const Shutdown::Progress progress{engine_->is_idle(), last_flush_ && engine_->flush_is_done(*last_flush_),
                                      engine_->is_durable()};
    switch (shutdown_.next(at.ms, progress)) {
      case Shutdown::Step::wait:
        return;
      case Shutdown::Step::begin_flush:
        last_flush_ = engine_->begin_flush(at);
        return;
      case Shutdown::Step::commit:
        return engine_->commit_soon();
      case Shutdown::Step::end_with_batches:
        log::warning("not all shards took their last batches: they wait in the spool");
        [[fallthrough]];
      case Shutdown::Step::end:
        return loop_.end(FlusherEnd::stopped);
    }
  }

  // ---- EnginePort

  void submit(Transaction transaction) override { spool_->submit(std::move(transaction)); }
  void connect(std::uint32_t shard) override { (*links_)[shard].connect(); }
  void close(std::uint32_t shard) override { (*links_)[shard].close(); }
  void send(std::uint32_t shard, const ShardCommand& command, Completion done) override {
    links_->send(shard, command, std::move(done));
  }

  void shard_changed(std::uint32_t shard, ShardState state, const std::string& why) override {
    const std::string& name = settings_.redis.shards[shard].name;
    if (state == ShardState::up) {
      was_up_[shard] = true;
      log::info("shard {} is up", name);
    } else {
      log::warning("shard {} is {}: {}", name, name_of(state), why);
    }
  }

  void shard_unfit(std::uint32_t shard, const std::string& why) override {
    // One that was fit when this flusher started is held instead, so that the others go on; and one of a cluster, which
    // may have become a primary a moment ago.
    if (!was_up_[shard] && !settings_.redis.shards[shard].in_cluster) loop_.end_with(why);
  }

  void shard_warned(std::uint32_t, const std::string& what) override { log::warning("{}", what); }

  void bucket_moved(std::uint32_t bucket, std::uint32_t shard) override {
    tell_moved(cache(), engine_->placement(), bucket, shard);
  }

  void layout_changed(const std::string& text) override {
    const auto layout = parse_layout(text);
    if (!layout) return loop_.end_with(fmt::format("the shards hold a layout that cannot be read: '{}'", text));
    if (learned_.layout && learned_.layout->version >= layout->version) return;
    learned_.layout = layout;
    take_layout_by_ms_ = monotonic_ms() + take_layout_limit_ms;
    loop_.turn_next();
  }

  /// Between two turns: what is told of the layout now is told from within no answer.
  void take_layout(Now at) {
    const Layout& layout = *learned_.layout;
    const LayoutStep step = engine_->look_at_layout(layout);
    if (step == LayoutStep::wait && at.ms < *take_layout_by_ms_) return loop_.turn_in(busy_interval_ms);
    take_layout_by_ms_.reset();
    const std::string what = fmt::format("the deployment's shards have changed (change {})", layout.version);
    if (step != LayoutStep::take) return end_again_soon(what);
    log::info("{}", what);
    use_shards_of(layout, std::nullopt, live_);
    const std::size_t known = was_up_.size();
    const std::size_t count = settings_.redis.shards.size();
    links_->set_shards(std::max(count, known));
    name_shards(cache().header(), settings_, known);
    was_up_.resize(count);
    engine_->take_layout(settings_of_engine(layout), at);
    links_->set_shards(count);
    tell_placement(cache(), engine_->placement());
  }

  void node_unknown(const std::string& node) override { watch_->look_for(node); }

  void follow_cluster(ClusterMap map) {
    const std::string nodes = fmt::format("{}", fmt::join(map.primaries(), ", "));
    learned_.cluster = std::move(map);
    end_again_soon(fmt::format("the primaries of the cluster are {}", nodes));
  }

  void corrected(const CorrectedPage& page) override {
    log::warning("page {} is corrected by {:+}{}, as {} said{}", page.page, page.difference,
                 page.count ? fmt::format(" to {}", *page.count) : "", page.by,
                 page.into.empty() ? "" : fmt::format("; what it lost goes to {}", page.into));
  }

  void given(const std::string& page, std::uint64_t visits) override {
    log::debug("page {} was given {} visits", page, visits);
  }

  void wake_lanes(std::uint64_t lanes) override {
    for (std::uint32_t lane = 0; lane < lane_bells_.size(); ++lane) {
      if ((lanes >> lane & 1U) != 0) ring_lane_bell(lane);
    }
  }

  void ring_lane_bell(std::uint32_t lane) {
    if (!lane_bells_[lane]) lane_bells_[lane] = Doorbell::open_existing(directory_.lane_bell(lane));
    lane_bells_[lane].ring();
  }

  LiveSettings& live_;
  const Settings& settings_;  ///< live_'s: its values change in on_reload()
  Learned& learned_;
  const RuntimeDirectory& directory_;
  const FileLease& lease_;
  Watchdog& watchdog_;
  FlusherLoop loop_;
  Ring ring_;
  LaneOwners lane_owners_;
  CacheSource source_;
  std::vector<Doorbell> lane_bells_;
  std::vector<bool> was_up_;
  std::optional<Engine> engine_;
  std::optional<SpoolThread> spool_;
  std::optional<ShardLinks> links_;
  std::optional<ClusterWatch> watch_;  ///< where there are nodes of a cluster
  std::optional<ShardChanges> changes_;
  std::optional<ControlCommands> commands_;
  std::optional<OwnerQuestions> questions_;
  std::optional<ControlServer> control_;
  CopiesWatch copies_;
  RingHandover handover_;
  Shutdown shutdown_;
  std::optional<std::uint64_t> last_flush_;  ///< of the shutdown
  std::uint64_t last_visit_ms_ = 0;
  std::uint64_t next_check_ms_ = 0;
  std::uint64_t checks_of_held_up_moves_ = 0;  ///< without a pause
  std::uint64_t checks_ = 0;
  std::optional<std::uint64_t> take_layout_by_ms_;  ///< the one that was learned; nullopt: none is to be taken
  std::optional<std::uint64_t> next_life_ms_;       ///< at the latest; nullopt: this one goes on
  bool spool_was_full_ = false;
};

}  // namespace

FlusherEnd run_flusher_life(LiveSettings& live, const RuntimeDirectory& directory, const FileLease& lease,
                            Watchdog& watchdog, Ring ring, Spool spool, SpoolState state, Learned& learned) {
  return FlusherProcess(live, directory, lease, watchdog, std::move(ring), std::move(spool), std::move(state), learned)
      .run();
}

}  // namespace visitd
