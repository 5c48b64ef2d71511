#include <fmt/format.h>

#include <array>
#include <optional>
#include <random>
#include <string>
#include <string_view>

#include "common/shm/count.hpp"
#include "frontend/api/handlers.hpp"
#include "frontend/api/owner_asking.hpp"
#include "frontend/http/target.hpp"
#include "frontend/shapes/key_requests.hpp"
#include "frontend/shapes/page_visits.hpp"
#include "frontend/shapes/request_parts.hpp"
#include "frontend/shapes/shape_answers.hpp"
#include "frontend/shapes/shape_tables.hpp"

namespace visitd {

namespace {

/// The page that the request meant, once words in its path are replaced.
void show_path(const KeyName& key, Answer& answer) {
  answer.own_field = "X-Path";
  answer.own_field_value.append(key.page());
}

/// A version 4 UUID.
std::string random_uuid() {
  std::random_device source;
  const auto word = [&] { return std::uint64_t{source()} << 32U | source(); };
  const std::uint64_t high = (word() & ~0xF000ULL) | 0x4000ULL;
  const std::uint64_t low = (word() & 0x3FFF'FFFF'FFFF'FFFFULL) | 0x8000'0000'0000'0000ULL;
  return fmt::format("{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", high >> 32U, high >> 16U & 0xFFFFU, high & 0xFFFFU,
                     low >> 48U, low & 0xFFFF'FFFF'FFFFULL);
}

std::string number_or_null(std::optional<std::uint64_t> number) {
  return number ? fmt::format("{}", *number) : "null";
}

/// A request that any page may make a browser send is the owner's only with the key, wherever it comes in.
ChangeProof proof_of(const Call& call) {
  return {.key = std::string(key_of(*call.head)), .at_private_address = false};
}

Handled countapi_hit(HandlerShare& share, const Call& call, Answer& answer) {
  const auto key = key_of_request(call, answer);
  if (!key) return Handled::answered;
  const Handled handled = hit_key(share, call, *key, answer);
  if (handled != Handled::answered || answer.refusal != Refusal::none) return handled;
  show_path(*key, answer);
  if (names_parameter(call.head->query, "img")) answer_pixel(answer);
  return handled;
}

Handled countapi_get(HandlerShare& share, const Call& call, Answer& answer) {
  const auto key = key_of_request(call, answer);
  if (!key) return Handled::answered;
  const Handled handled = get_key(share, call, *key, R"({"value":null})", answer);
  if (handled == Handled::answered && answer.refusal == Refusal::none) show_path(*key, answer);
  return handled;
}

Handled countapi_set(HandlerShare& share, const Call& call, Answer& answer) {
  const auto key = key_of_request(call, answer);
  if (!key) return Handled::answered;
  const auto value = whole_number(parameter_of(call.head->query, "value").value_or(""));
  if (!value || *value < 0) {
    refuse_with_error(Refusal::invalid_count, 400, "value must be a whole number, and not below 0", answer);
    return Handled::answered;
  }
  const KeyChange change{
      .choose = [&](std::uint64_t now) -> std::optional<CountChange> {
        if (now != 0) return set_to(*value);
        answer_json(404, R"({"old_value":null,"value":null})", answer);
        return std::nullopt;
      },
      .done =
          [&](std::uint64_t before, std::optional<std::uint64_t> after) {
            show_path(*key, answer);
            answer_json(200, fmt::format(R"({{"old_value":{},"value":{}}})", before, number_or_null(after)), answer);
          },
      .refused =
          [&](Refusal why, std::optional<std::uint64_t> now) {
            const std::string count = number_or_null(now);
            refuse_as(why, 403, fmt::format(R"({{"old_value":{0},"value":{0}}})", count), answer);
          }};
  return change_key(share, call, key->page(), proof_of(call), change, answer);
}

Handled countapi_update(HandlerShare& share, const Call& call, Answer& answer) {
  const auto key = key_of_request(call, answer);
  if (!key) return Handled::answered;
  const auto amount = whole_number(parameter_of(call.head->query, "amount").value_or(""));
  if (!amount) {
    refuse_with_error(Refusal::invalid_count, 400, "amount must be a whole number", answer);
    return Handled::answered;
  }
  const KeyChange change{
      .choose = [&](std::uint64_t now) -> std::optional<CountChange> {
        const auto by = change_by(now, *amount);
        if (now != 0 && by) return by;
        answer_json(now == 0 ? 404 : 403, value_json(now == 0 ? std::nullopt : std::optional(now)), answer);
        return std::nullopt;
      },
      .done =
          [&](std::uint64_t, std::optional<std::uint64_t> after) {
            show_path(*key, answer);
            answer_json(200, value_json(after), answer);
          },
      .below_0 = [&](std::uint64_t now) { answer_json(403, value_json(now), answer); },
      .refused = [&](Refusal why, std::optional<std::uint64_t> now) { refuse_as(why, 403, value_json(now), answer); }};
  return change_key(share, call, key->page(), proof_of(call), change, answer);
}

struct KeyToCreate {
  KeyName key;
  bool is_random = false;  ///< what the query leaves out: nobody has visited it
};

/// nullopt: it names none, and the answer says so.
std::optional<KeyToCreate> key_to_create(const Call& call, Answer& answer) {
  const auto space = parameter_of(call.head->query, "namespace");
  const auto name = parameter_of(call.head->query, "key");
  KeyToCreate made{{space ? *space : random_uuid(), name ? *name : random_uuid()}, !space || !name};
  if (is_key_name(made.key.space) && is_key_name(made.key.name)) return made;
  refuse_with_error(Refusal::invalid_page_id, 400,
                    "namespace and key must be 3 to 64 letters, digits, '_', '-' and '.'", answer);
  return std::nullopt;
}

void answer_created(const KeyName& key, std::uint64_t count, Answer& answer) {
  show_path(key, answer);
  answer_json(200, fmt::format(R"({{"namespace":"{}","key":"{}","value":{}}})", key.space, key.name, count), answer);
}

Handled countapi_create(HandlerShare& share, const Call& call, Answer& answer) {
  const auto made = key_to_create(call, answer);
  if (!made) return Handled::answered;
  const auto value = whole_number(parameter_of(call.head->query, "value").value_or("0"));
  if (!value || *value < 0 || (made->is_random && *value != 0)) {
    refuse_with_error(Refusal::invalid_count, 400,
                      "value must be a whole number, not below 0, and 0 where namespace or key is left out", answer);
    return Handled::answered;
  }
  if (made->is_random) {
    answer_created(made->key, 0, answer);
    return Handled::answered;
  }
  const KeyChange change{
      .choose = [&](std::uint64_t now) -> std::optional<CountChange> {
        if (now == 0 && *value != 0) return set_to(*value);
        if (now == 0) {
          answer_created(made->key, 0, answer);
        } else {
          refuse_with_error(Refusal::invalid_page_id, 400, "the key has visits already", answer);
        }
        return std::nullopt;
      },
      .done = [&](std::uint64_t,
                  std::optional<std::uint64_t> after) { answer_created(made->key, after.value_or(0), answer); },
      .refused =
          [&](Refusal why, std::optional<std::uint64_t>) {
            refuse_with_error(why, 403, "a value other than 0 needs the owner's key", answer);
          }};
  return change_key(share, call, made->key.page(), proof_of(call), change, answer);
}

Handled countapi_info(HandlerShare& share, const Call& call, Answer& answer) {
  const auto key = key_of_request(call, answer);
  if (!key) return Handled::answered;
  return with_count(share, call, key->page(), PageUse::reads, answer, [&](const PageCounts& counts) {
    show_path(*key, answer);
    if (counts.of[0] == 0) return answer_json(404, R"({"value":null})", answer);
    answer_json(200,
                fmt::format(R"({{"namespace":"{}","key":"{}","ttl":-1,"created":null,"update_lowerbound":-{},)"
                            R"("update_upperbound":{},"enable_reset":true,"value":{}}})",
                            key->space, key->name, count_limit, count_limit, counts.of[0]),
                answer);
  });
}

/// What a frontend cannot know of all its host's counts is null.
Handled countapi_stats(HandlerShare&, const Call&, Answer& answer) {
  answer_json(200, R"({"keys_created":null,"keys_updated":null,"requests":null,"version":"visitd"})", answer);
  return Handled::answered;
}

constexpr std::array<Route, 7> countapi_table{{
    {.path = "/hit/", .names_page = true, .hot = true, .methods = by_get, .allow = allow_get, .handler = &countapi_hit},
    {.path = "/get/", .names_page = true, .hot = true, .handler = &countapi_get},
    {.path = "/set/", .names_page = true, .methods = by_get, .allow = allow_get, .handler = &countapi_set},
    {.path = "/update/", .names_page = true, .methods = by_get, .allow = allow_get, .handler = &countapi_update},
    {.path = "/create", .methods = by_get, .allow = allow_get, .handler = &countapi_create},
    {.path = "/info/", .names_page = true, .handler = &countapi_info},
    {.path = "/stats", .handler = &countapi_stats},
}};

}  // namespace

std::span<const Route> countapi_routes() noexcept {
  return countapi_table;
}

}  // namespace visitd
