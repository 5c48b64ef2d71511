// Lists of pages in bodies and queries: what is taken holds valid ids alone and reads the same when it is written anew;
// what is refused says which rule it breaks; and a plain list of valid ids is taken.
//
// Input: what the text is and how to write it anew, a limit for ids, one for reads, then the text.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/shm/page_id.hpp"
#include "frontend/api/page_list.hpp"
#include "tests/fuzz/fuzzing.hpp"

namespace visitd {
namespace {

using fuzzing::Exact;
using fuzzing::Input;
using fuzzing::require;

using Purpose = PageList::Purpose;

struct Limits {
  std::uint32_t page_id;
  std::uint32_t read;
};

struct Pages {
  std::vector<std::pair<std::string, std::uint32_t>> entries;  ///< each page and its visits
  std::optional<Refusal> refusal;
};

enum class Kind : std::uint8_t { record, read, query };

/// `text` as a body or a query, with all that holds of any answer.
Pages taken(std::string_view text, Kind kind, const Limits& limits) {
  const Exact own(text);
  PageRules rules{{}};
  PageList list(limits.page_id, limits.read, rules);
  const auto problem = kind == Kind::query
                           ? list.read_query(own.view())
                           : list.read_json(own.view(), kind == Kind::record ? Purpose::record : Purpose::read);
  require(list.size() <= text.size(), "a list has no more entries than its text has bytes");
  Pages pages;
  if (problem) {
    pages.refusal = problem->refusal;
    require(problem->refusal >= Refusal::no_such_path && problem->refusal < Refusal::internal_error,
            "a refusal is one of the routes'");
    require(!describe(problem->refusal).detail.empty() || !problem->detail.empty(), "a refusal says what is wrong");
    require(problem->detail.size() < 200, "what a client is told has a bound");
    require(check_page_id(problem->detail.empty() ? "-" : problem->detail, 200) == PageIdFault::none,
            "what a client is told is text");
    require(problem->member.empty() || problem->value <= text.size(), "the entry at fault is one of the text's");
    return pages;
  }
  std::set<std::string> seen;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const std::string page(list.page(i));
    require(check_page_id(page, limits.page_id) == PageIdFault::none, "a page taken has a valid id");
    require(list.visits(i) > 0, "a page taken has visits");
    require(kind == Kind::record || (list.visits(i) == 1 && seen.insert(page).second), "a page is read once");
    pages.entries.emplace_back(page, list.visits(i));
  }
  require(!pages.entries.empty(), "nothing is no list");
  require(kind == Kind::record || list.size() <= limits.read, "a read keeps its limit");
  return pages;
}

// --- written anew

/// One UTF-16 unit as JSON escapes it.
std::string escape(std::uint32_t unit) {
  return fmt::format("\\u{:04x}", unit);
}

std::string quoted(std::string_view id, bool escapes) {
  std::string text = "\"";
  for (std::size_t i = 0; i < id.size();) {
    const auto lead = static_cast<unsigned char>(id[i]);
    const std::size_t length = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (!escapes && lead != '"' && lead != '\\') {
      text += id.substr(i, length);
    } else {
      std::uint32_t point = length == 1 ? lead : lead & (0x7FU >> length);
      for (std::size_t j = 1; j < length; ++j) point = point << 6U | (static_cast<unsigned char>(id[i + j]) & 0x3FU);
      if (point < 0x10000) {
        text += escape(point);
      } else {
        text += escape(0xD800 + ((point - 0x10000) >> 10U)) + escape(0xDC00 + ((point - 0x10000) & 0x3FFU));
      }
    }
    i += length;
  }
  return text + '"';
}

std::string written(const Pages& pages, Kind kind, std::uint8_t style) {
  std::string text;
  const bool escapes = (style & 1) != 0;
  const char* const space = (style & 2) != 0 ? "\r\n\t " : "";
  if (kind == Kind::query) {
    for (const auto& [page, visits] : pages.entries) {
      text += text.empty() ? "page=" : "&page=";
      for (const unsigned char c : page) text += fmt::format("%{:02X}", c);
    }
  } else if (kind == Kind::record) {
    for (const auto& [page, visits] : pages.entries) {
      text += fmt::format("{0}{{{1}{0}:{2}}}{0}", space, quoted(page, escapes), visits);
    }
  } else {
    for (const auto& [page, visits] : pages.entries) text += (text.empty() ? "[" : ",") + quoted(page, escapes) + space;
    text += ']';
  }
  return text;
}

/// A JSON array of valid ids is taken: all of it, in its order.
void check_plain_array(std::string_view text, const Pages& pages, Kind kind, const Limits& limits) {
  // To this library a NUL ends a document, to us it is a value that is none.
  if (text.find('\0') != text.npos) return;
  const auto document = nlohmann::json::parse(text, nullptr, false);
  if (!document.is_array() || document.empty()) return;
  std::vector<std::string> ids;
  for (const auto& entry : document) {
    if (!entry.is_string()) return;
    ids.push_back(entry.get<std::string>());
    if (check_page_id(ids.back(), limits.page_id) != PageIdFault::none) {
      require(pages.refusal.has_value(), "an array with an invalid id is refused");
      return;
    }
  }
  if (kind == Kind::read && ids.size() > limits.read) {
    require(pages.refusal == Refusal::too_many_pages, "an array that is too long is refused");
    return;
  }
  require(!pages.refusal, "an array of valid ids is taken");
  if (kind == Kind::record) {
    require(std::ranges::equal(pages.entries, ids, {}, &std::pair<std::string, std::uint32_t>::first),
            "an array is taken in its order");
  } else {
    const std::set<std::string> distinct(ids.begin(), ids.end());
    require(distinct.size() == pages.entries.size(), "each page of an array is read");
  }
}

}  // namespace
}  // namespace visitd

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace visitd;
  Input input(data, size);
  const std::uint8_t how = input.byte();
  const Kind kind = how % 3 == 0 ? Kind::record : how % 3 == 1 ? Kind::read : Kind::query;
  const Limits limits{.page_id = std::uint32_t{input.byte()} + 1, .read = std::uint32_t{input.byte()} + 1};
  const std::string_view text = input.rest();

  const Pages pages = taken(text, kind, limits);
  if (kind != Kind::query) check_plain_array(text, pages, kind, limits);
  if (pages.refusal) return 0;
  const Pages again = taken(written(pages, kind, how / 3), kind, limits);
  require(!again.refusal && again.entries == pages.entries, "written anew it is the same list");
  return 0;
}
