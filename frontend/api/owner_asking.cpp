#include "frontend/api/owner_asking.hpp"

#include <fmt/format.h>

#include <memory>
#include <utility>

#include "common/os/text.hpp"
#include "frontend/http/head_fields.hpp"

namespace visitd {

namespace {

OwnerCall& begin_as(std::string_view key, bool at_private_address, HandlerShare& share, const Call& call) {
  OwnerQuestion asked;
  asked.until_ms = call.now_ms + share.owner_timeout_ms;
  asked.at_private_address = at_private_address;
  asked.from = share.proxies.origin_of(*call.client, call.head->fields, call.entrance);
  asked.key = key;
  call.read->owner = std::make_unique<OwnerCall>(share.backend.questions, std::move(asked));
  return *call.read->owner;
}

ControlVerb verb_of(CountChange::Kind kind) noexcept {
  switch (kind) {
    case CountChange::Kind::add:
      return ControlVerb::add;
    case CountChange::Kind::lower:
      return ControlVerb::lower;
    case CountChange::Kind::set:
      break;
  }
  return ControlVerb::set;
}

/// Of a question whose answer has not come in time.
void refuse_late(const HandlerShare& share, Answer& answer) {
  const std::string detail = fmt::format(
      "the flusher did not answer within the {} ms that owner.timeout_ms allows; a count that was to be changed may "
      "be changed",
      share.owner_timeout_ms);
  share.refuse_for_now({.refusal = Refusal::not_done, .detail = detail}, answer);
}

}  // namespace

std::string_view key_of(const RequestHead& head) noexcept {
  constexpr std::string_view scheme = "bearer ";
  const std::string_view field = find_field(head.fields, "authorization").value_or("");
  return is_same_word(field.substr(0, scheme.size()), scheme) ? trim(field.substr(scheme.size())) : std::string_view();
}

OwnerCall& begin_asking(HandlerShare& share, const Call& call) {
  return begin_as(key_of(*call.head), call.entrance == Entrance::private_address, share, call);
}

OwnerCall& begin_asking_with(std::string_view key, HandlerShare& share, const Call& call) {
  return begin_as(key, false, share, call);
}

Handled ask_flusher(HandlerShare& share, const Call& call, ControlCommand command, std::string argument,
                    Answer& answer) {
  if (call.read->owner->ask(command, std::move(argument), call.now_ms)) return Handled::parked;
  share.refuse_for_now({.refusal = Refusal::not_done, .detail = "too many requests of owners wait for the flusher"},
                       answer);
  return Handled::answered;
}

std::optional<ControlAnswer> take_said(HandlerShare& share, const Call& call, Answer& answer, Handled& handled) {
  OwnerCall& owner = *call.read->owner;
  auto said = owner.take_answer();
  handled = Handled::answered;
  if (!said && !owner.is_late(call.now_ms)) {
    handled = Handled::parked;
    return std::nullopt;
  }
  if (!said) {
    refuse_late(share, answer);
    return std::nullopt;
  }
  switch (said->verdict) {
    case OwnerAnswer::Verdict::answered:
      if (said->answer.ok) return std::move(said->answer);
      share.refuse_for_now({.refusal = Refusal::not_done, .detail = said->answer.error}, answer);
      break;
    case OwnerAnswer::Verdict::key_needed:
      answer.refuse({.refusal = Refusal::owner_key_needed});
      answer.authenticate = "Bearer realm=\"visitd\"";
      break;
    case OwnerAnswer::Verdict::key_wrong:
      answer.refuse({.refusal = Refusal::owner_key_wrong});
      break;
    case OwnerAnswer::Verdict::key_unset:
      answer.refuse({.refusal = Refusal::owner_key_unset});
      break;
  }
  return std::nullopt;
}

Handled ask_to_change(HandlerShare& share, const Call& call, std::string_view page, const CountChange& change,
                      Answer& answer) {
  std::string line;
  append_change(line, verb_of(change.kind), page, fmt::format("{}", change.count));
  call.read->owner->change = change;
  return ask_flusher(share, call, ControlCommand::correct, std::move(line), answer);
}

std::optional<ChangedCount> take_change(HandlerShare& share, const Call& call, Answer& answer, Handled& handled) {
  std::optional<ChangedCount>& changed = call.read->owner->changed;
  if (changed) return changed;
  const auto said = take_said(share, call, answer, handled);
  if (!said) return std::nullopt;
  const ControlRow row = said->rows.empty() ? ControlRow{} : said->rows.front();
  const bool is_below_0 = value_named(row.numbers, "below_0") != nullptr;
  if (const std::string* const problem = value_named(row.text, "problem"); problem != nullptr && !is_below_0) {
    share.refuse_for_now({.refusal = Refusal::not_done, .detail = *problem}, answer);
    return std::nullopt;
  }
  const auto number = [&](std::string_view name) {
    const std::uint64_t* const value = value_named(row.numbers, name);
    return value == nullptr ? 0 : *value;
  };
  changed = {number("before"), number("after"), is_below_0};
  return changed;
}

bool comes_from_elsewhere(const HandlerShare& share, const RequestHead& head) noexcept {
  return !head.origin.empty() && !share.is_named_origin(head.origin);
}

}  // namespace visitd
