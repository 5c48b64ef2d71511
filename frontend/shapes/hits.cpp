#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "common/os/text.hpp"
#include "frontend/http/target.hpp"
#include "frontend/images/badge.hpp"
#include "frontend/shapes/page_visits.hpp"
#include "frontend/shapes/request_parts.hpp"
#include "frontend/shapes/shape_answers.hpp"
#include "frontend/shapes/shape_tables.hpp"

namespace visitd {

namespace {

constexpr Rgb hits_green = 0x44CC11;
constexpr std::string_view hits_label = "hits";
/// Of users and repositories that forges let have names.
constexpr std::size_t longest_hits_name_bytes = 100;

bool is_hits_name(std::string_view text, std::string_view marks) noexcept {
  const auto fits = [&](char c) { return is_letter(c) || is_digit(c) || marks.find(c) != std::string_view::npos; };
  return !text.empty() && text.size() <= longest_hits_name_bytes && std::ranges::all_of(text, fits);
}

/// USER/REPOSITORY; nullopt: the path is something else.
std::optional<std::string> repository_of(const Call& call) {
  std::string_view repository = call.encoded_page;
  const std::string_view user = take_until(repository, '/');
  if (!is_hits_name(user, "-") || !is_hits_name(repository, "-_.")) return std::nullopt;
  return std::string(call.encoded_page);
}

Handled hits_badge(HandlerShare& share, const Call& call, Answer& answer) {
  const std::string style = parameter_of(call.head->query, "style").value_or("flat");
  const auto page = repository_of(call);
  if (!page) {
    answer.refuse({.refusal = Refusal::no_such_path});
    return Handled::answered;
  }
  return with_count(share, call, *page, PageUse::visits, answer, [&](const PageCounts& counts) {
    const std::string message = shown_count(counts);
    std::string& document = share.start_document();
    draw_badge({.label = hits_label,
                .message = message,
                .style = badge_style(style).value_or(BadgeStyle::flat),
                .color = counts.are_known ? hits_green : light_grey},
               document);
    answer.content_type = ContentType::svg;
    answer.body.show(document);
  });
}

/// What a query says of the look of a badge of shields.io; nullopt: what shields.io does not know.
std::optional<std::string> look_of(const Call& call, std::string_view parameter, std::string_view usual) {
  const std::string look = parameter_of(call.head->query, parameter).value_or(std::string(usual));
  return is_hits_name(look, "-#") ? std::optional(look) : std::nullopt;
}

/// What shields.io takes as an endpoint.
Handled hits_endpoint(HandlerShare& share, const Call& call, Answer& answer) {
  if (call.encoded_page.find('/') == std::string_view::npos) {
    answer.refuse({.refusal = Refusal::no_such_path});
    return Handled::answered;
  }
  const auto page = repository_of(call);
  const auto style = look_of(call, "style", "flat");
  const auto color = look_of(call, "color", "lightgrey");
  if (!page || !style || !color) {
    refuse_as(Refusal::invalid_badge, 200, R"({"schemaVersion":1,"label":"hits","message":"invalid url"})", answer);
    return Handled::answered;
  }
  return with_count(share, call, *page, PageUse::visits, answer, [&](const PageCounts& counts) {
    const std::string message = shown_count(counts);
    answer_json(200,
                fmt::format(R"({{"schemaVersion":1,"label":"hits","style":"{}","message":"{}","color":"{}"}})", *style,
                            message, *color),
                answer);
  });
}

constexpr std::array<Route, 2> hits_table{{
    {.path = "/",
     .suffix = ".svg",
     .names_page = true,
     .is_image = true,
     .hot = true,
     .methods = by_get,
     .allow = allow_get,
     .handler = &hits_badge},
    {.path = "/",
     .suffix = ".json",
     .names_page = true,
     .hot = true,
     .methods = by_get,
     .allow = allow_get,
     .handler = &hits_endpoint},
}};

}  // namespace

std::span<const Route> hits_routes() noexcept {
  return hits_table;
}

}  // namespace visitd
