#include "frontend/shapes/key_requests.hpp"

#include <fmt/format.h>

#include <utility>

#include "common/shm/count.hpp"
#include "frontend/api/owner_asking.hpp"
#include "frontend/http/target.hpp"
#include "frontend/shapes/page_visits.hpp"
#include "frontend/shapes/shape_answers.hpp"

namespace visitd {

namespace {

void answer_value(std::string_view callback, std::optional<std::uint64_t> count, Answer& answer) {
  const std::string json = value_json(count);
  if (callback.empty()) {
    answer_json(200, json, answer);
  } else {
    answer_call(callback, json, answer);
  }
}

bool refuses_key(Refusal refusal) noexcept {
  return refusal == Refusal::owner_key_needed || refusal == Refusal::owner_key_wrong ||
         refusal == Refusal::owner_key_unset;
}

/// What is known of it at once.
std::optional<std::uint64_t> count_now(HandlerShare& share, const Call& call, std::string_view page) {
  call.read->page = {};
  const CountAnswer count = share.backend.counts.read(page, call.read->page, call.now_ms);
  return count.has_count() ? std::optional(count.count) : std::nullopt;
}

void begin_with(const ChangeProof& proof, HandlerShare& share, const Call& call) {
  if (proof.at_private_address) {
    begin_asking(share, call);
  } else {
    begin_asking_with(proof.key, share, call);
  }
}

/// Chooses the change, and asks the flusher for it. What has no key where one is needed is refused here: anybody may
/// send that, and the flusher has better to do.
Handled begin_change(HandlerShare& share, const Call& call, const std::string& page, const ChangeProof& proof,
                     const KeyChange& change, Answer& answer) {
  std::optional<CountChange> chosen;
  const bool has_proof = proof.at_private_address || !proof.key.empty();
  const Handled handled = with_count(share, call, page, PageUse::reads, answer, [&](const PageCounts& counts) {
    chosen = change.choose(counts.of[0]);
    if (!chosen || has_proof) return;
    chosen.reset();
    change.refused(Refusal::owner_key_needed, counts.of[0]);
  });
  if (!chosen) return handled;
  const std::string name = counted_name(share, page, answer);
  call.read->page = {};
  begin_with(proof, share, call);
  return ask_to_change(share, call, name, *chosen, answer);
}

/// Of what was added only that is known: the count is read.
Handled answer_added(HandlerShare& share, const Call& call, const std::string& page, const KeyChange& change,
                     Answer& answer) {
  const std::string name = counted_name(share, page, answer);
  const CountAnswer count = share.backend.counts.read(name, call.read->page, call.now_ms);
  if (count.kind == CountAnswer::Kind::parked) return Handled::parked;
  change.done(0, count.has_count() ? std::optional(count.count) : std::nullopt);
  return Handled::answered;
}

}  // namespace

KeyOfPath key_named_by(const Call& call) {
  std::string buffer(call.encoded_page.size(), '\0');
  const auto path = decode_path(call.encoded_page, buffer);
  return key_of_path(path.value_or("%"), caller_of(*call.head));
}

std::optional<KeyName> key_of_request(const Call& call, Answer& answer) {
  const KeyOfPath found = key_named_by(call);
  if (found.fault == KeyOfPath::Fault::none) return found.key;
  if (found.fault == KeyOfPath::Fault::too_deep) {
    refuse_with_error(Refusal::no_such_path, 404, "the path has more parts than a namespace and a key", answer);
  } else {
    refuse_with_error(Refusal::invalid_page_id, 400, found.problem, answer);
  }
  return std::nullopt;
}

std::string value_json(std::optional<std::uint64_t> count) {
  return count ? fmt::format(R"({{"value":{}}})", *count) : R"({"value":null})";
}

std::optional<CountChange> change_by(std::uint64_t count, std::int64_t amount) noexcept {
  // Of the least number of 64 bits there is no positive one.
  const std::uint64_t size = amount < 0 ? 0 - static_cast<std::uint64_t>(amount) : static_cast<std::uint64_t>(amount);
  const bool lowers = amount <= 0;
  const bool has_room = lowers ? size <= count : count <= count_limit && size <= count_limit - count;
  if (!has_room) return std::nullopt;
  return CountChange{lowers ? CountChange::Kind::lower : CountChange::Kind::add, size};
}

Handled hit_key(HandlerShare& share, const Call& call, const KeyName& key, Answer& answer) {
  const auto callback = callback_of(call.head->query, "callback", answer);
  if (!callback) return Handled::answered;
  return with_count(share, call, key.page(), PageUse::visits, answer, [&](const PageCounts& counts) {
    answer_value(*callback, counts.are_known ? std::optional(counts.of[0]) : std::nullopt, answer);
  });
}

Handled get_key(HandlerShare& share, const Call& call, const KeyName& key, std::string_view missing, Answer& answer) {
  const auto callback = callback_of(call.head->query, "callback", answer);
  if (!callback) return Handled::answered;
  return with_count(share, call, key.page(), PageUse::reads, answer, [&](const PageCounts& counts) {
    if (counts.of[0] != 0) {
      answer_value(*callback, counts.of[0], answer);
    } else {
      answer_json(404, missing, answer);
    }
  });
}

Handled change_key(HandlerShare& share, const Call& call, const std::string& page, const ChangeProof& proof,
                   const KeyChange& change, Answer& answer) {
  if (call.read->owner == nullptr) return begin_change(share, call, page, proof, change, answer);
  Handled handled = Handled::answered;
  const auto changed = take_change(share, call, answer, handled);
  if (!changed) {
    if (handled != Handled::answered || !refuses_key(answer.refusal)) return handled;
    const Refusal why = answer.refusal;
    const std::string name = counted_name(share, page, answer);
    change.refused(why, count_now(share, call, name));
    return Handled::answered;
  }
  if (changed->is_below_0) {
    change.below_0(changed->before);
  } else if (call.read->owner->change->kind == CountChange::Kind::add) {
    return answer_added(share, call, page, change, answer);
  } else {
    change.done(changed->before, changed->after);
  }
  return Handled::answered;
}

}  // namespace visitd
