#include <fmt/format.h>

#include <memory>
#include <optional>
#include <utility>

#include "frontend/api/admission.hpp"
#include "frontend/api/handlers.hpp"

namespace visitd {

namespace {

/// Records the entries of a list that is admitted, or notes that they are ignored.
Handled record_entries(HandlerShare& share, const Call& call, const PageList& list, bool ignored, Answer& answer) {
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
  if (ignored) {
    share.backend.recorder.ignore(visits);
  } else {
    note_list(share, call, list, answer);
  }
  answer.content_type = ContentType::json;
  append_all(answer.body, R"({"status":"success","entries":)", list.size(), R"(,"visits":)", visits, "}");
  return Handled::answered;
}

/// Records the list of a reading that finds out which of its pages are new.
Handled record_known(ListRead& reading, HandlerShare& share, const Call& call, Answer& answer) {
  const ListRead::Progress progress = reading.go_on(share.backend.counts, call.now_ms);
  if (progress == ListRead::Progress::parked) return Handled::parked;
  if (progress == ListRead::Progress::paused) return Handled::paused;
  // refused: nobody can say of the rest whether it is new.
  if (admit_new_pages(share, call, reading, answer) == Admission::refused) return Handled::answered;
  return record_entries(share, call, reading.pages(), false, answer);
}

/// Answers with a reading of the share's list, which is kept with the request until it is answered.
template <typename Answering>
Handled with_reading(Answering answering, HandlerShare& share, const Call& call, Answer& answer) {
  ListRead reading(std::move(share.list), call.now_ms, share.list_timeout_ms);
  const Handled handled = answering(reading, share, call, answer);
  if (handled == Handled::answered) {
    share.list = reading.take_pages();
  } else {
    call.read->list = std::make_unique<ListRead>(std::move(reading));
  }
  return handled;
}

Handled record_list(HandlerShare& share, const Call& call, Answer& answer) {
  const Admission admission = admit_list(share, call, answer);
  if (admission == Admission::refused) return Handled::answered;
  if (admission == Admission::counted && awaits_new_pages(share, call)) {
    return with_reading(record_known, share, call, answer);
  }
  return record_entries(share, call, share.list, admission == Admission::ignored, answer);
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
  answer.cache_control = never_stored;
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
    case ListRead::Progress::refused:
      share.refuse_unknown(reading.refusal(), answer, reading.asked());
      return Handled::answered;
    case ListRead::Progress::known:
      answer_counts(share, reading, answer);
  }
  return Handled::answered;
}

Handled read_list(HandlerShare& share, const Call& call, Answer& answer) {
  return with_reading(go_on, share, call, answer);
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
  const bool records = call.head->method == Method::post;
  if (call.read->list != nullptr) {
    return records ? record_known(*call.read->list, share, call, answer) : go_on(*call.read->list, share, call, answer);
  }
  if (!records) {
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
