#include "ctl/import_sums.hpp"

#include <fmt/format.h>

#include "common/shm/count.hpp"
#include "common/shm/page_id.hpp"

namespace visitd {

namespace {

constexpr std::size_t first_shown = 5;
// An id may be longer than a name, if rules make it shorter.
constexpr std::size_t longest_id_bytes = 8 * max_page_id_bytes;

}  // namespace

std::string ImportSums::add(std::string_view id, std::uint64_t visits) {
  const std::size_t id_limit = names_.map.any() ? longest_id_bytes : names_.page_id_limit;
  if (const PageIdFault fault = check_page_id(id, id_limit); fault != PageIdFault::none) {
    return describe(fault, id, names_.page_id_limit);
  }
  const std::string_view mapped = names_.map.name_of(id);
  if (mapped.empty()) return "the rules of --map leave nothing of the page id";
  if (mapped.size() > names_.page_id_limit) return describe(PageIdFault::too_long, mapped, names_.page_id_limit);
  const std::string_view page = names_.rules.name_of(mapped);
  if (page.empty()) return std::string(nothing_left);
  if (visits == 0) return {};
  std::uint64_t& count = sums_.of(page);
  if (visits > count_limit - count) return fmt::format("a page counts more than {}", count_limit);
  count += visits;
  return {};
}

void ImportSums::add_line(std::uint64_t line, std::string_view id, std::uint64_t visits) {
  if (const std::string why = add(id, visits); !why.empty()) bad_line(line, why);
}

void ImportSums::leave_out_key(std::string_view key) {
  if (imported_.not_visits.size() < first_shown) imported_.not_visits.emplace_back(key);
  leave_out();
}

void ImportSums::bad_line(std::uint64_t line, std::string_view why) {
  bad(fmt::format("line {}", line), why);
}

void ImportSums::bad(std::string_view where, std::string_view why) {
  if (imported_.bad.size() < first_shown) imported_.bad.push_back(fmt::format("{}: {}", where, why));
  ++imported_.bad_lines;
}

Imported ImportSums::take() && {
  imported_.counts = std::move(sums_).take();
  return std::move(imported_);
}

}  // namespace visitd
