#include "frontend/images/badge_query.hpp"

#include "common/os/text.hpp"
#include "common/os/utf8.hpp"
#include "frontend/http/target.hpp"

namespace visitd {

namespace {

Problem no(std::string_view parameter, std::string_view detail) noexcept {
  return {.refusal = Refusal::invalid_badge, .detail = detail, .parameter = parameter};
}

}  // namespace

bool is_badge_label(std::string_view text) noexcept {
  if (text.size() > badge_label_limit_bytes) return false;
  while (!text.empty()) {
    std::uint32_t code_point = 0;
    const std::size_t length = decode_utf8(text, code_point);
    if (length == 0 || is_control_character(code_point)) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::optional<Problem> BadgeQuery::read(std::string_view query) {
  std::string buffer(query.size(), '\0');
  while (!query.empty()) {
    std::string_view parameter = take_until(query, '&');
    if (parameter.empty()) continue;
    const std::string_view name = take_until(parameter, '=');
    const auto value = decode_form(parameter, buffer);
    if (!value) return Problem{.refusal = Refusal::invalid_percent_encoding, .parameter = "query"};
    if (auto problem = take(name, *value)) return problem;
  }
  return std::nullopt;
}

std::optional<Problem> BadgeQuery::take(std::string_view name, std::string_view value) {
  if (name == "label") {
    if (!is_badge_label(value)) return no("label", "label is at most 128 bytes of UTF-8, without control characters");
    label = value;
  } else if (name == "color" || name == "labelColor") {
    std::optional<Rgb>& which = name == "color" ? color : label_color;
    which = badge_color(value);
    if (!which) {
      return no(name == "color" ? "color" : "labelColor", "a colour is 3 or 6 hex digits, or a name like brightgreen");
    }
  } else if (name == "style") {
    style = badge_style(value);
    if (!style) return no("style", "the styles are flat, flat-square, plastic and for-the-badge");
  } else if (name == "locale") {
    const auto known = number_format(value);
    if (!known) return no("locale", "the locale is a language tag that docs/http.md lists, like de or pt-BR");
    format = *known;
  } else if (name == "abbreviate") {
    abbreviate = true;
  } else if (name == "count") {
    counts = true;
  } else {
    return no("query", "a badge takes label, color, labelColor, style, locale, abbreviate and count");
  }
  return std::nullopt;
}

BadgeLook BadgeQuery::look(std::string_view message) const noexcept {
  BadgeLook look{.label = label, .message = message, .label_color = label_color};
  if (color) look.color = *color;
  if (style) look.style = *style;
  return look;
}

}  // namespace visitd
