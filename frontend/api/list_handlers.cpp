#include <fmt/format.h>

#include <memory>
#include <optional>
#include <utility>

#include "frontend/api/handlers.hpp"

namespace visitd {

namespace {

/// What keeps a stranger's list from being counted; nullopt: nothing.
std::optional<Problem> problem_with_list(HandlerShare& share, const Call& call) {
  if (auto problem = share.public_limits.problem_with(share.list)) return problem;
  if (!share.visit_rules.any()) return std::nullopt;
  if (auto problem = share.visit_rules.problem_with_origin(*call.head)) return problem;
  for (std::size_t entry = 0; entry < share.list.size(); ++entry) {
    auto problem = share.visit_rules.problem_with_page(share.list.page(entry));
    if (!problem) continue;
    problem->member = "entry";
    problem->value = entry;
    return problem;
  }
  return std::nullopt;
}

Handled record_list(HandlerShare& share, const Call& call, Answer& answer) {
  const PageList& list = share.list;
  if (is_strangers(*call.head, *call.client, call.entrance)) {
    if (const auto problem = problem_with_list(share, call)) {
      answer.refuse(*problem);
      return Handled::answered;
    }
  }
  const bool ignored = share.visit_rules.any() && share.visit_rules.ignores(*call.head, *call.client, call.entrance);
  std::uint64_t visits = 0;
  for (std::size_t entry = 0; entry < list.size(); ++entry) {
    const Recorded recorded =
        ignored ? Recorded::recorded : share.backend.recorder.record(list.page(entry), list.visits(entry));
    if (recorded != Recorded::recorded) {
      share.refuse_for_now(
          {.refusal = refusal_of(recorded),
           .detail = "the first entries, as many as `recorded` says, were counted; the others were not",
           .member = "recorded",
           .value = entry},
          answer);
      return Handled::answered;
    }
    visits += list.visits(entry);
  }
  if (ignored) share.backend.recorder.ignore(visits);
  answer.content_type = ContentType::json;
  append_all(answer.body, R"({"status":"success","entries":)", list.size(), R"(,"visits":)", visits, "}");
  return Handled::answered;
}

void answer_counts(HandlerShare& share, const ListRead& reading, Answer& answer) {
  std::string& document = share.start_document();
  document.append(R"({"counts":{)");
  for (std::size_t entry = 0; entry < reading.pages().size(); ++entry) {
    document.append(entry == 0 ? "\"" : ",\"");
    append_json(reading.pages().asked(entry), document);
    document.append("\":");
    const fmt::format_int number(reading.counts().of(entry));
    document.append(number.data(), number.size());
  }
  document.append("}}");
  answer.no_store = true;
  answer.content_type = ContentType::json;
  note_cache_status(reading.counts().least_fresh(), answer);
  answer.body.show(document);
}

Handled go_on(ListRead& reading, HandlerShare& share, const Call& call, Answer& answer) {
  switch (reading.go_on(share.backend.counts, call.now_ms)) {
    case ListRead::Progress::parked:
      return Handled::parked;
    case ListRead::Progress::paused:
      return Handled::paused;
    case ListRead::Progress::refused: {
      const bool damaged = reading.refusal().kind == CountAnswer::Kind::damaged;
      share.refuse_for_now({.refusal = damaged ? Refusal::count_damaged : Refusal::count_unknown,
                            .detail = reading.refusal().why,
                            .parameter = reading.asked()},
                           answer);
      return Handled::answered;
    }
    case ListRead::Progress::known:
      answer_counts(share, reading, answer);
  }
  return Handled::answered;
}

Handled read_list(HandlerShare& share, const Call& call, Answer& answer) {
  ListRead reading(std::move(share.list), call.now_ms, share.list_timeout_ms);
  const Handled handled = go_on(reading, share, call, answer);
  if (handled == Handled::answered) {
    share.list = reading.take_pages();
  } else {
    call.read->list = std::make_unique<ListRead>(std::move(reading));
  }
  return handled;
}

/// Lets `then` answer for the list that was read, unless there was a problem with it.
Handled with_list(const std::optional<Problem>& problem, Route::Handler then, HandlerShare& share, const Call& call,
                  Answer& answer) {
  Handled handled = Handled::answered;
  if (problem) {
    answer.refuse(*problem);
  } else {
    handled = then(share, call, answer);
  }
  share.list.release();
  return handled;
}

}  // namespace

Handled record_or_read_list(HandlerShare& share, const Call& call, Answer& answer) {
  if (call.read->list != nullptr) return go_on(*call.read->list, share, call, answer);
  if (call.head->method != Method::post) {
    return with_list(share.list.read_query(call.head->query), &read_list, share, call, answer);
  }
  return with_list(share.list.read_json(call.body, PageList::Purpose::record), &record_list, share, call, answer);
}

Handled query_list(HandlerShare& share, const Call& call, Answer& answer) {
  // Whoever reads a page that is called "query" does not post.
  if (call.head->method != Method::post) return read_count_of(share, call, "query", answer);
  if (call.read->list != nullptr) return go_on(*call.read->list, share, call, answer);
  return with_list(share.list.read_json(call.body, PageList::Purpose::read), &read_list, share, call, answer);
}

}  // namespace visitd
