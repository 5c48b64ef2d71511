#include "frontend/shapes/page_visits.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "frontend/api/admission.hpp"
#include "frontend/api/handlers.hpp"
#include "frontend/api/list_read.hpp"
#include "frontend/api/page_list.hpp"

namespace visitd {

namespace {

Admission record_pages(HandlerShare& share, const Call& call, const PageList& pages, std::size_t counted,
                       Answer& answer) {
  std::array<std::string_view, most_pages_of_shape> names;
  const std::size_t count = std::min(pages.size(), counted);
  for (std::size_t entry = 0; entry < count; ++entry) names[entry] = pages.page(entry);
  return record_together(share, call, std::span(names).first(count), answer);
}

/// What is read of the pages. unknown: the answer says why.
enum class Reading : std::uint8_t { known, waits, unknown };

Reading read_one(HandlerShare& share, const Call& call, std::string_view page, PageCounts& counts, Answer& answer) {
  const CountAnswer count = share.backend.counts.read(page, call.read->page, call.now_ms);
  if (count.kind == CountAnswer::Kind::parked) return Reading::waits;
  if (!count.has_count()) {
    share.refuse_unknown(count, answer);
    return Reading::unknown;
  }
  counts.of[0] = count.count;
  note_cache_status(count, answer);
  return Reading::known;
}

/// Where an id was named twice, the list has its page once.
void take_counts(const ListRead& reading, std::span<const std::string> ids, PageCounts& counts) {
  for (std::size_t id = 0; id < ids.size(); ++id) {
    std::size_t entry = 0;
    while (entry + 1 < reading.pages().size() && reading.pages().asked(entry) != ids[id]) ++entry;
    counts.of[id] = reading.counts().of(entry);
  }
}

Reading read_several(HandlerShare& share, const Call& call, PageList pages, std::span<const std::string> ids,
                     PageCounts& counts, Handled& waits, Answer& answer) {
  if (call.read->list == nullptr) {
    call.read->list = std::make_unique<ListRead>(std::move(pages), call.now_ms, share.list_timeout_ms);
  }
  ListRead& reading = *call.read->list;
  switch (reading.go_on(share.backend.counts, call.now_ms)) {
    case ListRead::Progress::parked:
      return Reading::waits;
    case ListRead::Progress::paused:
      waits = Handled::paused;
      return Reading::waits;
    case ListRead::Progress::refused:
      share.refuse_unknown(reading.refusal(), answer);
      return Reading::unknown;
    case ListRead::Progress::known:
      break;
  }
  take_counts(reading, ids, counts);
  note_cache_status(reading.counts().least_fresh(), answer);
  return Reading::known;
}

/// A visit is recorded though its count is not known: that is no refusal.
void forget_refusal(Answer& answer) noexcept {
  answer.refusal = Refusal::none;
  answer.status = 200;
  answer.retry_after_s.reset();
  answer.body.clear();
}

/// nullopt: an id breaks a rule, and the answer says which.
std::optional<PageList> pages_of(HandlerShare& share, std::span<const std::string> ids, Answer& answer) {
  PageList pages(share.page_id_limit_bytes, most_pages_of_shape, share.page_rules);
  const auto problem = pages.read_ids(ids);
  if (!problem) return pages;
  answer.refuse(*problem);
  return std::nullopt;
}

}  // namespace

Handled with_counts(HandlerShare& share, const Call& call, const ShapePages& named, PageUse use, Answer& answer,
                    const std::function<void(const PageCounts&)>& then) {
  const std::span<const std::string> ids = named.ids;
  auto pages = pages_of(share, ids, answer);
  if (!pages) return Handled::answered;
  const bool is_visit = use != PageUse::reads;
  if (is_visit && !call.read->visit_recorded) {
    const Admission admission = record_pages(share, call, *pages, named.counted, answer);
    if (admission == Admission::parked) return Handled::parked;
    if (admission == Admission::refused) return Handled::answered;
    call.read->visit_recorded = true;
  } else if (is_visit) {
    show_rate(share, call, answer);
  }
  PageCounts counts;
  if (use != PageUse::visits_only) {
    Handled waits = Handled::parked;
    const Reading reading = ids.size() == 1 ? read_one(share, call, pages->page(0), counts, answer)
                                            : read_several(share, call, std::move(*pages), ids, counts, waits, answer);
    if (reading == Reading::waits) return waits;
    if (reading == Reading::unknown && !is_visit) return Handled::answered;
    if (reading == Reading::unknown) forget_refusal(answer);
    counts.are_known = reading == Reading::known;
  }
  answer.cache_control = never_stored;
  then(counts);
  return Handled::answered;
}

Handled with_count(HandlerShare& share, const Call& call, const std::string& id, PageUse use, Answer& answer,
                   const std::function<void(const PageCounts&)>& then) {
  return with_counts(share, call, {.ids = std::span(&id, 1)}, use, answer, then);
}

std::string shown_count(const PageCounts& counts) {
  return counts.are_known ? fmt::format("{}", counts.of[0]) : "unknown";
}

std::string counted_name(HandlerShare& share, const std::string& id, Answer& answer) {
  const auto pages = pages_of(share, std::span(&id, 1), answer);
  return pages ? std::string(pages->page(0)) : std::string();
}

}  // namespace visitd
