#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "common/config/program.hpp"
#include "common/os/text.hpp"
#include "frontend/api/count_stream.hpp"
#include "frontend/api/owner_asking.hpp"
#include "frontend/http/target.hpp"
#include "frontend/images/badge.hpp"
#include "frontend/images/badge_query.hpp"
#include "frontend/shapes/key_requests.hpp"
#include "frontend/shapes/page_visits.hpp"
#include "frontend/shapes/request_parts.hpp"
#include "frontend/shapes/shape_answers.hpp"
#include "frontend/shapes/shape_tables.hpp"

namespace visitd {

namespace {

constexpr std::string_view shield_suffix = "/shield";
constexpr std::string_view abacus_missing = R"({"error":"Key not found"})";

std::string random_key_name() {
  constexpr std::string_view letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
  std::random_device source;
  std::string name(16, ' ');
  for (char& letter : name) letter = letters[source() % letters.size()];
  return name;
}

std::string full_key(const KeyName& key) {
  return fmt::format("K:{}:{}", key.space, key.name);
}

Handled abacus_hit(HandlerShare& share, const Call& call, Answer& answer) {
  const auto key = key_of_request(call, answer);
  return key ? hit_key(share, call, *key, answer) : Handled::answered;
}

Handled abacus_get(HandlerShare& share, const Call& call, Answer& answer) {
  const auto key = key_of_request(call, answer);
  return key ? get_key(share, call, *key, abacus_missing, answer) : Handled::answered;
}

Handled abacus_info(HandlerShare& share, const Call& call, Answer& answer) {
  const auto key = key_of_request(call, answer);
  if (!key) return Handled::answered;
  return with_count(share, call, key->page(), PageUse::reads, answer, [&](const PageCounts& counts) {
    const bool exists = counts.of[0] != 0;
    // What Redis calls the time to live of a key that has none, and of one that is not there: in nanoseconds, as the
    // other has it.
    answer_json(200,
                fmt::format(R"({{"value":{},"full_key":"{}","is_genuine":true,"expires_in":{},"expires_str":"{}",)"
                            R"("exists":{}}})",
                            exists ? fmt::format("{}", counts.of[0]) : "-1", full_key(*key), exists ? "-1e-9" : "-2e-9",
                            exists ? "-1ns" : "-2ns", exists),
                answer);
  });
}

// ---- changes

/// The owner's key, of Authorization or the query.
ChangeProof abacus_proof(const Call& call, bool may_be_private) {
  std::string key(key_of(*call.head));
  if (key.empty()) key = parameter_of(call.head->query, "token").value_or("");
  const bool at_private = may_be_private && call.entrance == Entrance::private_address && key.empty();
  return {.key = std::move(key), .at_private_address = at_private};
}

void refuse_token(Refusal why, Answer& answer) {
  const bool is_missing = why == Refusal::owner_key_needed;
  refuse_with_error(why, is_missing ? 400 : 401,
                    is_missing ? "a token is needed: the owner's key, as Authorization: Bearer or ?token="
                               : "the token is not the owner's key",
                    answer);
}

void refuse_update(Answer& answer) {
  refuse_with_error(Refusal::invalid_count, 400, "value must not be 0, nor take the count below 0", answer);
}

/// A change of a key that exists: POST.
Handled change_existing(HandlerShare& share, const Call& call, Answer& answer, const KeyName& key,
                        const std::function<std::optional<CountChange>(std::uint64_t)>& choose,
                        const std::function<void(std::optional<std::uint64_t>)>& done) {
  if (comes_from_elsewhere(share, *call.head)) {
    refuse_with_error(Refusal::owner_from_elsewhere, 403, "http.cors_origins does not name the origin of this page",
                      answer);
    return Handled::answered;
  }
  const KeyChange change{.choose = [&](std::uint64_t now) -> std::optional<CountChange> {
                           if (now != 0) return choose(now);
                           answer_json(409, R"({"error":"Key does not exist"})", answer);
                           return std::nullopt;
                         },
                         .done = [&](std::uint64_t, std::optional<std::uint64_t> after) { done(after); },
                         .below_0 = [&](std::uint64_t) { refuse_update(answer); },
                         .refused = [&](Refusal why, std::optional<std::uint64_t>) { refuse_token(why, answer); }};
  return change_key(share, call, key.page(), abacus_proof(call, true), change, answer);
}

/// The number in the parameter "value".
std::optional<std::int64_t> value_of(const Call& call, Answer& answer) {
  const auto value = whole_number(parameter_of(call.head->query, "value").value_or(""));
  if (!value) refuse_with_error(Refusal::invalid_count, 400, "value must be a whole number: ?value=NUMBER", answer);
  return value;
}

Handled abacus_set(HandlerShare& share, const Call& call, Answer& answer) {
  const auto value = value_of(call, answer);
  if (!value) return Handled::answered;
  const auto key = key_of_request(call, answer);
  if (!key) return Handled::answered;
  return change_existing(
      share, call, answer, *key,
      [&](std::uint64_t) -> std::optional<CountChange> {
        if (*value >= 0) return set_to(*value);
        refuse_with_error(Refusal::invalid_count, 400, "value must not be below 0", answer);
        return std::nullopt;
      },
      [&](std::optional<std::uint64_t> after) { answer_json(200, value_json(after), answer); });
}

Handled abacus_update(HandlerShare& share, const Call& call, Answer& answer) {
  const auto value = value_of(call, answer);
  if (!value) return Handled::answered;
  const auto key = key_of_request(call, answer);
  if (!key) return Handled::answered;
  return change_existing(
      share, call, answer, *key,
      [&](std::uint64_t now) -> std::optional<CountChange> {
        const auto by = change_by(now, *value);
        if (by && *value != 0) return by;
        refuse_update(answer);
        return std::nullopt;
      },
      [&](std::optional<std::uint64_t> after) { answer_json(200, value_json(after), answer); });
}

Handled abacus_reset(HandlerShare& share, const Call& call, Answer& answer) {
  const auto key = key_of_request(call, answer);
  if (!key) return Handled::answered;
  return change_existing(
      share, call, answer, *key, [](std::uint64_t) { return std::optional(set_to(0)); },
      [&](std::optional<std::uint64_t> after) { answer_json(200, value_json(after), answer); });
}

Handled abacus_delete(HandlerShare& share, const Call& call, Answer& answer) {
  const auto key = key_of_request(call, answer);
  if (!key) return Handled::answered;
  return change_existing(
      share, call, answer, *key, [](std::uint64_t) { return std::optional(set_to(0)); },
      [&](std::optional<std::uint64_t>) {
        answer_json(200, fmt::format(R"({{"status":"ok","message":"Deleted key: {}"}})", full_key(*key)), answer);
      });
}

void answer_made(const KeyName& key, std::uint64_t count, Answer& answer) {
  answer_json(201,
              fmt::format(R"({{"key":"{}","namespace":"{}","admin_key":null,"value":{}}})", key.name, key.space, count),
              answer);
}

Handled abacus_create(HandlerShare& share, const Call& call, Answer& answer) {
  const bool is_random = call.encoded_page.empty();
  const auto value = whole_number(parameter_of(call.head->query, "initializer").value_or("0"));
  if (!value || *value < 0 || (is_random && *value != 0)) {
    refuse_with_error(Refusal::invalid_count, 400,
                      "initializer must be a whole number, not below 0, and 0 where the path names no key", answer);
    return Handled::answered;
  }
  if (is_random) {
    answer_made({random_key_name(), random_key_name()}, 0, answer);
    return Handled::answered;
  }
  const auto key = key_of_request(call, answer);
  if (!key) return Handled::answered;
  const KeyChange change{
      .choose = [&](std::uint64_t now) -> std::optional<CountChange> {
        if (now == 0 && *value != 0) return set_to(*value);
        if (now == 0) {
          answer_made(*key, 0, answer);
        } else {
          answer_json(409, R"({"error":"Key already exists"})", answer);
        }
        return std::nullopt;
      },
      .done = [&](std::uint64_t, std::optional<std::uint64_t> after) { answer_made(*key, after.value_or(0), answer); },
      .refused = [&](Refusal why, std::optional<std::uint64_t>) { refuse_token(why, answer); }};
  // Any page may make a browser send this.
  return change_key(share, call, key->page(), abacus_proof(call, false), change, answer);
}

Handled abacus_stream(HandlerShare& share, const Call& call, Answer& answer) {
  const auto key = key_of_request(call, answer);
  if (!key) return Handled::answered;
  const std::string page = counted_name(share, key->page(), answer);
  if (page.empty()) return Handled::answered;
  return stream_count(share, call, page, [](std::uint64_t count) { return value_json(count); }, answer);
}

// ---- shields

// The size of a shield's text in pixels: the other takes all that is more, and draws images of any size.
constexpr double usual_font_size = 11;
constexpr double smallest_font_size = 3;
constexpr double largest_font_size = 128;

/// nullopt: it is too large. What is no size, or too small, is the usual one, as the other has it.
std::optional<unsigned> font_size_tenths(std::string_view text) noexcept {
  double size = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), size);
  const bool is_size = failed == std::errc{} && end == text.data() + text.size() && size > smallest_font_size;
  if (!is_size) size = usual_font_size;
  if (size > largest_font_size) return std::nullopt;
  return static_cast<unsigned>(std::lround(size * 10));
}

/// What a query says of a shield.
struct ShieldQuery {
  std::string text;
  BadgeStyle style = BadgeStyle::flat;
  Rgb color = blue;
  Rgb text_color = 0xFFFFFF;
  const BadgeFont* font = nullptr;
  unsigned size_tenths = 0;
};

/// nullopt: it is refused, and the answer shows why.
std::optional<ShieldQuery> shield_query(std::string_view query, Answer& answer) {
  ShieldQuery shield;
  shield.text = parameter_of(query, "text").value_or("counter");
  const auto color = badge_color(parameter_of(query, "bgcolor").value_or("007ec6"));
  const auto text_color = badge_color(parameter_of(query, "textcolor").value_or("fff"));
  const auto size = font_size_tenths(parameter_of(query, "fontsize").value_or(""));
  if (!color || !text_color || !size || !is_badge_label(shield.text)) {
    answer.refuse({.refusal = Refusal::invalid_badge,
                   .detail = "bgcolor and textcolor are colours, text is UTF-8 without control characters, at most 128 "
                             "bytes, and fontsize is at most 128"});
    return std::nullopt;
  }
  std::string style = lower_case(parameter_of(query, "style").value_or("flat"));
  constexpr std::string_view simple = "-simple";
  if (style.ends_with(simple)) {
    style.resize(style.size() - simple.size());
    shield.text.clear();
  }
  shield.style = badge_style(style).value_or(BadgeStyle::flat);
  shield.color = *color;
  shield.text_color = *text_color;
  shield.font = &badge_font(lower_case(parameter_of(query, "font").value_or("")));
  shield.size_tenths = *size;
  return shield;
}

Handled show_shield(HandlerShare& share, const Call& call, PageUse use, Answer& answer) {
  const auto shield = shield_query(call.head->query, answer);
  if (!shield) return Handled::answered;
  const KeyOfPath found = key_named_by(call);
  if (found.fault != KeyOfPath::Fault::none) {
    answer.refuse({.refusal = Refusal::invalid_page_id, .detail = found.problem});
    return Handled::answered;
  }
  return with_count(share, call, found.key.page(), use, answer, [&](const PageCounts& counts) {
    const std::string message = shown_count(counts);
    std::string& document = share.start_document();
    draw_badge({.label = shield->text,
                .message = message,
                .style = shield->style,
                .color = shield->color,
                .text_color = shield->text_color,
                .font = shield->font,
                .size_tenths = shield->size_tenths},
               document);
    answer.content_type = ContentType::svg;
    if (use == PageUse::reads) answer.cache_control = share.badge_caching;
    if (use == PageUse::reads && counts.of[0] == 0) answer.status = 404;
    answer.body.show(document);
  });
}

/// A call of which the key is "NAMESPACE/shield", and not the shield of a key; nullopt: it is of that.
std::optional<Call> call_of_key(const Call& call, Answer& answer) {
  if (call.encoded_page.find('/') != std::string_view::npos) return std::nullopt;
  Call of_key = call;
  of_key.encoded_page = {call.encoded_page.data(), call.encoded_page.size() + shield_suffix.size()};
  answer.image_fields = {};
  return of_key;
}

Handled hit_shield(HandlerShare& share, const Call& call, Answer& answer) {
  if (const auto of_key = call_of_key(call, answer)) return abacus_hit(share, *of_key, answer);
  return show_shield(share, call, PageUse::visits, answer);
}

Handled get_shield(HandlerShare& share, const Call& call, Answer& answer) {
  if (const auto of_key = call_of_key(call, answer)) return abacus_get(share, *of_key, answer);
  return show_shield(share, call, PageUse::reads, answer);
}

/// What a frontend cannot know of all its host's counts and shards is null.
Handled abacus_stats(HandlerShare&, const Call&, Answer& answer) {
  answer_json(200,
              fmt::format(R"({{"commands":{{"create":null,"get":null,"hit":null,"total":null}},"db_uptime":null,)"
                          R"("db_version":null,"expired_keys__since_restart":"0","key_misses__since_restart":null,)"
                          R"("shard":null,"total_keys":null,"uptime":null,"version":"visitd {}"}})",
                          program_version()),
              answer);
  return Handled::answered;
}

constexpr Route change_route(std::string_view path, Route::Handler handler) noexcept {
  return {
      .path = path, .names_page = true, .for_owner = true, .methods = by_post, .allow = allow_post, .handler = handler};
}

constexpr std::array<Route, 12> abacus_table{{
    {.path = "/hit/",
     .suffix = shield_suffix,
     .names_page = true,
     .is_image = true,
     .hot = true,
     .methods = by_get,
     .allow = allow_get,
     .handler = &hit_shield},
    {.path = "/get/",
     .suffix = shield_suffix,
     .names_page = true,
     .is_image = true,
     .hot = true,
     .handler = &get_shield},
    {.path = "/hit/", .names_page = true, .hot = true, .methods = by_get, .allow = allow_get, .handler = &abacus_hit},
    {.path = "/get/", .names_page = true, .hot = true, .handler = &abacus_get},
    {.path = "/info/", .names_page = true, .handler = &abacus_info},
    {.path = "/stream/", .names_page = true, .hot = true, .streams = true, .handler = &abacus_stream},
    {.path = "/create/",
     .names_page = true,
     .methods = by_get_or_post,
     .allow = allow_get_or_post,
     .handler = &abacus_create},
    {.path = "/stats", .handler = &abacus_stats},
    change_route("/set/", &abacus_set),
    change_route("/update/", &abacus_update),
    change_route("/reset/", &abacus_reset),
    change_route("/delete/", &abacus_delete),
}};

}  // namespace

std::span<const Route> abacus_routes() noexcept {
  return abacus_table;
}

}  // namespace visitd
