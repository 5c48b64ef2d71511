#include <fmt/format.h>

#include <optional>
#include <string>
#include <string_view>

#include "common/os/utf8.hpp"
#include "frontend/api/handlers.hpp"
#include "frontend/images/badge.hpp"
#include "frontend/images/badge_query.hpp"
#include "frontend/images/pixel.hpp"

namespace visitd {

namespace {

/// What a badge says of a count that nobody knows.
constexpr std::string_view unknown = "unknown";

/// The message of a badge, and what its answer says of how long it holds.
std::string message_of(const CountAnswer& count, const BadgeQuery& query, Answer& answer) {
  if (!count.has_count()) {
    answer.cache_control = never_stored;
    return std::string(unknown);
  }
  note_cache_status(count, answer);
  std::string message;
  append_count(count.count, query.format, query.abbreviate, message);
  return message;
}

/// Reads query and count of a badge, and has `then` draw it.
template <typename Then>
Handled with_badge(HandlerShare& share, const Call& call, Answer& answer, bool may_count, Then then) {
  BadgeQuery query;
  auto problem = query.read(call.head->query);
  if (!problem && query.counts && !may_count) {
    problem = Problem{.refusal = Refusal::invalid_badge,
                      .detail = "this badge never counts: those who show it ask for it when nobody visits",
                      .parameter = "count"};
  }
  if (problem) {
    answer.refuse(*problem);
    return Handled::answered;
  }
  const NamedPage page = share.page_of(call.encoded_page, answer);
  if (page.name.empty()) return Handled::answered;
  const bool is_visit = query.counts && call.head->method == Method::get;
  if (is_visit && !call.read->visit_recorded) {
    const Admission admission = record_one(share, call, page.name, answer);
    if (admission == Admission::parked) return Handled::parked;
    if (admission == Admission::refused) return Handled::answered;
    call.read->visit_recorded = true;
  }
  const CountAnswer count = share.backend.counts.read(page.name, call.read->page, call.now_ms);
  if (count.kind == CountAnswer::Kind::parked) return Handled::parked;
  answer.cache_control = query.counts ? never_stored : std::string_view(share.badge_caching);
  const std::string message = message_of(count, query, answer);
  std::string& document = share.start_document();
  then(query, count, message, document);
  answer.body.show(document);
  if (answer.cache_control != never_stored) answer.tag(*call.head);
  return Handled::answered;
}

void append_color(std::string_view name, Rgb color, std::string& document) {
  document += fmt::format(R"(,"{}":"#{:06x}")", name, color);
}

}  // namespace

void draw_refusal(std::string_view name, std::string_view detail, AnswerBody& body) noexcept {
  // The body has room for so many letters, three times and escaped.
  constexpr std::size_t most_bytes = 160;
  const std::string_view message = first_characters(detail, most_bytes);
  std::string image;
  draw_badge({.label = name.empty() ? "visitd" : name, .message = message, .color = red}, image);
  body.append(image);
}

void answer_pixel(Answer& answer) noexcept {
  answer.cache_control = never_stored;
  answer.content_type = ContentType::gif;
  answer.body.clear();
  answer.body.append(pixel_gif);
}

Handled record_pixel(HandlerShare& share, const Call& call, Answer& answer) {
  const NamedPage page = share.page_of(call.encoded_page, answer);
  if (page.name.empty()) return Handled::answered;
  if (call.head->method == Method::get) {
    const Admission admission = record_one(share, call, page.name, answer);
    if (admission == Admission::parked) return Handled::parked;
    if (admission == Admission::refused) return Handled::answered;
  }
  answer_pixel(answer);
  return Handled::answered;
}

Handled show_badge(HandlerShare& share, const Call& call, Answer& answer) {
  return with_badge(
      share, call, answer, true,
      [&](const BadgeQuery& query, const CountAnswer& count, std::string_view message, std::string& document) {
        answer.content_type = ContentType::svg;
        BadgeLook look = query.look(message);
        if (!count.has_count()) look.color = light_grey;
        draw_badge(look, document);
      });
}

Handled show_badge_endpoint(HandlerShare& share, const Call& call, Answer& answer) {
  return with_badge(
      share, call, answer, false,
      [&](const BadgeQuery& query, const CountAnswer& count, std::string_view message, std::string& document) {
        answer.content_type = ContentType::json;
        document.append(R"({"schemaVersion":1,"label":")");
        append_json(query.label, document);
        document.append(R"(","message":")");
        append_json(message, document);
        document.append("\"");
        if (query.color) append_color("color", *query.color, document);
        if (query.label_color) append_color("labelColor", *query.label_color, document);
        if (query.style) document.append(R"(,"style":")").append(name_of(*query.style)).append("\"");
        if (!count.has_count()) document.append(R"(,"isError":true)");
        document.append("}");
      });
}

}  // namespace visitd
