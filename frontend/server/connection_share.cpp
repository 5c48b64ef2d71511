#include "frontend/server/connection_share.hpp"

#include <limits>

#include "frontend/server/httplib_way.hpp"

namespace visitd {

namespace {

constexpr std::size_t receive_bytes = 65536;
constexpr std::uint64_t linger_ms = 2000;
/// The CountSource ends each parked read by itself.
constexpr std::uint64_t no_limit_ms = std::numeric_limits<std::int64_t>::max();

}  // namespace

ConnectionShare::ConnectionShare(uv_loop_t* its_loop, const Settings& settings, const Backend& backend,
                                 ConnectionOwner& its_owner)
    : loop(its_loop),
      owner(its_owner),
      limits{settings.http.head_limit_bytes, settings.http.target_limit_bytes, settings.http.header_limit,
             settings.http.body_limit_bytes},
      format(settings.http.cors_origins),
      counts(backend.counts),
      routes(settings, backend),
      direct(routes, format),
      usual(make_httplib_way(routes, format)),
      hot(way_of(settings)),
      phases{DeadlineList(settings.http.idle_timeout_ms),
             DeadlineList(settings.http.head_timeout_ms),
             DeadlineList(settings.http.body_timeout_ms),
             DeadlineList(settings.http.send_timeout_ms),
             DeadlineList(no_limit_ms),
             DeadlineList(no_limit_ms),
             DeadlineList(linger_ms)},
      received(receive_bytes),
      out(2 * flush_bytes),
      uploads(settings.http.buffered_bodies_limit_bytes),
      unsent_limit_bytes(settings.http.buffered_answers_limit_bytes) {}

AnsweringWay* ConnectionShare::way_of(const Settings& settings) noexcept {
  return settings.http.hot_routes == HotRoutes::direct ? static_cast<AnsweringWay*>(&direct) : usual.get();
}

void ConnectionShare::take_settings(const Settings& settings) {
  limits.body_bytes = settings.http.body_limit_bytes;
  format.set_origins(settings.http.cors_origins);
  routes.take_settings(settings);
  hot = way_of(settings);
  waiting(Phase::idle).set_wait(settings.http.idle_timeout_ms);
  waiting(Phase::head).set_wait(settings.http.head_timeout_ms);
  waiting(Phase::body).set_wait(settings.http.body_timeout_ms);
  waiting(Phase::sending).set_wait(settings.http.send_timeout_ms);
  uploads.set_limit(settings.http.buffered_bodies_limit_bytes);
  unsent_limit_bytes = settings.http.buffered_answers_limit_bytes;
}

}  // namespace visitd
