#include <fmt/format.h>

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "frontend/shapes/page_visits.hpp"
#include "frontend/shapes/request_parts.hpp"
#include "frontend/shapes/shape_answers.hpp"
#include "frontend/shapes/shape_tables.hpp"
#include "frontend/shapes/vercount_body.hpp"
#include "frontend/shapes/vercount_pages.hpp"

namespace visitd {

namespace {

enum class Version : std::uint8_t { first, second };

void answer_message(std::string_view status, std::string_view message, std::string_view rest, Answer& answer) {
  answer_json(answer.status, R"({"status":")", answer);
  append_all(answer.body, status, R"(","message":")");
  append_json(message, answer.body);
  append_all(answer.body, "\",", rest, "}");
}

/// Refuses in the words of this version.
void refuse_vercount(Version version, Refusal refusal, std::uint16_t status, std::string_view why, Answer& answer) {
  if (version == Version::first) return refuse_with_error(refusal, status, why, answer);
  answer.refuse({.refusal = refusal});
  answer.status = status;
  answer_message("error", why, fmt::format(R"("code":{})", status), answer);
}

/// Of visits that are not counted and counts that are not known, with the problem's own status.
void tell_refusal(Version version, Answer& answer) {
  const std::string_view name = describe(answer.refusal).name;
  if (version == Version::first) {
    answer_json(answer.status, fmt::format(R"({{"error":"{}"}})", name), answer);
  } else {
    answer_message("error", name, fmt::format(R"("code":{})", answer.status), answer);
  }
}

/// An address that names no page is no failure there: its counts are 0.
void answer_no_page(Version version, std::string_view why, Answer& answer) {
  answer.refuse({.refusal = Refusal::invalid_page_id});
  answer.status = 200;
  if (version == Version::first) {
    answer_json(200, fmt::format(R"({{"error":"{}","site_uv":0,"site_pv":0,"page_pv":0}})", why), answer);
  } else {
    answer_message("success", why, R"("data":{"site_uv":0,"site_pv":0,"page_pv":0})", answer);
  }
}

void answer_counts(Version version, bool is_visit, const PageCounts& counts, Answer& answer) {
  if (!counts.are_known) {
    answer.refuse({.refusal = Refusal::count_unknown, .detail = "the visit is counted; the counts are not known"});
    return;
  }
  const std::string data =
      fmt::format(R"({{"site_uv":{},"site_pv":{},"page_pv":{}}})", counts.of[2], counts.of[1], counts.of[0]);
  if (version == Version::first) return answer_json(200, data, answer);
  answer_message("success", is_visit ? "Data updated successfully" : "Data retrieved successfully", "\"data\":" + data,
                 answer);
}

/// A page, the total of its site, and the total of those visits of it that clients have claimed to be a visitor's
/// first.
std::array<std::string, 3> vercount_pages_of(const SitePage& page) {
  return {page.id(true), site_total(page.host), visitor_total(page.host)};
}

/// The address that the request names; nullopt: none, and the answer says so.
std::optional<VercountBody> request_of(Version version, const Call& call, Answer& answer) {
  if (call.head->method == Method::post) {
    auto body = vercount_body(call.read->kept_body.empty() ? call.body : call.read->kept_body);
    if (!body) {
      refuse_vercount(version, Refusal::malformed_json, 400, "Invalid JSON body", answer);
    } else if (body->url.empty()) {
      refuse_vercount(version, Refusal::nothing_to_do, 400, "Missing url", answer);
      body.reset();
    }
    return body;
  }
  VercountBody read{.url = parameter_of(call.head->query, "url").value_or("")};
  if (!read.url.empty()) return read;
  refuse_vercount(version, Refusal::nothing_to_do, 400, "Missing url parameter", answer);
  return std::nullopt;
}

Handled log_visit(Version version, HandlerShare& share, const Call& call, Answer& answer) {
  const auto request = request_of(version, call, answer);
  if (!request) return Handled::answered;
  const VercountPage found = vercount_page_of(request->url);
  if (!found.problem.empty()) {
    answer_no_page(version, found.problem, answer);
    return Handled::answered;
  }
  const bool is_visit = call.head->method == Method::post;
  const auto pages = vercount_pages_of(found.page);
  const std::size_t counted = request->is_new_visitor ? 3 : 2;
  const Handled handled =
      with_counts(share, call, {.ids = pages, .counted = counted}, is_visit ? PageUse::visits : PageUse::reads, answer,
                  [&](const PageCounts& counts) { answer_counts(version, is_visit, counts, answer); });
  if (handled == Handled::answered && answer.refusal != Refusal::none) tell_refusal(version, answer);
  if (handled != Handled::answered && call.read->kept_body.empty()) call.read->kept_body = call.body;
  return handled;
}

Handled log_first(HandlerShare& share, const Call& call, Answer& answer) {
  return log_visit(Version::first, share, call, answer);
}

Handled log_second(HandlerShare& share, const Call& call, Answer& answer) {
  return log_visit(Version::second, share, call, answer);
}

constexpr Route log_route(std::string_view path, Route::Handler handler) noexcept {
  return {.path = path,
          .hot = true,
          .takes_body = true,
          .methods = by_get_or_post,
          .allow = allow_get_or_post,
          .handler = handler};
}

constexpr std::array<Route, 3> vercount_table{{
    log_route("/log", &log_first),
    log_route("/api/v1/log", &log_first),
    log_route("/api/v2/log", &log_second),
}};

}  // namespace

std::span<const Route> vercount_routes() noexcept {
  return vercount_table;
}

}  // namespace visitd
