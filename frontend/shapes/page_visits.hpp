// What a request in the shape of another counter does to pages: records one visit of each, and reads their counts.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "frontend/api/call.hpp"
#include "frontend/api/handler_share.hpp"

namespace visitd {

/// The most pages of one request: a page, and the totals in which its visit counts too.
inline constexpr std::size_t most_pages_of_shape = 3;

/// The counts of a request's pages, in their order.
struct PageCounts {
  bool are_known = false;  ///< false only after a visit, which is recorded all the same
  std::array<std::uint64_t, most_pages_of_shape> of{};
};

/// visits_only: no count is read.
enum class PageUse : std::uint8_t { reads, visits, visits_only };

/// The pages of a request. A visit counts in so many of the first ones.
struct ShapePages {
  std::span<const std::string> ids;
  std::size_t counted = 1;
};

/// Does with the pages what `use` says, and has `then` answer. A visit counts if the settings let one of the first page
/// count, and then in all that are `counted`. Where an id breaks a rule, a visit is refused or a count that is only
/// read is not known, the answer is a refusal.
[[nodiscard]] Handled with_counts(HandlerShare& share, const Call& call, const ShapePages& pages, PageUse use,
                                  Answer& answer, const std::function<void(const PageCounts&)>& then);

/// The same of one page.
[[nodiscard]] Handled with_count(HandlerShare& share, const Call& call, const std::string& id, PageUse use,
                                 Answer& answer, const std::function<void(const PageCounts&)>& then);

/// The first page's count, as a badge shows it: "unknown" if it is not known.
[[nodiscard]] std::string shown_count(const PageCounts& counts);

/// The name under which the page with this id is counted; empty: the id breaks a rule, and the answer says which.
[[nodiscard]] std::string counted_name(HandlerShare& share, const std::string& id, Answer& answer);

}  // namespace visitd
