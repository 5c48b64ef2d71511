#include "flusher/flusher_start.hpp"

#include <fmt/format.h>
#include <pthread.h>

#include <csignal>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/os/errors.hpp"
#include "common/os/file_lease.hpp"
#include "common/os/held_locks.hpp"
#include "common/os/log.hpp"
#include "common/os/other_owner.hpp"
#include "common/os/runtime_directory.hpp"
#include "common/os/service_manager.hpp"
#include "flusher/deployment_shards.hpp"
#include "flusher/engine_settings.hpp"
#include "flusher/flusher_process.hpp"
#include "flusher/host_identity.hpp"
#include "flusher/now.hpp"
#include "flusher/ring_source.hpp"

namespace visitd {

namespace {

// A ring is looked for more often while frontends are likely to be just starting, too: their first reads wait for it.
constexpr long first_ring_wait_ns = 10'000'000;
constexpr std::uint64_t first_ring_waits = 500;
constexpr long ring_wait_ns = 50'000'000;
// For the watchdog: building the view of what the spool holds takes seconds for millions of pages.
constexpr std::uint64_t recovery_ms = 600'000;

/// Says in the log where the spool came from another machine.
void say_where_spool_was(Spool& spool) {
  const std::string machine = host_identity().machine;
  if (machine.empty()) return;
  const std::string former = spool.note_machine(machine);
  if (former.empty() || former == machine) return;
  log::warning(
      "this spool was last used on the machine {}, and this is {} (/etc/machine-id). If it was moved here, all is "
      "well. If it was copied and the other one still counts, both write under one name, which the shards refuse: "
      "stop this flusher and start it once with --renew-spool",
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

/// The primaries that a former life, or the spool, knows; they are asked who they are now.
void take_cluster(const LiveSettings& live, const SpoolState& state, const Layout& layout, Learned& learned) {
  const ShardPlace* const cluster = cluster_of(layout);
  const std::string url = cluster == nullptr ? std::string() : cluster->url;
  if (std::exchange(learned.cluster_url, url) != url) learned.cluster.reset();
  if (cluster == nullptr) return;
  if (!learned.cluster) learned.cluster = known_cluster(state, *cluster);
  if (!learned.cluster || learned.cluster->slots.empty()) {
    learned.cluster = first_guess(seeds_of(*cluster, live.named()));
  }
}

/// The latest layout that the spool or a former life knows: its shards are in use instead of those of the settings.
void take_layout(LiveSettings& live, const SpoolState& state, Learned& learned) {
  const RedisSettings& redis = live.get().redis;
  const std::optional<Layout> known = known_layout(state);
  if (known && (!learned.layout || learned.layout->version < known->version)) learned.layout = known;
  if (!learned.layout && redis.mode != RedisMode::cluster) return;
  const Layout layout = learned.layout ? *learned.layout : layout_in_cluster(redis.buckets, redis.virtual_nodes);
  take_cluster(live, state, layout, learned);
  use_shards_of(layout, learned.cluster, live);
}

}  // namespace

void put_spool_away(const Settings& settings) {
  refuse_root_where_another_owns(settings.paths.state_directory);
  const FileLease lease = take_flusher_lease(RuntimeDirectory(settings.paths.runtime_directory));
  const SpoolPutAway away = Spool::put_away(settings.paths.state_directory, settings.redis.buckets);
  const auto number = [](const auto& known) {
    return known ? fmt::format("{}", *known) : std::string("an unknown number of");
  };
  log::warning("the spool was put away as {}: {} open visits and {} unanswered batches in it are not counted again",
               away.path, number(away.open_visits), number(away.unanswered_batches));
}

FlusherEnd run_flusher(LiveSettings& live, Learned& learned) {
  const Settings& settings = live.get();
  refuse_root_where_another_owns(settings.paths.state_directory);
  const RuntimeDirectory directory(settings.paths.runtime_directory);
  FileLease lease = take_flusher_lease(directory);
  Spool spool(settings.paths.state_directory, spool_layout(live));
  say_where_spool_was(spool);
  SpoolState state = spool.load();
  state.loaded_at = now().unix;
  if (state.created)
    log::info("made a new spool in {}; counting starts at what the lanes hold", settings.paths.state_directory);
  take_layout(live, state, learned);
  Watchdog watchdog;
  // What follows needs the frontends, whose start may be ordered after ours.
  notify_service_manager("READY=1");
  auto ring = wait_for_ring(directory, spool, state, lease, watchdog);
  if (!ring) return FlusherEnd::stopped;
  watchdog.allow(recovery_ms);
  return run_flusher_life(live, directory, lease, watchdog, std::move(*ring), std::move(spool), std::move(state),
                          learned);
}

}  // namespace visitd
