#include <fmt/format.h>

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/os/text.hpp"
#include "frontend/api/handlers.hpp"
#include "frontend/http/head_fields.hpp"
#include "frontend/http/target.hpp"
#include "frontend/images/badge.hpp"
#include "frontend/shapes/goatcounter_paths.hpp"
#include "frontend/shapes/page_visits.hpp"
#include "frontend/shapes/request_parts.hpp"
#include "frontend/shapes/shape_answers.hpp"
#include "frontend/shapes/shape_tables.hpp"

namespace visitd {

namespace {

/// The page in which all visits of a GoatCounter site count: its paths have no host.
constexpr std::string_view goatcounter_total = "site:TOTAL";
constexpr std::size_t longest_goatcounter_path = 2048;

void answer_gif(std::uint16_t status, Answer& answer) {
  answer.status = status;
  answer_pixel(answer);
}

/// Why it is not counted stands in a field: nobody sees more of an image that is one pixel.
void explain_gif(std::uint16_t status, std::string_view why, Answer& answer) {
  answer_gif(status, answer);
  answer.own_field = "X-Goatcounter";
  answer.own_field_value.clear();
  answer.own_field_value.append(why);
}

void refuse_gif(Refusal refusal, std::string_view why, Answer& answer) {
  answer.refuse({.refusal = refusal});
  explain_gif(400, why, answer);
}

/// Whether a browser only makes the page ready.
bool is_prefetch(const RequestHead& head) noexcept {
  return find_field(head.fields, "sec-purpose").value_or("").starts_with("prefetch") ||
         find_field(head.fields, "purpose").value_or("").starts_with("prefetch");
}

/// Whether the script says that a program drives the browser. nullopt: it says what it never says.
std::optional<bool> is_robot(std::string_view query) {
  constexpr std::int64_t first_of_script = 150;
  const std::string said = parameter_of(query, "b").value_or("");
  if (said.empty()) return false;
  const auto number = whole_number(said);
  if (!number || (*number > 0 && *number < first_of_script)) return std::nullopt;
  return *number > 0;
}

Handled goatcounter_count(HandlerShare& share, const Call& call, Answer& answer) {
  const std::string_view query = call.head->query;
  const auto robot = is_robot(query);
  if (!robot) {
    refuse_gif(Refusal::unknown_parameter, "b is 0, or at least 150", answer);
    return Handled::answered;
  }
  const std::string event = parameter_of(query, "e").value_or("");
  const bool is_event = !event.empty() && event != "false" && event != "0";
  const std::string path = parameter_of(query, "p").value_or("");
  const std::string page = goatcounter_page(path, is_event);
  if (page.empty() || path.size() > longest_goatcounter_path) {
    refuse_gif(Refusal::invalid_page_id, "p must be a path of 1 to 2048 bytes", answer);
    return Handled::answered;
  }
  if (*robot || is_prefetch(*call.head)) {
    share.backend.recorder.ignore(1);
    explain_gif(202, "not counted: a program drives this browser, or it makes a page ready", answer);
    return Handled::answered;
  }
  const std::array<std::string, 2> pages{page, std::string(goatcounter_total)};
  const std::size_t counted = is_event ? 1 : 2;
  const Handled handled =
      with_counts(share, call, {.ids = std::span(pages).first(counted), .counted = counted}, PageUse::visits_only,
                  answer, [&](const PageCounts&) { answer_gif(200, answer); });
  if (handled == Handled::answered && answer.refusal != Refusal::none) {
    explain_gif(answer.status, describe(answer.refusal).name, answer);
  }
  return handled;
}

// ---- counters

/// The pages that a path below /counter/ may mean: of one without a slash before it, the event of this name goes before
/// the page. None: it is badly encoded, and the answer says so.
std::vector<std::string> counter_pages(const Call& call, Answer& answer) {
  std::string buffer(call.encoded_page.size(), '\0');
  const auto path = decode_path(call.encoded_page, buffer);
  if (!path || path->empty()) {
    answer.refuse({.refusal = Refusal::invalid_percent_encoding, .parameter = "page_id"});
    return {};
  }
  if (*path == "TOTAL") return {std::string(goatcounter_total)};
  std::string page = goatcounter_page(*path, false);
  if (path->front() == '/') return {std::move(page)};
  return {std::string(*path), std::move(page)};
}

/// False: it asks for visits of a while, which nobody knows here; the answer says so.
bool asks_for_all_time(const Call& call, Answer& answer) {
  const bool asks = !names_parameter(call.head->query, "start") && !names_parameter(call.head->query, "end");
  if (!asks) {
    answer.refuse({.refusal = Refusal::unknown_parameter,
                   .detail = "visitd keeps no dates: leave out start and end, and the count is of all time"});
  }
  return asks;
}

/// Reads the count of the page, and has `then` answer; a page without visits is answered with 404.
template <typename Then>
Handled read_counter(HandlerShare& share, const Call& call, Answer& answer, Then then) {
  if (!asks_for_all_time(call, answer)) return Handled::answered;
  const std::vector<std::string> pages = counter_pages(call, answer);
  if (pages.empty()) return Handled::answered;
  return with_counts(share, call, {.ids = pages}, PageUse::reads, answer, [&](const PageCounts& counts) {
    const std::uint64_t count = counts.of[0] != 0 ? counts.of[0] : counts.of[1];
    then(grouped(count), pages.front() == goatcounter_total);
    if (count == 0) answer.status = 404;
  });
}

Handled goatcounter_json(HandlerShare& share, const Call& call, Answer& answer) {
  return read_counter(share, call, answer, [&](const std::string& count, bool) {
    answer_json(200, fmt::format(R"({{"count":"{0}","count_unique":"{0}"}})", count), answer);
  });
}

Handled goatcounter_drawing(HandlerShare& share, const Call& call, Answer& answer) {
  return read_counter(share, call, answer, [&](const std::string& count, bool is_total) {
    std::string& document = share.start_document();
    draw_badge({.label = is_total ? "views of this site" : "views of this page", .message = count}, document);
    answer.content_type = ContentType::svg;
    answer.cache_control = share.badge_caching;
    answer.body.show(document);
  });
}

/// Its script asks for a frame's page or an image of another kind as well, and browsers show a drawing in their place.
constexpr Route drawn_route(std::string_view suffix) noexcept {
  return {.path = "/counter/",
          .suffix = suffix,
          .names_page = true,
          .is_image = true,
          .hot = true,
          .handler = &goatcounter_drawing};
}

constexpr std::array<Route, 5> goatcounter_table{{
    {.path = "/count",
     .is_image = true,
     .hot = true,
     .methods = by_get_or_post,
     .allow = allow_get_or_post,
     .handler = &goatcounter_count},
    {.path = "/counter/", .suffix = ".json", .names_page = true, .hot = true, .handler = &goatcounter_json},
    drawn_route(".svg"),
    drawn_route(".html"),
    drawn_route(".png"),
}};

}  // namespace

std::span<const Route> goatcounter_routes() noexcept {
  return goatcounter_table;
}

}  // namespace visitd
