#include <algorithm>
#include <optional>
#include <string_view>

#include "common/os/text.hpp"
#include "frontend/api/handlers.hpp"
#include "frontend/http/target.hpp"

namespace visitd {

namespace {

/// Whether RFC 8941 lets this stand without quotes.
bool is_bare_token(std::string_view text) noexcept {
  const auto is_inner = [](char c) {
    return is_letter(c) || is_digit(c) || std::string_view("!#$%&'*+-.^_`|~:/").find(c) != std::string_view::npos;
  };
  return !text.empty() && is_letter(text.front()) && std::all_of(text.begin(), text.end(), is_inner);
}

Admission answer_recorded(Recorded recorded, const HandlerShare& share, const Call& call, Answer& answer) {
  if (recorded == Recorded::recorded) return Admission::counted;
  const Refusal refusal = refusal_of(recorded);
  share.refuse_for_now({.refusal = refusal, .detail = share.limits.of(refusal, *call.head)}, answer);
  return Admission::refused;
}

/// Whether the visit counts, by what the settings say.
Admission admit(HandlerShare& share, const Call& call, std::string_view page, Answer& answer) {
  const Admission admission = share.counts_all ? Admission::counted : admit_visit(share, call, page, answer);
  if (admission == Admission::ignored) share.backend.recorder.ignore(1);
  return admission;
}

/// Goes on from the message: the count in the answer to a visit, which is a success whether its count is known or not.
void append_count(const CountAnswer& count, Answer& answer) {
  answer.cache_control = never_stored;
  answer.body.append(R"(","count":)");
  if (count.has_count()) {
    note_cache_status(count, answer);
    answer.body.append(count.count);
  } else {
    answer.body.append("null");
  }
  answer.body.append("}");
}

}  // namespace

Admission record_one(HandlerShare& share, const Call& call, std::string_view page, Answer& answer) {
  const Admission admission = admit(share, call, page, answer);
  if (admission != Admission::counted) return admission;
  return answer_recorded(share.backend.recorder.record(page, 1), share, call, answer);
}

Admission record_together(HandlerShare& share, const Call& call, std::span<const std::string_view> pages,
                          Answer& answer) {
  const Admission admission = admit(share, call, pages.front(), answer);
  if (admission != Admission::counted) return admission;
  return answer_recorded(share.backend.recorder.record_together(pages), share, call, answer);
}

void note_cache_status(const CountAnswer& count, Answer& answer) noexcept {
  if (count.kind == CountAnswer::Kind::fresh && count.served_via != "in-memory") {
    const std::string_view quote = is_bare_token(count.served_via) ? "" : "\"";
    append_all(answer.cache_status, "visitd; fwd=miss; detail=", quote, count.served_via, quote);
  } else {
    answer.cache_status.append("visitd; hit; ttl=");
    answer.cache_status.append(count.ttl_s);
  }
}

Handled record_visit(HandlerShare& share, const Call& call, Answer& answer) {
  const NamedPage page = share.page_of(call.encoded_page, answer);
  if (page.name.empty()) return Handled::answered;
  const bool wants_count = !call.head->query.empty() && names_parameter(call.head->query, "count");
  if (!call.read->visit_recorded) {
    const Admission admission = record_one(share, call, page.name, answer);
    if (admission == Admission::parked) return Handled::parked;
    if (admission == Admission::refused) return Handled::answered;
    call.read->visit_recorded = wants_count;
  } else {
    show_rate(share, call, answer);
  }
  std::optional<CountAnswer> count;
  if (wants_count) {
    count = share.backend.counts.read(page.name, call.read->page, call.now_ms);
    if (count->kind == CountAnswer::Kind::parked) return Handled::parked;
  }
  answer.content_type = ContentType::json;
  answer.body.append(R"({"status":"success","message":"Visit recorded for page )");
  append_json(page.asked, answer.body);
  if (count) {
    append_count(*count, answer);
  } else {
    answer.body.append("\"}");
  }
  return Handled::answered;
}

Handled read_count(HandlerShare& share, const Call& call, Answer& answer) {
  return read_count_of(share, call, call.encoded_page, answer);
}

Handled read_count_of(HandlerShare& share, const Call& call, std::string_view encoded, Answer& answer) {
  const NamedPage page = share.page_of(encoded, answer);
  if (page.name.empty()) return Handled::answered;
  const CountAnswer count = share.backend.counts.read(page.name, call.read->page, call.now_ms);
  if (count.kind == CountAnswer::Kind::parked) return Handled::parked;
  if (!count.has_count()) {
    share.refuse_unknown(count, answer);
    return Handled::answered;
  }
  answer.cache_control = never_stored;
  answer.content_type = ContentType::json;
  note_cache_status(count, answer);
  answer.body.append(R"({"count":)");
  answer.body.append(count.count);
  answer.body.append(R"(,"served_via":")");
  answer.body.append(count.served_via);  // a shard's name has nothing to escape: is_shard_name()
  answer.body.append(R"("})");
  return Handled::answered;
}

}  // namespace visitd
