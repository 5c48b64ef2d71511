// Who makes the answers: a function for each route, in files by theme. What each takes and answers is in openapi.json.
#pragma once

#include <span>
#include <string_view>

#include "frontend/api/admission.hpp"
#include "frontend/api/call.hpp"
#include "frontend/api/handler_share.hpp"

namespace visitd {

// page_handlers.cpp: of one page.
[[nodiscard]] Handled record_visit(HandlerShare& share, const Call& call, Answer& answer);
[[nodiscard]] Handled read_count(HandlerShare& share, const Call& call, Answer& answer);

// image_handlers.cpp: of one page, in the place of an image.
[[nodiscard]] Handled record_pixel(HandlerShare& share, const Call& call, Answer& answer);
[[nodiscard]] Handled show_badge(HandlerShare& share, const Call& call, Answer& answer);
[[nodiscard]] Handled show_badge_endpoint(HandlerShare& share, const Call& call, Answer& answer);

// list_handlers.cpp: of many pages. POST records and GET reads; of a query POST reads, and its GET is one of a page.
[[nodiscard]] Handled record_or_read_list(HandlerShare& share, const Call& call, Answer& answer);
[[nodiscard]] Handled query_list(HandlerShare& share, const Call& call, Answer& answer);

// owner_handlers.cpp: what the owner alone may do and see.
[[nodiscard]] Handled change_count(HandlerShare& share, const Call& call, Answer& answer);
[[nodiscard]] Handled list_pages(HandlerShare& share, const Call& call, Answer& answer);
[[nodiscard]] Handled show_top(HandlerShare& share, const Call& call, Answer& answer);
[[nodiscard]] Handled show_total(HandlerShare& share, const Call& call, Answer& answer);

// service_handlers.cpp: of the service itself.
[[nodiscard]] Handled show_health(HandlerShare& share, const Call& call, Answer& answer);
[[nodiscard]] Handled show_liveness(HandlerShare& share, const Call& call, Answer& answer);
[[nodiscard]] Handled show_readiness(HandlerShare& share, const Call& call, Answer& answer);
[[nodiscard]] Handled show_metrics(HandlerShare& share, const Call& call, Answer& answer);
[[nodiscard]] Handled show_openapi(HandlerShare& share, const Call& call, Answer& answer);
[[nodiscard]] Handled show_docs(HandlerShare& share, const Call& call, Answer& answer);
// Of the scripts for pages: the version of today, which browsers ask for again, and those that stay for good.
[[nodiscard]] Handled show_current_script(HandlerShare& share, const Call& call, Answer& answer);
[[nodiscard]] Handled show_script_version(HandlerShare& share, const Call& call, Answer& answer);
[[nodiscard]] Handled show_part_version(HandlerShare& share, const Call& call, Answer& answer);

/// Records one visit of a page if the settings let it count. refused: the answer says why.
[[nodiscard]] Admission record_one(HandlerShare& share, const Call& call, std::string_view page, Answer& answer);
/// The same of a visit that counts in several pages, in all of them or in none: the settings look at the first one.
[[nodiscard]] Admission record_together(HandlerShare& share, const Call& call, std::span<const std::string_view> pages,
                                        Answer& answer);
/// Answers with an image of one pixel that nobody sees, in place of what the answer held.
void answer_pixel(Answer& answer) noexcept;
/// What Cache-Status (RFC 9211) tells of one count, or of the one that stands for many.
void note_cache_status(const CountAnswer& count, Answer& answer) noexcept;
/// Reads the count of a page whose id stands like this in a path.
[[nodiscard]] Handled read_count_of(HandlerShare& share, const Call& call, std::string_view encoded, Answer& answer);

}  // namespace visitd
