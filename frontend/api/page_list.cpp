#include "frontend/api/page_list.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <limits>
#include <memory_resource>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "common/os/text.hpp"
#include "common/shm/page_id.hpp"
#include "frontend/http/target.hpp"

namespace visitd {

namespace {

/// Beyond, the memory of a list is given back after use.
constexpr std::size_t usual_bytes = 65536;

/// What the set of the pages of a list takes for each of them, about: a node and a place in the table.
constexpr std::size_t set_bytes_a_page = 56;
constexpr std::uint64_t most_visits = std::numeric_limits<std::uint32_t>::max();

/// Hands bytes to the JSON parser and says, afterwards, how far it went.
class Cursor {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  explicit Cursor(const char*& at) noexcept : at_(&at) {}
  reference operator*() const noexcept { return **at_; }
  Cursor& operator++() noexcept {
    ++*at_;
    return *this;
  }
  friend bool operator==(const Cursor& a, const Cursor& b) noexcept { return *a.at_ == *b.at_; }

 private:
  const char** at_;
};

}  // namespace

/// What the parser calls for each token. False ends the parsing.
class PageList::JsonReader {
 public:
  explicit JsonReader(PageList& list) noexcept : list_(list) {}

  // NOLINTBEGIN(readability-identifier-naming): the parser gives the names
  bool null() { return unwanted(); }
  bool boolean(bool) { return unwanted(); }
  bool number_integer(std::int64_t) { return unwanted(); }
  bool number_float(double, const std::string&) { return unwanted(); }
  bool binary(nlohmann::json::binary_t&) { return unwanted(); }
  bool number_unsigned(std::uint64_t number) {
    if (within_ != Within::object || number == 0 || number > most_visits) return unwanted();
    return list_.add(key_, static_cast<std::uint32_t>(number));
  }
  bool string(std::string& text) { return within_ == Within::object ? unwanted() : list_.add(text, 1); }
  bool key(std::string& text) {
    key_.swap(text);
    return true;
  }
  bool start_array(std::size_t) { return begin(Within::array); }
  bool start_object(std::size_t) { return list_.purpose_ == Purpose::record ? begin(Within::object) : unwanted(); }
  bool end_array() { return end(); }
  bool end_object() { return end(); }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception&) {
    return list_.refuse_json(fmt::format("the body is not JSON in UTF-8; see byte {} of value {}", position, values_));
  }
  // NOLINTEND(readability-identifier-naming)

  /// The value that comes next, from 0: where one is broken, its place is told by this.
  void begin_value(std::size_t number) noexcept { values_ = number; }

 private:
  enum class Within : std::uint8_t { nothing, array, object };

  bool begin(Within what) {
    if (within_ != Within::nothing) return unwanted();
    within_ = what;
    return true;
  }
  bool end() noexcept {
    within_ = Within::nothing;
    return true;
  }
  bool unwanted() {
    if (within_ == Within::object) {
      return list_.refuse({.refusal = Refusal::invalid_visits, .member = "entry", .value = list_.size()});
    }
    return list_.refuse_json(
        list_.purpose_ == Purpose::record
            ? "the body names pages as strings, arrays of strings, or objects of page id and visits"
            : "the body names pages as strings or arrays of strings");
  }

  PageList& list_;
  Within within_ = Within::nothing;
  std::string key_;
  std::size_t values_ = 0;
};

std::optional<Problem> PageList::read_json(std::string_view body, Purpose purpose) {
  start(purpose);
  JsonReader reader(*this);
  const char* at = body.data();
  const char* end = at + body.size();
  for (std::size_t values = 0; !problem_; ++values) {
    at = std::find_if_not(at, end, is_space);
    if (at == end) break;
    reader.begin_value(values);
    nlohmann::json::sax_parse(Cursor(at), Cursor(end), &reader, nlohmann::json::input_format_t::json, false);
  }
  return result();
}

std::optional<Problem> PageList::read_query(std::string_view query) {
  start(Purpose::read);
  std::string buffer(query.size(), '\0');
  while (!query.empty() && !problem_) {
    std::string_view pair = take_until(query, '&');
    if (pair.empty()) continue;
    const auto name = decode_form(take_until(pair, '='), buffer);
    if (!name || *name != "page") {
      refuse({.refusal = Refusal::unknown_parameter});
      break;
    }
    const auto page = decode_form(pair, buffer);
    if (page) {
      add(*page, 1);
    } else {
      refuse({.refusal = Refusal::invalid_percent_encoding, .parameter = "page", .member = "entry", .value = size()});
    }
  }
  return result();
}

std::optional<Problem> PageList::read_ids(std::span<const std::string> ids) {
  start(Purpose::read);
  for (const std::string& id : ids) {
    if (!add(id, 1)) break;
  }
  return result();
}

void PageList::release() noexcept {
  if (bytes() <= usual_bytes) return;
  text_ = std::string();
  entries_ = std::vector<Entry>();
}

void PageList::start(Purpose purpose) noexcept {
  purpose_ = purpose;
  text_.clear();
  entries_.clear();
  longest_ = 0;
  problem_.reset();
}

bool PageList::add(std::string_view page, std::uint32_t visits) {
  if (purpose_ == Purpose::read && size() == read_limit_) {
    detail_ = fmt::format("more pages are named than the {} that http.batch_read_limit allows", read_limit_);
    return refuse({.refusal = Refusal::too_many_pages, .detail = detail_});
  }
  if (const PageIdFault fault = check_page_id(page, page_id_limit_); fault != PageIdFault::none) {
    return refuse_id(describe(fault, page, page_id_limit_));
  }
  const Part asked = append(page);
  Part name = asked;
  if (rules_->any()) {
    const std::string_view named = rules_->name_of(page);
    if (named.empty()) return refuse_id(std::string(nothing_left));
    if (named != page) name = append(named);
  }
  entries_.push_back({asked, name, visits});
  longest_ = std::max<std::size_t>(longest_, name.length);
  return true;
}

PageList::Part PageList::append(std::string_view text) {
  const Part part{static_cast<std::uint32_t>(text_.size()), static_cast<std::uint32_t>(text.size())};
  text_.append(text);
  return part;
}

bool PageList::refuse_id(std::string detail) {
  detail_ = std::move(detail);
  return refuse({.refusal = Refusal::invalid_page_id,
                 .detail = detail_,
                 .parameter = purpose_ == Purpose::record ? "page_id" : "page",
                 .member = "entry",
                 .value = size()});
}

bool PageList::refuse(const Problem& problem) noexcept {
  problem_ = problem;
  return false;
}

bool PageList::refuse_json(std::string detail) {
  detail_ = std::move(detail);
  return refuse({.refusal = Refusal::malformed_json, .detail = detail_});
}

std::optional<Problem> PageList::result() {
  if (!problem_ && entries_.empty()) refuse({.refusal = Refusal::nothing_to_do});
  if (!problem_ && purpose_ == Purpose::read) keep_first_of_each();
  return problem_;
}

void PageList::keep_first_of_each() {
  if (entries_.size() == 1) return;
  // The whole set lies in one piece of memory: a piece for each page would cost more than the look-up itself.
  std::pmr::monotonic_buffer_resource memory(entries_.size() * set_bytes_a_page);
  std::pmr::unordered_set<std::string_view> seen(entries_.size(), &memory);
  std::erase_if(entries_, [&](const Entry& entry) { return !seen.insert(text_of(entry.asked)).second; });
}

}  // namespace visitd
