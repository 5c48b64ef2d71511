#include <fmt/format.h>

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "common/os/text.hpp"
#include "frontend/http/head_fields.hpp"
#include "frontend/shapes/busuanzi_script.hpp"
#include "frontend/shapes/page_visits.hpp"
#include "frontend/shapes/request_parts.hpp"
#include "frontend/shapes/shape_answers.hpp"
#include "frontend/shapes/shape_tables.hpp"

namespace visitd {

namespace {

/// A page, and the total of its site.
std::array<std::string, 2> busuanzi_pages(const SitePage& page) {
  return {page.id(true), site_total(page.host)};
}

// ---- called scripts

/// Which counts a script is given.
enum class CalledWith : std::uint8_t { three, four };

/// A script that says in the browser's console why there are no counts.
void explain_in_script(std::string_view why, Answer& answer) {
  answer.status = 200;
  answer.content_type = ContentType::javascript;
  answer.cache_control = never_stored;
  answer.body.clear();
  answer.body.append("try{console.error(\"visitd: ");
  append_json(why, answer.body);
  answer.body.append("\")}catch(e){}");
}

void refuse_script(Refusal refusal, std::string_view why, Answer& answer) {
  answer.refuse({.refusal = refusal});
  explain_in_script(why, answer);
}

/// visitd knows no visitors: each visit is one.
void answer_script(std::string_view callback, CalledWith with, const PageCounts& counts, Answer& answer) {
  if (!counts.are_known) return explain_in_script("the counts are not known just now", answer);
  answer.content_type = ContentType::javascript;
  answer.body.clear();
  const std::string json =
      with == CalledWith::three
          ? fmt::format(R"({{"site_uv":{1},"page_pv":{0},"site_pv":{1}}})", counts.of[0], counts.of[1])
          : fmt::format(R"({{"page_pv":{0},"page_uv":{0},"site_pv":{1},"site_uv":{1}}})", counts.of[0], counts.of[1]);
  append_all(answer.body, "try{", callback, "(", json, ");}catch(e){}");
}

Handled count_by_script(HandlerShare& share, const Call& call, std::string_view parameter, CalledWith with,
                        Answer& answer) {
  const std::string callback = parameter_of(call.head->query, parameter).value_or("");
  if (!is_callback(callback)) {
    refuse_script(Refusal::unknown_parameter,
                  fmt::format("{} must name a function: identifiers with dots between them, at most {} bytes",
                              parameter, callback_limit_bytes),
                  answer);
    return Handled::answered;
  }
  const auto page = web_page_of(find_field(call.head->fields, "referer").value_or(""));
  if (!page) {
    refuse_script(Refusal::invalid_page_id, "the request's Referer names no page", answer);
    return Handled::answered;
  }
  const auto pages = busuanzi_pages(*page);
  return with_counts(share, call, {.ids = pages, .counted = pages.size()}, PageUse::visits, answer,
                     [&](const PageCounts& counts) { answer_script(callback, with, counts, answer); });
}

Handled busuanzi_script(HandlerShare& share, const Call& call, Answer& answer) {
  return count_by_script(share, call, "jsonpCallback", CalledWith::three, answer);
}

Handled busuanzi_jsonp(HandlerShare& share, const Call& call, Answer& answer) {
  return count_by_script(share, call, "callback", CalledWith::four, answer);
}

// ---- the script itself

Handled busuanzi_own_script(HandlerShare&, const Call& call, Answer& answer) {
  answer.content_type = ContentType::javascript;
  answer.cache_control = "public, max-age=86400";
  answer.body.show(busuanzi_script_text());
  answer.tag(*call.head);
  return Handled::answered;
}

constexpr Route script_route(std::string_view path) noexcept {
  return {.path = path, .hot = true, .handler = &busuanzi_own_script};
}

// ---- the interface of busuanzi that people run by themselves

/// Its failures are successes of HTTP.
void answer_failure(std::string_view why, Answer& answer) {
  answer_json(200, R"({"success":false,"message":")", answer);
  append_json(why, answer.body);
  answer.body.append("\"}");
}

void refuse_api(Refusal refusal, std::string_view why, Answer& answer) {
  answer.refuse({.refusal = refusal});
  answer_failure(why, answer);
}

void answer_api(const PageCounts& counts, Answer& answer) {
  if (!counts.are_known) return answer_failure("the visit is counted; the counts are not known just now", answer);
  answer_json(200,
              fmt::format(R"({{"success":true,"message":"ok","data":{{"site_pv":{1},"site_uv":{1},"page_pv":{0},)"
                          R"("page_uv":{0}}}}})",
                          counts.of[0], counts.of[1]),
              answer);
}

PageUse use_of(Method method) noexcept {
  if (method == Method::get) return PageUse::reads;
  return method == Method::put ? PageUse::visits_only : PageUse::visits;
}

Handled busuanzi_api(HandlerShare& share, const Call& call, Answer& answer) {
  const bool is_put = call.head->method == Method::put;
  const auto page = web_page_of(find_field(call.head->fields, "x-bsz-referer").value_or(""));
  if (!page) {
    refuse_api(Refusal::invalid_page_id, "invalid referer", answer);
    if (is_put) answer.status = 400;
    return Handled::answered;
  }
  const auto pages = busuanzi_pages(*page);
  const Handled handled = with_counts(share, call, {.ids = pages, .counted = pages.size()}, use_of(call.head->method),
                                      answer, [&](const PageCounts& counts) {
                                        if (!is_put) return answer_api(counts, answer);
                                        answer.status = 204;
                                      });
  if (handled == Handled::answered && answer.refusal != Refusal::none && !is_put) {
    answer_failure(describe(answer.refusal).name, answer);
  }
  return handled;
}

constexpr std::array<Route, 5> busuanzi_table{{
    {.path = "/busuanzi", .hot = true, .methods = by_get, .allow = allow_get, .handler = &busuanzi_script},
    {.path = "/jsonp", .hot = true, .methods = by_get, .allow = allow_get, .handler = &busuanzi_jsonp},
    {.path = "/api",
     .hot = true,
     .methods = methods_of({Method::get, Method::post, Method::put}),
     .allow = "GET, POST, PUT, OPTIONS",
     .handler = &busuanzi_api},
    // Where pages of the public counter, and of one that people run by themselves, load their script.
    script_route("/busuanzi/2.3/busuanzi.pure.mini.js"),
    script_route("/js"),
}};

}  // namespace

std::span<const Route> busuanzi_routes() noexcept {
  return busuanzi_table;
}

}  // namespace visitd
