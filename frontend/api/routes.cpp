#include "frontend/api/routes.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>

#include "common/os/log.hpp"
#include "common/os/text.hpp"
#include "common/page/page_scripts.hpp"
#include "frontend/api/handlers.hpp"

namespace visitd {

namespace {

constexpr std::string_view list_methods = "GET, HEAD, POST, OPTIONS";
constexpr std::string_view all_methods = "GET, HEAD, POST, PUT, DELETE, OPTIONS";

// Those that settings give another path too.
constexpr std::string_view visits = "/visit/";
constexpr std::string_view current_script = "/count.js";
constexpr std::string_view script_version = "/count.1.js";

constexpr std::string_view page_methods = "GET, HEAD, PUT, DELETE, OPTIONS";

/// Where a path has more than one row, they differ in methods.
constexpr std::array<Route, 20> route_table{{
    {.path = visits,
     .names_page = true,
     .hot = true,
     .methods = by_post,
     .allow = allow_post,
     .handler = &record_visit},
    {.path = "/visits/query",
     .hot = true,
     .takes_body = true,
     .methods = by_get_or_head | by_post,
     .allow = all_methods,
     .allow_elsewhere = list_methods,
     .handler = &query_list},
    {.path = "/visits/",
     .names_page = true,
     .hot = true,
     .methods = by_get_or_head,
     .allow = page_methods,
     .allow_elsewhere = allow_get_or_head,
     .handler = &read_count},
    {.path = "/visits/",
     .names_page = true,
     .takes_body = true,
     .for_owner = true,
     .methods = methods_of({Method::put, Method::delete_}),
     .allow = page_methods,
     .allow_elsewhere = allow_get_or_head,
     .handler = &change_count},
    {.path = "/visits",
     .hot = true,
     .takes_body = true,
     .methods = by_get_or_head | by_post,
     .allow = list_methods,
     .handler = &record_or_read_list},
    {.path = "/pixel/", .suffix = ".gif", .names_page = true, .is_image = true, .hot = true, .handler = &record_pixel},
    {.path = "/badge/", .suffix = ".svg", .names_page = true, .is_image = true, .hot = true, .handler = &show_badge},
    {.path = "/badge/", .suffix = ".json", .names_page = true, .hot = true, .handler = &show_badge_endpoint},
    {.path = current_script, .hot = true, .handler = &show_current_script},
    {.path = script_version, .hot = true, .handler = &show_script_version},
    {.path = "/show.1.js", .hot = true, .handler = &show_part_version},
    {.path = "/pages", .for_owner = true, .handler = &list_pages},
    {.path = "/top", .for_owner = true, .handler = &show_top},
    {.path = "/total", .for_owner = true, .handler = &show_total},
    {.path = "/", .handler = &show_health},
    {.path = "/livez", .for_operators = true, .handler = &show_liveness},
    {.path = "/readyz", .for_operators = true, .handler = &show_readiness},
    {.path = "/metrics", .for_operators = true, .handler = &show_metrics},
    {.path = "/openapi.json", .handler = &show_openapi},
    {.path = "/docs", .handler = &show_docs},
}};

const Route& route_of(std::string_view path) noexcept {
  return *std::ranges::find(route_table, path, &Route::path);
}

/// Where no handler takes the request.
void answer_unrouted(const Call& call, Answer& answer) noexcept {
  const RequestHead& head = *call.head;
  if (head.method == Method::options) {
    const bool everywhere = call.route == nullptr;
    answer.preflight = head.asks_cross_origin && !head.origin.empty();
    if (!everywhere || answer.preflight || head.path == "*") {
      answer.status = 204;
      answer.allow = everywhere ? all_methods : call.route->allow;
      answer.allow_elsewhere = everywhere ? list_methods : call.route->allow_elsewhere;
      return;
    }
  }
  if (call.route == nullptr) {
    answer.refuse({.refusal = Refusal::no_such_path});
    return;
  }
  answer.refuse({.refusal = Refusal::method_not_allowed});
  answer.allow = call.route->allow;
}

}  // namespace

std::span<const Route> Routes::table() noexcept {
  return route_table;
}

Routes::Routes(const Settings& settings, const Backend& backend)
    : share_(settings, backend), prefix_(settings.http.api_prefix) {
  take_paths(settings.http);
  take_shapes(settings.http.shapes);
}

void Routes::take_settings(const Settings& settings) {
  share_.take_settings(settings);
  take_paths(settings.http);
  take_shapes(settings.http.shapes);
}

void Routes::take_paths(const HttpSettings& http) {
  other_paths_.clear();
  if (!http.visit_path.empty()) other_paths_.push_back({http.visit_path, &route_of(visits)});
  if (http.script_path == current_script) return;
  other_paths_.push_back({http.script_path, &route_of(current_script)});
  other_paths_.push_back({script_version_path(http.script_path), &route_of(script_version)});
}

void Routes::take_shapes(const std::vector<std::string>& shapes) {
  shapes_.clear();
  if (share_.backend.shape_table == nullptr) return;
  // What names a page by nothing but the end of its path takes what the others leave.
  for (const bool takes_rest : {false, true}) {
    for (const std::string& shape : shapes) {
      const std::span<const Route> table = share_.backend.shape_table(shape);
      if (!table.empty() && (table.front().path == "/") == takes_rest) shapes_.push_back(table);
    }
  }
}

bool Routes::find_in(std::span<const Route> table, std::string_view path, Call& call) const noexcept {
  for (const Route& route : table) {
    const std::optional<std::string_view> page = route.page_in(path);
    if (!page) continue;
    if (has_private_address_ && route.for_operators && call.entrance != Entrance::private_address) continue;
    if (call.route != nullptr && !route.allows(call.head->method)) continue;
    call.route = &route;
    call.encoded_page = *page;
    if (route.allows(call.head->method)) return true;
  }
  return call.route != nullptr;
}

bool Routes::find_own(std::string_view path, Call& call) const noexcept {
  if (find_in(route_table, path, call)) return true;
  for (const OtherPath& other : other_paths_) {
    if (!path.starts_with(other.path) || (!other.route->names_page && path != other.path)) continue;
    call.route = other.route;
    call.encoded_page = path.substr(other.path.size());
    return true;
  }
  return false;
}

bool Routes::find_shape(std::string_view path, Call& call) const noexcept {
  return std::ranges::any_of(shapes_, [&](std::span<const Route> shape) { return find_in(shape, path, call); });
}

void Routes::find(Call& call) const noexcept {
  const std::string_view path = call.head->path;
  call.route = nullptr;
  if (find_own(path, call)) return;
  if (!prefix_.empty() && path.starts_with(prefix_)) {
    const std::string_view rest = path.size() == prefix_.size() ? "/" : path.substr(prefix_.size());
    if (find_own(rest, call) || find_shape(rest, call)) return;
  }
  find_shape(path, call);
}

Handled Routes::handle(const Call& call, Answer& answer) {
  answer.reset(*call.head);
  Handled handled = Handled::answered;
  if (call.route != nullptr) {
    answer.for_owner = call.route->for_owner;
    if (call.route->is_image) answer.image_fields = call.head->fields;
  }
  if (call.is_routed()) {
    handled = call.route->handler(share_, call, answer);
  } else {
    answer_unrouted(call, answer);
  }
  note(answer.refusal);
  return handled;
}

void Routes::refuse_request(Refusal refusal, const RequestHead& head, Answer& answer) noexcept {
  answer.reset(head);
  const std::string detail = share_.limits.of(refusal, head);
  if (describe(refusal).status == 503) {
    share_.refuse_for_now({.refusal = refusal, .detail = detail}, answer);
  } else {
    answer.refuse({.refusal = refusal, .detail = detail});
  }
  note(refusal);
}

void Routes::fail(const Call& call, const std::exception_ptr& exception, Answer& answer) noexcept {
  std::string what = "unknown exception";
  try {
    std::rethrow_exception(exception);
  } catch (const std::exception& error) {
    what = error.what();
  } catch (...) {  // NOLINT(bugprone-empty-catch)
  }
  const std::string id = hex(std::uniform_int_distribution<std::uint64_t>()(ids_));
  log::error("request of {} failed, id {}: {}",
             share_.proxies.origin_of(*call.client, call.head->fields, call.entrance), id, what);
  answer.reset(*call.head);
  if (call.route != nullptr && call.route->is_image) answer.image_fields = call.head->fields;
  answer.refuse({.refusal = Refusal::internal_error,
                 .detail = fmt::format("the request failed; the server's log says why under id {}", id)});
  note(answer.refusal);
}

}  // namespace visitd
