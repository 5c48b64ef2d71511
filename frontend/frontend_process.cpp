#include "frontend/frontend_process.hpp"

#include <malloc.h>

#include <csignal>
#include <numeric>
#include <optional>
#include <string>

#include "common/counter/ring_membership.hpp"
#include "common/os/clock.hpp"
#include "common/os/log.hpp"
#include "common/os/other_owner.hpp"
#include "common/os/runtime_directory.hpp"
#include "common/os/service_manager.hpp"
#include "common/os/uv_handles.hpp"
#include "frontend/api/counts.hpp"
#include "frontend/api/lane_questions.hpp"
#include "frontend/api/lane_recorder.hpp"
#include "frontend/api/metrics.hpp"
#include "frontend/api/readiness.hpp"
#include "frontend/readable_secrets.hpp"
#include "frontend/server/event_loop_server.hpp"
#include "frontend/server/listening.hpp"
#include "frontend/shapes/shape_tables.hpp"

namespace visitd {

namespace {

constexpr std::uint64_t check_interval_ms = 1000;
constexpr std::uint64_t leaving_interval_ms = 20;
constexpr int long_text_bytes = 64 << 10;

/// What this frontend sees of the processes of its host.
class RingHostStatus : public HostStatus {
 public:
  /// Both outlive it; of the settings those values count that they have when they are asked for.
  RingHostStatus(const Settings& settings, const RingMembership& membership)
      : settings_(settings), membership_(membership) {}

  [[nodiscard]] std::vector<Check> checks() const override {
    return check_readiness(settings_, membership_, read_clocks());
  }
  void write_metrics(std::string& out) const override {
    visitd::write_metrics(membership_.ring(), membership_.cache(), read_clocks(), out);
  }

 private:
  const Settings& settings_;
  const RingMembership& membership_;
};

class FrontendProcess {
 public:
  FrontendProcess(LiveSettings& live, RingMaker maker)
      : live_(live),
        membership_(live.get(), maker),
        statistics_(membership_.lane_header().statistics),
        recorder_(membership_, statistics_),
        counts_(live.get(), membership_, statistics_),
        questions_(membership_),
        host_(live.get(), membership_),
        server_(loop_.get(), live.get(), {recorder_, counts_, questions_, host_, &shape_routes}),
        listening_(open_listening(live.get())),
        bell_(make_poll(loop_.get(), membership_.own_bell().fd(), this)),
        check_(make_timer(loop_.get(), this)),
        terminate_(make_signal(loop_.get(), this)),
        interrupt_(make_signal(loop_.get(), this)),
        hangup_(make_signal(loop_.get(), this)) {
    check_uv(uv_poll_start(bell_.get(), UV_READABLE, [](uv_poll_t* poll, int, int) { of(poll).on_bell(); }),
             "cannot poll the doorbell");
    check_uv(uv_timer_start(
                 check_.get(), [](uv_timer_t* timer) { of(timer).on_check(); }, check_interval_ms, check_interval_ms),
             "cannot start a timer");
    for (const auto& [signal, number] : {std::pair{terminate_.get(), SIGTERM}, {interrupt_.get(), SIGINT}}) {
      check_uv(uv_signal_start(
                   signal, [](uv_signal_t* handle, int) { of(handle).stop(FrontendExit::stopped); }, number),
               "cannot wait for signals");
    }
    check_uv(uv_signal_start(
                 hangup_.get(), [](uv_signal_t* handle, int) { of(handle).reload(); }, SIGHUP),
             "cannot wait for signals");
    release_reload_signal();
  }

  FrontendExit run() {
    if (listening_.has_private_address()) server_.keep_private();
    for (ListeningSocket& socket : listening_.sockets) server_.listen(std::move(socket));
    listen_at_free_paths();
    notify_service_manager("READY=1");
    log::info("serving as lane {} of ring segment {}", membership_.lane(), membership_.ring().note().segment);
    uv_run(loop_.get(), UV_RUN_DEFAULT);
    return exit_;
  }

 private:
  template <typename Handle>
  static FrontendProcess& of(Handle* handle) noexcept {
    return *static_cast<FrontendProcess*>(handle->data);
  }

  void on_bell() {
    membership_.own_bell().hush();
    server_.look_at_parked();
  }

  /// Between two turns of the loop: no request sees some of the old settings and some of the new.
  void reload() {
    if (stopping_) return;
    notify_reloading();
    if (live_.read_again()) {
      try {
        counts_.take_settings(live_.get());
        server_.take_settings(live_.get());
      } catch (const std::exception& failure) {
        log::error("not all of the changed settings count: {}", failure.what());
      }
    }
    notify_reloaded();
  }

  /// At those Unix sockets that no other frontend serves.
  void listen_at_free_paths() {
    for (UnixListening& path : listening_.unix_paths) {
      try_to([&] {
        if (auto socket = path.try_open()) server_.listen(std::move(*socket));
      });
    }
  }

  /// What is done once a second. Where one of these fails the others are done all the same.
  void on_check() {
    try_to([this] {
      if (!stopping_) listen_at_free_paths();
    });
    try_to([this] { counts_.follow_ttl(); });
    try_to([this] { show_statistics(); });
    server_.give_back_memory();
    const bool looked = try_to([this] {
      const std::string why = membership_.check();
      if (leaving_) {
        leave_when_durable();
      } else if (!why.empty()) {
        leave(why);
      }
    });
    // Without that look this frontend finds no other cache and shows no heartbeat: after a while it is better
    // restarted.
    if (looked) watchdog_.feed(monotonic_ms());
  }

  /// False: it failed, and was logged. The next try may find it mended.
  template <typename Chore>
  static bool try_to(Chore chore) noexcept {
    try {
      chore();
      return true;
    } catch (const std::exception& failure) {
      log::error("{}", failure.what());
      return false;
    }
  }

  void leave(const std::string& why) {
    log::warning("{}: recording no more visits, leaving once those recorded are durable", why);
    leaving_ = true;
    recorder_.close();
    membership_.close_lane();
    uv_timer_start(check_.get(), [](uv_timer_t* timer) { of(timer).on_check(); }, 1, leaving_interval_ms);
  }

  void leave_when_durable() {
    if (membership_.is_durable() && !stopping_) stop(FrontendExit::ring_left);
  }

  void stop(FrontendExit exit) {
    if (stopping_) return;
    stopping_ = true;
    exit_ = exit;
    notify_service_manager("STOPPING=1");
    log::info("stopping");
    listening_.unix_paths.clear();  // another frontend may take them
    server_.stop([this] { uv_stop(loop_.get()); });
  }

  void show_statistics() noexcept {
    const ServerStatistics& server = server_.statistics();
    statistics_.set(FrontendStatistic::requests, server.requests);
    const RefusalCounts& refusals = server_.refusals();
    for (std::size_t i = 1; i < refusals.size(); ++i) {
      statistics_.set(frontend_refusals_first_word + i, refusals[i]);
    }
    statistics_.set(FrontendStatistic::requests_refused,
                    std::accumulate(refusals.begin() + 1, refusals.end(), std::uint64_t{0}));
    statistics_.set(FrontendStatistic::connections_open, server.connections_open);
    statistics_.set(FrontendStatistic::connections_accepted, server.connections_accepted);
    statistics_.set(FrontendStatistic::connections_evicted, server.connections_evicted);
    statistics_.set(FrontendStatistic::connections_timed_out, server.connections_timed_out);
    statistics_.set(FrontendStatistic::connections_over_address_limit, server.connections_over_address_limit);
    statistics_.set(FrontendStatistic::connections_evicted_sending, server.connections_evicted_sending);
  }

  LiveSettings& live_;
  UvLoop loop_;
  RingMembership membership_;
  FrontendStatistics statistics_;
  LaneRecorder recorder_;
  Counts counts_;
  LaneQuestions questions_;
  RingHostStatus host_;
  EventLoopServer server_;
  Listening listening_;
  UvHandle<uv_poll_t> bell_;
  UvHandle<uv_timer_t> check_;
  UvHandle<uv_signal_t> terminate_;
  UvHandle<uv_signal_t> interrupt_;
  UvHandle<uv_signal_t> hangup_;
  Watchdog watchdog_;
  bool leaving_ = false;
  bool stopping_ = false;
  FrontendExit exit_ = FrontendExit::stopped;
};

}  // namespace

FrontendExit run_frontend(LiveSettings& settings, RingMaker maker) {
  refuse_root_where_another_owns(RuntimeDirectory(settings.get().paths.runtime_directory).ring_lock());
  refuse_readable_secrets(settings.get().secret_files);
  // A long body or answer has pages of its own, which the system gets back with it. Unless told so, the allocator cuts
  // them from its heap once a few were freed, and keeps what lies between those in use.
  ::mallopt(M_MMAP_THRESHOLD, long_text_bytes);
  return FrontendProcess(settings, maker).run();
}

}  // namespace visitd
