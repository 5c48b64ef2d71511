#include "flusher/flusher_process.hpp"

#include <fmt/ranges.h>
#include <pthread.h>

#include <algorithm>
#include <csignal>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/counter/heartbeat.hpp"
#include "common/counter/lane_lease.hpp"
#include "common/counter/ring_registry.hpp"
#include "common/os/clock.hpp"
#include "common/os/doorbell.hpp"
#include "common/os/errors.hpp"
#include "common/os/file_lease.hpp"
#include "common/os/held_locks.hpp"
#include "common/os/invariant.hpp"
#include "common/os/log.hpp"
#include "common/os/other_owner.hpp"
#include "common/os/runtime_directory.hpp"
#include "common/os/service_manager.hpp"
#include "common/os/shell_word.hpp"
#include "common/os/uv_handles.hpp"
#include "common/shm/cache.hpp"
#include "common/shm/shared_text.hpp"
#include "flusher/cache_source.hpp"
#include "flusher/control.hpp"
#include "flusher/counting/engine.hpp"
#include "flusher/host_identity.hpp"
#include "flusher/redis/shard_connection.hpp"
#include "flusher/ring_source.hpp"
#include "flusher/salt.hpp"
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
// A ring is looked for more often while frontends are likely to be just starting, too: their first reads wait for it.
constexpr long first_ring_wait_ns = 10'000'000;
constexpr std::uint64_t first_ring_waits = 500;
constexpr long ring_wait_ns = 50'000'000;
// For the last commits of a stopping flusher; what is later is in the ring or comes again from the shards.
constexpr std::uint64_t stop_commit_ms = 5000;
// For the watchdog: a disk may be slow, but a commit that takes as long as this many of its limits is stuck; and
// building the view of what the spool holds takes seconds for millions of pages.
constexpr std::uint64_t stuck_commit_limits = 3;
constexpr std::uint64_t recovery_ms = 600'000;

// A wall clock that goes by so much at once was set. (It is slewed by less, and read in whole seconds.)
constexpr std::int64_t wall_clock_jump_s = 5;
constexpr std::uint64_t clock_life_interval_ms = 60'000;

/// Of this process, over all its lives.
const EvenUnixTime& even_time() {
  static const EvenUnixTime time;
  return time;
}

Now now() {
  return {monotonic_ms(), even_time().seconds()};
}

/// host:port, or the path of a Unix socket, and the database where it is not the first.
std::string address_text(const ShardSettings& shard) {
  const std::string server = shard.unix_path.empty() ? fmt::format("{}:{}", shard.host, shard.port) : shard.unix_path;
  return shard.database == 0 ? server : fmt::format("{}, database {}", server, shard.database);
}

EngineSettings engine_settings(const LiveSettings& live, std::uint32_t page_id_limit) {
  const Settings& settings = live.get();
  EngineSettings engine;
  for (const ShardSettings& shard : settings.shards) {
    engine.shards.push_back(shard.name);
    engine.servers.push_back({address_text(shard), shard.database});
  }
  engine.visitctl = live.visitctl();
  engine.virtual_nodes = settings.virtual_nodes;
  engine.buckets = settings.buckets;
  engine.page_id_limit = page_id_limit;
  engine.memory_limit_bytes = settings.memory_limit_bytes;
  engine.journal_limit_bytes = settings.journal_limit_bytes;
  engine.flush_interval_ms = settings.flush_interval_ms;
  engine.commit_interval_ms = settings.commit_interval_ms;
  engine.batches = {settings.batch_pages, settings.keep_batches_s, settings.keep_batches_bytes, settings.ttl_ms};
  engine.batches_in_flight = settings.batches_in_flight;
  engine.reconnect_ms = settings.reconnect_interval_ms;
  engine.held_recheck_ms = settings.held_recheck_ms;
  engine.check_ms = settings.check_interval_ms;
  engine.accept_eviction = settings.accept_eviction;
  engine.accept_no_append_only = settings.accept_no_append_only;
  engine.salt = draw_salt;
  return engine;
}

SpoolLayout layout_of(const Settings& settings) {
  SpoolLayout layout{settings.buckets, settings.virtual_nodes, {}};
  for (const ShardSettings& shard : settings.shards) layout.shards.push_back(shard.name);
  std::ranges::sort(layout.shards);
  return layout;
}

std::vector<std::string> random_identities(std::size_t count) {
  std::vector<std::string> identities;
  identities.reserve(count);
  for (std::size_t i = 0; i < count; ++i) identities.push_back(fmt::format("{:016x}", random_id()));
  return identities;
}

/// Says in the log where the spool came from another machine.
void say_where_spool_was(Spool& spool) {
  const std::string machine = host_identity().machine;
  if (machine.empty()) return;
  const std::string former = spool.note_machine(machine);
  if (former.empty() || former == machine) return;
  log::warning(
      "this spool was last used on the machine {}, and this is {} (/etc/machine-id). If it was moved here, all is "
      "well. "
      "If it was copied and the other one still counts, both write under one name, which the shards refuse: stop this "
      "flusher and start it once with --renew-spool",
      former, machine);
}

FileLease take_flusher_lease(const RuntimeDirectory& directory) {
  directory.ensure();
  auto lease = FileLease::try_take(directory.flusher_lock());
  if (!lease) {
    throw error("another flusher runs: the lock {} is held by {}; stop that one first", directory.flusher_lock(),
                lock_holder(directory.flusher_lock()));
  }
  return std::move(*lease);
}

/// Blocks the signals that end a flusher while there is no loop yet to take them.
class BlockedSignals {
 public:
  BlockedSignals() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGTERM);
    sigaddset(&signals_, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals_, &former_);
  }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;
  ~BlockedSignals() { pthread_sigmask(SIG_SETMASK, &former_, nullptr); }

  /// Whether one came within the time.
  [[nodiscard]] bool wait(long nanoseconds) const noexcept {
    const timespec timeout{0, nanoseconds};
    return sigtimedwait(&signals_, nullptr, &timeout) > 0;
  }

 private:
  sigset_t signals_{};
  sigset_t former_{};
};

/// The ring to drain; nullopt: a signal came first. Takes rings off the spool's notes that no longer exist.
std::optional<Ring> wait_for_ring(const RuntimeDirectory& directory, Spool& spool, const SpoolState& state,
                                  FileLease& lease, Watchdog& watchdog) {
  const BlockedSignals signals;
  std::uint64_t waits = 0;
  for (bool told = false;; ++waits) {
    std::vector<RingNote> gone;
    auto ring = find_ring(directory, state, gone);
    if (ring) {
      for (RingNote note : gone) {
        log::warning("ring segment {} no longer exists; what had been taken from it is in the spool", note.segment);
        note.finished = true;
        Transaction finished;
        finished.ring = std::move(note);
        spool.apply(finished);
      }
      return ring;
    }
    if (!told) log::info("waiting for the first frontend to make a ring");
    told = true;
    watchdog.feed(monotonic_ms());
    if (signals.wait(waits < first_ring_waits ? first_ring_wait_ns : ring_wait_ns)) return std::nullopt;
    if (!lease.still_named()) {
      directory.ensure();
      lease = take_flusher_lease(directory);
    }
  }
}

class FlusherProcess : public EnginePort, public ControlHandler {
 public:
  FlusherProcess(LiveSettings& live, const RuntimeDirectory& directory, FileLease& lease, Watchdog& watchdog, Ring ring,
                 Spool spool, SpoolState state)
      : live_(live),
        settings_(live.get()),
        directory_(directory),
        lease_(lease),
        watchdog_(watchdog),
        ring_(std::move(ring)),
        lane_owners_(ring_, directory_),
        source_(directory_, cache_shape(), ring_),
        bell_(Doorbell::open(directory.flusher_bell())) {
    const Settings& settings = settings_;
    const std::string writer = state.writer;
    const std::uint64_t started_ns = monotonic_ns();
    fill_header();
    say_where_lanes_start(state, ring_, cache().header());
    engine_.emplace(engine_settings(live_, ring_.shape().page_id_limit), counting_memory(), std::move(state),
                    source_.take_carried(), random_identities(settings.shards.size()), *this);
    place_buckets_in_header();
    source_.use();
    engine_->free_space();
    log::info("shows {} pending pages of ring segment {} after {} ms", engine_->recovered_pages(), ring_.note().segment,
              (monotonic_ns() - started_ns) / 1'000'000);
    spool_.emplace(loop_.get(), std::move(spool),
                   [this](SpoolThread::Outcome outcome) { guarded([&] { on_spool(std::move(outcome)); }); });
    for (std::uint32_t shard = 0; shard < settings.shards.size(); ++shard) {
      listeners_.push_back(std::make_unique<Listener>(*this, shard));
      connections_.push_back(std::make_unique<ShardConnection>(loop_.get(), settings.shards[shard], writer,
                                                               settings.redis_timeout_ms, *listeners_.back()));
    }
    was_up_.resize(settings.shards.size());
    for (std::uint32_t lane = 0; lane < ring_.shape().lanes; ++lane) lane_bells_.emplace_back();
    // The frontends face the internet: where they have a user of their own, it may not command us.
    const std::uint32_t frontends = ring_.segment().status().owner;
    control_.emplace(loop_.get(), directory.control_socket(), *this, ControlLimits{},
                     frontends != geteuid() ? std::optional(frontends) : std::nullopt);
    start_handles();
    release_reload_signal();
  }
  FlusherProcess(const FlusherProcess&) = delete;
  FlusherProcess& operator=(const FlusherProcess&) = delete;
  ~FlusherProcess() override {
    // Until the next life has its own handle.
    hold_reload_signal();
  }

  FlusherEnd run() {
    watchdog_.restore();
    uv_run(loop_.get(), UV_RUN_DEFAULT);
    cache().header().sleeping.word.store(0, std::memory_order_seq_cst);
    if (!fatal_.empty()) throw Error(fatal_);
    return end_;
  }

 private:
  class Listener : public ShardConnection::Listener {
   public:
    Listener(FlusherProcess& process, std::uint32_t shard) : process_(process), shard_(shard) {}
    void on_connected() override {
      process_.guarded([&] { process_.engine_->on_connected(shard_); });
    }
    void on_answer(ShardAnswer answer) override {
      process_.guarded([&] { process_.engine_->on_answer(shard_, std::move(answer), now()); });
    }
    void on_broken(const std::string& why) override {
      process_.guarded([&] { process_.engine_->on_broken(shard_, why, now()); });
      process_.turn_next();  // one that had lasted is tried again at once, also while nothing else wakes the loop
    }
    void on_turned_away(const std::string& why) override {
      process_.guarded([&] { process_.engine_->on_turned_away(shard_, why, now()); });
    }
    void on_fault(const std::string& what) noexcept override { process_.end_with(what); }

   private:
    FlusherProcess& process_;
    std::uint32_t shard_;
  };

  struct WaitingFlush {
    std::vector<std::uint64_t> tails;    ///< what is in the lanes up to here is flushed too
    std::optional<std::uint64_t> flush;  ///< begun once the lanes are applied up to there
    std::uint64_t deadline_ms = 0;
    std::uint64_t visits = 0;
    std::uint64_t pages_set_aside = 0;  ///< by then
    ControlReply reply;
  };

  // ---- start

  [[nodiscard]] CacheShape cache_shape() const noexcept {
    return {ring_.shape().lanes, settings_.cache_entries, settings_.buckets, ring_.shape().page_id_limit};
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

  void fill_header() {
    CacheHeader& header = cache().header();
    for (std::uint32_t shard = 0; shard < settings_.shards.size(); ++shard) {
      store_text(at_index(header.shard, shard).name, settings_.shards[shard].name);
      set_shard_state(at_index(header.shard, shard), ShardState::connecting, "");
    }
    for (Word& statistic : header.statistics) statistic.store(0, std::memory_order_relaxed);
    header.shards.store(settings_.shards.size(), std::memory_order_release);
    header.ttl_ms.store(settings_.ttl_ms, std::memory_order_release);
    header.flusher.store(static_cast<std::uint64_t>(getpid()), std::memory_order_release);
    header.sleeping.word.store(0, std::memory_order_seq_cst);
    Heartbeat::beat(header.heartbeat_ns.word, monotonic_ns());
  }

  void place_buckets_in_header() {
    std::vector<std::uint64_t> counts(settings_.shards.size());
    for (std::uint32_t bucket = 0; bucket < settings_.buckets; ++bucket) {
      const std::uint32_t shard = engine_->placement()[bucket];
      cache().shard_of_bucket(bucket).store(shard, std::memory_order_release);
      ++counts[shard];
    }
    for (std::size_t shard = 0; shard < counts.size(); ++shard) {
      at_index(cache().header().shard, shard).buckets.store(counts[shard], std::memory_order_release);
    }
  }

  template <typename Handle>
  static FlusherProcess& of(Handle* handle) noexcept {
    return *static_cast<FlusherProcess*>(handle->data);
  }

  void start_handles() {
    timer_ = make_timer(loop_.get(), this);
    more_work_ = make_idle(loop_.get(), this);
    sockets_looked_at_ = make_check(loop_.get(), this);
    bell_poll_ = make_poll(loop_.get(), bell_.fd(), this);
    terminate_ = make_signal(loop_.get(), this);
    interrupt_ = make_signal(loop_.get(), this);
    hangup_ = make_signal(loop_.get(), this);
    check_uv(uv_poll_start(bell_poll_.get(), UV_READABLE,
                           [](uv_poll_t* poll, int, int) {
                             of(poll).bell_.hush();
                             of(poll).guarded([poll] { of(poll).on_turn(); });
                           }),
             "cannot poll the doorbell");
    for (const auto& [signal, number] : {std::pair{terminate_.get(), SIGTERM}, {interrupt_.get(), SIGINT}}) {
      check_uv(
          uv_signal_start(
              signal, [](uv_signal_t* handle, int) { of(handle).guarded([handle] { of(handle).stop(); }); }, number),
          "cannot wait for signals");
    }
    check_uv(uv_signal_start(
                 hangup_.get(), [](uv_signal_t* handle, int) { of(handle).guarded([handle] { of(handle).reload(); }); },
                 SIGHUP),
             "cannot wait for signals");
    // libuv calls it after each look at the sockets.
    check_uv(uv_check_start(sockets_looked_at_.get(), [](uv_check_t* check) { of(check).looked_at_sockets_ = true; }),
             "cannot follow the loop");
    last_visit_ms_ = monotonic_ms();
    next_check_ms_ = last_visit_ms_ + check_interval_ms;
    turn_next();
  }

  // ---- the loop's turns

  /// `ms`: at least 1. A timer of 0 that starts itself again would be run by libuv before 1.45 until it is not due any
  /// more, and no socket looked at meanwhile.
  void turn_in(std::uint64_t ms) {
    uv_idle_stop(more_work_.get());
    uv_timer_start(timer_.get(), [](uv_timer_t* timer) { of(timer).guarded([timer] { of(timer).on_turn(); }); }, ms, 0);
  }

  /// A turn in each round of the loop, which looks at all sockets in between.
  void turn_next() {
    uv_timer_stop(timer_.get());
    uv_idle_start(more_work_.get(), [](uv_idle_t* idle) { of(idle).guarded([idle] { of(idle).on_turn(); }); });
  }

  /// What C libraries call goes through here: nothing is thrown through them. A failure that this flusher cannot go on
  /// from ends its life; the next one recovers.
  template <typename Event>
  void guarded(Event event) noexcept {
    try {
      event();
    } catch (const std::exception& failure) {
      end_with(failure.what());
    }
  }

  void end_with(const std::string& fatal) noexcept {
    fatal_ = fatal;
    uv_stop(loop_.get());
  }

  void on_turn() {
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
    engine_->tick(at);
    tell_uncountable_pages();
    tell_flushes(at);
    // Within a turn, of which there are always some a second: a timer would wake a flusher that has nothing to do.
    if (at.ms >= next_check_ms_) {
      next_check_ms_ = at.ms + check_interval_ms;
      on_check();
      if (ending_) return;
    }
    if (any) last_visit_ms_ = at.ms;
    // A turn alone is no progress: the sockets were looked at since the last one, and what the spool's thread was given
    // gets done.
    if (std::exchange(looked_at_sockets_, false) && spool_->busy_ms() < stuck_commit_limits * watchdog_.limit_ms()) {
      watchdog_.feed(at.ms);
    }
    if (stopping_ && finish_stop(at)) return;
    if (more) {
      turn_next();
    } else if (at.ms < last_visit_ms_ + quiet_ms || stopping_ || !flushes_.empty()) {
      turn_in(busy_interval_ms);
    } else {
      // Partner: a producer stores its tail, then looks whether we sleep.
      sleeping.store(1, std::memory_order_seq_cst);
      turn_in(engine_->is_idle() ? asleep_interval_ms : busy_interval_ms);
    }
  }

  /// Between two turns: none sees some of the old settings and some of the new.
  void reload() {
    if (stopping_) return;
    notify_reloading();
    if (live_.read_again()) {
      engine_->use(engine_settings(live_, ring_.shape().page_id_limit), now());
      for (const auto& connection : connections_) connection->set_timeout(settings_.redis_timeout_ms);
      cache().header().ttl_ms.store(settings_.ttl_ms, std::memory_order_release);  // partner: Counts::follow_ttl
      turn_next();
    }
    notify_reloaded();
  }

  /// A copy of this running process may live elsewhere: a new life has a mark of its own, so that what either counts is
  /// told apart.
  void watch_for_copies() {
    const std::int64_t jump_s = watch_wall_clock();
    const std::uint64_t now_ms = monotonic_ms();
    if (const std::string changed = difference(host_, host_identity()); !changed.empty()) {
      end_again(fmt::format("{} changed under this flusher, as where a copy of a running machine or container goes on",
                            changed));
    } else if (jump_s >= wall_clock_jump_s && now_ms >= next_clock_life_ms()) {
      next_clock_life_ms() = now_ms + clock_life_interval_ms;
      end_again("the wall clock went forward, as where a machine is resumed that may have been copied meanwhile");
    }
  }

  /// Of the process: a clock that jumps all the time does not end every life.
  static std::uint64_t& next_clock_life_ms() {
    static std::uint64_t next = 0;
    return next;
  }

  /// By how much it was set since the last look, in seconds; 0: by less than is said.
  std::int64_t watch_wall_clock() {
    const std::int64_t ahead_s = even_time().wall_ahead_s();
    const std::int64_t jump_s = ahead_s - wall_ahead_s_;
    wall_ahead_s_ = ahead_s;
    if (jump_s > -wall_clock_jump_s && jump_s < wall_clock_jump_s) return 0;
    log::warning(
        "the wall clock went {} by {} s: nothing that is counted or kept goes by it, only times that people read; "
        "where nobody set it and the machine did not sleep, look at its time service (timedatectl)",
        jump_s > 0 ? "forward" : "back", jump_s > 0 ? jump_s : -jump_s);
    return jump_s;
  }

  void on_check() {
    spool_->look();
    if (stopping_) return;
    watch_for_copies();
    if (ending_) return;
    // Spool, ring and shards are the truth: this life may end at any moment, and the next one goes on.
    if (!lease_.still_named()) {
      end_again("the runtime directory was replaced");
    } else if (cache().segment().status().removed) {
      end_again(fmt::format("cache segment {} was removed", cache().note().segment));
    } else if (RingRegistry(directory_).is_former(ring_)) {
      leave_ring();
    }
  }

  /// Nothing is done after it.
  void end_loop(FlusherEnd end) {
    end_ = end;
    ending_ = true;
    uv_stop(loop_.get());
  }

  void end_again(const std::string& why) {
    log::info("{}: starting over from the spool", why);
    end_loop(FlusherEnd::again);
  }

  void leave_ring() {
    engine_->commit_soon();
    source_.tell_former_version(engine_->durable());
    // In this order: nobody can add to the ring, then all that is in it is durable.
    if (lane_owners_.is_deserted()) engine_->finish_ring();
  }

  void on_spool(SpoolThread::Outcome outcome) {
    switch (outcome.kind) {
      case SpoolThread::Outcome::Kind::committed:
        if (spool_was_full_) log::info("the spool has room again");
        spool_was_full_ = false;
        log::debug("committed {} batches and {} answers in {:.1f} ms", outcome.transaction.sealed.size(),
                   outcome.transaction.answered.size(), static_cast<double>(outcome.took_ns) / 1e6);
        engine_->on_committed(outcome.result, now());
        if (engine_->ring_is_finished()) {
          log::info("ring segment {} is drained", ring_.note().segment);
          // A stop that was asked for meanwhile is not forgotten: what is not sent yet waits in the spool.
          end_loop(stopping_ ? FlusherEnd::stopped : FlusherEnd::again);
        }
        return;
      case SpoolThread::Outcome::Kind::full:
        if (!spool_was_full_)
          log::error("{}; visits wait in the lanes, and are refused once those are full", outcome.message);
        spool_was_full_ = true;
        engine_->on_spool_full(std::move(outcome.transaction), now());
        return;
      case SpoolThread::Outcome::Kind::failed:
        end_with(outcome.message);
        return;
    }
  }

  // ---- stop

  void stop() {
    if (stopping_) return;
    log::info("stopping: one last flush within {} ms", settings_.stop_flush_timeout_ms);
    notify_service_manager("STOPPING=1");
    stopping_ = true;
    stop_flush_deadline_ms_ = monotonic_ms() + settings_.stop_flush_timeout_ms;
    turn_next();
  }

  /// True: the loop ends now.
  bool finish_stop(Now at) {
    if (!stop_flush_) {
      if (!engine_->is_idle() && at.ms < stop_flush_deadline_ms_) return false;
      stop_flush_ = engine_->begin_flush(at);
      return false;
    }
    const bool done = engine_->flush_is_done(*stop_flush_);
    if (!done && at.ms < stop_flush_deadline_ms_) return false;
    engine_->commit_soon();
    if (!engine_->is_durable() && at.ms < stop_flush_deadline_ms_ + stop_commit_ms) return false;
    if (!done) log::warning("not all shards took their last batches: they wait in the spool");
    end_ = FlusherEnd::stopped;
    uv_stop(loop_.get());
    return true;
  }

  // ---- EnginePort

  void submit(Transaction transaction) override { spool_->submit(std::move(transaction)); }
  void connect(std::uint32_t shard) override { connections_[shard]->connect(); }
  void close(std::uint32_t shard) override { connections_[shard]->close(); }
  void send(std::uint32_t shard, const ShardCommand& command) override { connections_[shard]->send(command); }

  void shard_changed(std::uint32_t shard, ShardState state, const std::string& why) override {
    const std::string& name = settings_.shards[shard].name;
    if (state == ShardState::up) {
      was_up_[shard] = true;
      log::info("shard {} is up", name);
    } else {
      log::warning("shard {} is {}: {}", name, name_of(state), why);
    }
  }

  void shard_unfit(std::uint32_t shard, const std::string& why) override {
    // One that was fit when this flusher started is held instead, so that the others go on.
    if (!was_up_[shard]) end_with(why);
  }

  void shard_warned(std::uint32_t, const std::string& what) override { log::warning("{}", what); }

  void wake_lanes(std::uint64_t lanes) override {
    for (std::uint32_t lane = 0; lane < lane_bells_.size(); ++lane) {
      if ((lanes >> lane & 1U) == 0) continue;
      if (!lane_bells_[lane]) lane_bells_[lane] = Doorbell::open_existing(directory_.lane_bell(lane));
      lane_bells_[lane].ring();
    }
  }

  // ---- ControlHandler

  void on_fault(const std::string& what) noexcept override { end_with(what); }

  void handle(const ControlRequest& request, ControlReply reply) override {
    if (request.command == "flush") {
      log::debug("asked to flush");
      flushes_.push_back(
          {engine_->tails(), {}, monotonic_ms() + request.timeout_ms, 0, pages_set_aside(), std::move(reply)});
      turn_next();
    } else if (request.command == "accept") {
      accept(request, reply);
    } else if (request.command == "page") {
      inspect_page(request.argument, std::move(reply));
    } else {
      reply({false, fmt::format("this flusher knows no command {}", request.command), {}, {}});
    }
  }

  /// Without the token of what was offered it only says what would be given up.
  void accept(const ControlRequest& request, const ControlReply& reply) {
    const AcceptOffer offer = engine_->offer(request.argument);
    ControlAnswer answer{true, "", {{"shard", request.argument}, {"token", fmt::format("{:016x}", offer.token)}}, {}};
    answer.numbers = {{"buckets", offer.buckets},
                      {"pages", offer.pages},
                      {"visits", offer.visits},
                      {"kept_visits", offer.kept_visits}};
    if (request.token) {
      engine_->accept(request.argument, *request.token, now());
      log::warning("shard {} is accepted as it is: the operator said so", request.argument);
      turn_next();
    }
    reply(std::move(answer));
  }

  void inspect_page(const std::string& page, ControlReply reply) {
    const Engine::PageState state = engine_->page_state(page);
    ControlAnswer answer{true, "", {}, {}};
    answer.text = {{"shard", settings_.shards[state.shard].name}, {"known_field", state.field}};
    answer.numbers = {{"bucket", state.bucket}, {"open", state.open}, {"inflight", state.inflight}};
    if (state.set_aside != 0) answer.numbers.emplace_back("set_aside", state.set_aside);
    if (!state.fault.empty()) answer.text.emplace_back("damaged", state.fault);
    if (state.spilled) {
      answer.text.emplace_back("spilled", "open visits of its bucket, maybe of this page, wait in the spool alone");
    }
    engine_->inspect(page, [answer = std::move(answer), reply = std::move(reply)](std::optional<Count> count) mutable {
      if (count && count->readable) {
        answer.numbers.emplace_back("count", count->count);
        answer.text.emplace_back("field", count->field);
      } else {
        answer.text.emplace_back("unreadable", count ? std::string(describe(UncountablePages::Change::unreadable))
                                                     : std::string("the shard cannot be asked now"));
      }
      reply(std::move(answer));
    });
  }

  /// Visits that are applied and that Redis has not acknowledged.
  [[nodiscard]] std::uint64_t pending_visits() noexcept {
    return FlusherStatistics(cache().header().statistics).get(FlusherStatistic::pending_visits);
  }

  [[nodiscard]] std::uint64_t pages_set_aside() noexcept {
    return FlusherStatistics(cache().header().statistics).get(FlusherStatistic::pages_set_aside);
  }

  /// The first pages that cannot be counted, for people.
  [[nodiscard]] std::string uncountable_names() const {
    constexpr std::size_t shown = 10;
    std::vector<std::string> pages = engine_->uncountable_pages(shown + 1);
    if (pages.size() > shown) pages.back() = "and others";
    return fmt::format("{}", fmt::join(pages, ", "));
  }

  void tell_uncountable_pages() {
    for (const UncountablePages::News& news : engine_->take_uncountable()) {
      const Engine::PageState state = engine_->page_state(news.page);
      const std::string& shard = settings_.shards[state.shard].name;
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

  void tell_flushes(Now at) {
    std::erase_if(flushes_, [&](WaitingFlush& waiting) {
      if (!waiting.flush && engine_->has_applied(waiting.tails)) {
        waiting.visits = pending_visits();
        waiting.flush = engine_->begin_flush(at);
      }
      if (waiting.flush && engine_->flush_is_done(*waiting.flush)) {
        log::debug("flushed {} visits", waiting.visits);
        ControlAnswer answer{true, "", {}, {{"visits", waiting.visits}}};
        if (const std::uint64_t aside = pages_set_aside() - waiting.pages_set_aside; aside != 0) {
          answer.numbers.emplace_back("pages_set_aside", aside);
          answer.text.emplace_back("set_aside", uncountable_names());
        }
        waiting.reply(std::move(answer));
        return true;
      }
      if (at.ms < waiting.deadline_ms) return false;
      std::string away;
      for (std::uint32_t shard = 0; shard < settings_.shards.size(); ++shard) {
        if (engine_->shard_state(shard) == ShardState::up) continue;
        away += fmt::format(" shard {} is {};", settings_.shards[shard].name, name_of(engine_->shard_state(shard)));
      }
      waiting.reply({false,
                     "the flush was not answered in full in time:" + (away.empty() ? " the shards are slow" : away),
                     {},
                     {}});
      return true;
    });
  }

  LiveSettings& live_;
  const Settings& settings_;  ///< live_'s: its values change in reload()
  const RuntimeDirectory& directory_;
  FileLease& lease_;
  Watchdog& watchdog_;
  UvLoop loop_;
  Ring ring_;
  LaneOwners lane_owners_;
  CacheSource source_;
  Doorbell bell_;
  std::vector<Doorbell> lane_bells_;
  std::vector<bool> was_up_;
  std::optional<Engine> engine_;
  std::optional<SpoolThread> spool_;
  std::vector<std::unique_ptr<Listener>> listeners_;
  std::vector<std::unique_ptr<ShardConnection>> connections_;
  std::optional<ControlServer> control_;
  UvHandle<uv_timer_t> timer_;
  UvHandle<uv_idle_t> more_work_;
  UvHandle<uv_check_t> sockets_looked_at_;
  UvHandle<uv_poll_t> bell_poll_;
  UvHandle<uv_signal_t> terminate_;
  UvHandle<uv_signal_t> interrupt_;
  UvHandle<uv_signal_t> hangup_;

  std::vector<WaitingFlush> flushes_;
  bool looked_at_sockets_ = false;  ///< since the watchdog was fed
  std::uint64_t last_visit_ms_ = 0;
  bool spool_was_full_ = false;
  std::int64_t wall_ahead_s_ = even_time().wall_ahead_s();
  HostIdentity host_ = host_identity();
  bool ending_ = false;
  std::uint64_t next_check_ms_ = 0;
  bool stopping_ = false;
  std::uint64_t stop_flush_deadline_ms_ = 0;
  std::optional<std::uint64_t> stop_flush_;
  std::string fatal_;
  FlusherEnd end_ = FlusherEnd::stopped;
};

}  // namespace

void set_spool_aside(const Settings& settings) {
  refuse_root_where_another_owns(settings.state_directory);
  const FileLease lease = take_flusher_lease(RuntimeDirectory(settings.runtime_directory));
  const SpoolAside aside = Spool::set_aside_file(settings.state_directory, settings.buckets);
  const auto number = [](const auto& known) {
    return known ? fmt::format("{}", *known) : std::string("an unknown number of");
  };
  log::warning("the spool was set aside as {}: {} open visits and {} unanswered batches in it are not counted again",
               aside.path, number(aside.open_visits), number(aside.unanswered_batches));
}

FlusherEnd run_flusher(LiveSettings& live) {
  const Settings& settings = live.get();
  refuse_root_where_another_owns(settings.state_directory);
  const RuntimeDirectory directory(settings.runtime_directory);
  FileLease lease = take_flusher_lease(directory);
  Spool spool(settings.state_directory, layout_of(settings));
  say_where_spool_was(spool);
  SpoolState state = spool.load();
  state.loaded_at = now().unix;
  if (state.created)
    log::info("made a new spool in {}; counting starts at what the lanes hold", settings.state_directory);
  Watchdog watchdog;
  // What follows needs the frontends, whose start may be ordered after ours.
  notify_service_manager("READY=1");
  auto ring = wait_for_ring(directory, spool, state, lease, watchdog);
  if (!ring) return FlusherEnd::stopped;
  watchdog.allow(recovery_ms);
  return FlusherProcess(live, directory, lease, watchdog, std::move(*ring), std::move(spool), std::move(state)).run();
}

}  // namespace visitd
