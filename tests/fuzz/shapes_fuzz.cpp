// What clients of other counters say, in the parts that name pages and functions: what is accepted keeps to the rules.
//
// Input: which part it is, then the text.
#include <algorithm>
#include <optional>
#include <string>
#include <string_view>

#include "common/os/text.hpp"
#include "common/shm/page_id.hpp"
#include "frontend/http/target.hpp"
#include "frontend/shapes/goatcounter_paths.hpp"
#include "frontend/shapes/key_names.hpp"
#include "frontend/shapes/request_parts.hpp"
#include "frontend/shapes/vercount_body.hpp"
#include "frontend/shapes/vercount_pages.hpp"
#include "tests/fuzz/fuzzing.hpp"

namespace visitd {
namespace {

using fuzzing::Exact;
using fuzzing::Input;
using fuzzing::require;

void check_callback(std::string_view text) {
  const auto begins = [](char c) { return is_letter(c) || c == '_' || c == '$'; };
  bool at_start = true;
  bool plain = !text.empty() && text.size() <= callback_limit_bytes;
  for (const char c : text) {
    plain = plain && (at_start ? begins(c) : begins(c) || is_digit(c) || c == '.');
    at_start = c == '.';
  }
  require(is_callback(text) == (plain && !at_start), "a callback is what the rule says");
}

void check_key(std::string_view text, const std::optional<SitePage>& caller) {
  const KeyOfPath found = key_of_path(text, caller);
  if (found.fault == KeyOfPath::Fault::invalid) require(!found.problem.empty(), "what is refused is explained");
  if (found.fault != KeyOfPath::Fault::none) return;
  require(is_key_name(found.key.space) && is_key_name(found.key.name), "a key keeps to the pattern");
  const KeyOfPath again = key_of_path(found.key.page(), std::nullopt);
  require(again.fault == KeyOfPath::Fault::none && again.key.page() == found.key.page(), "its page is its key");
}

void check_goatcounter(std::string_view text, bool is_event) {
  const std::string page = goatcounter_page(text, is_event);
  if (is_event) return require(!page.starts_with('/'), "an event has no slash before it");
  require(page.empty() == trim(text).empty(), "a path names a page");
  if (page.empty()) return;
  require(page.starts_with('/') && !page.starts_with("//"), "a page has one slash before it");
  require(page == "/" || !page.ends_with('/'), "and none behind it");
  require(page.find("utm_") == std::string::npos || text.find('?') == std::string_view::npos ||
              page.find("?utm_") == std::string::npos,
          "no page tells of a campaign");
}

void check_addresses(std::string_view text) {
  if (const auto page = web_page_of(text)) {
    require(is_host(page->host) && page->path.starts_with('/'), "a page of the web has a host, and a path");
  }
  const VercountPage found = vercount_page_of(text);
  if (!found.problem.empty()) return;
  const std::string& path = found.page.path;
  require(is_host(found.page.host) && path.starts_with('/') && path.size() <= 200, "a page is no longer than allowed");
  require(std::ranges::none_of(found.page.host, [](char c) { return c >= 'A' && c <= 'Z'; }), "hosts are lower case");
  const auto whole = web_page_of(trim(text));
  const auto is_text = [](std::string_view id) { return check_page_id(id, 1 << 16) != PageIdFault::invalid_utf8; };
  if (whole && is_text(whole->path)) require(is_text(path), "no character is cut in two");
}

void check_parameter(std::string_view query) {
  for (const std::string_view name : {"url", "p", ""}) {
    const auto value = parameter_of(query, name);
    if (value) require(value->size() <= query.size(), "what is decoded is no longer");
    if (value) require(names_parameter(query, name), "it is named");
  }
}

void check_number(std::string_view text) {
  const auto number = whole_number(text);
  if (!number || text.starts_with('0') || text.starts_with("-0")) return;
  require(std::to_string(*number) == text, "a number is written as it was");
  if (*number < 0) return;
  std::string digits = grouped(static_cast<std::uint64_t>(*number));
  std::erase_if(digits, [](char c) { return !is_digit(c); });
  require(digits == text, "in groups it is the same number");
}

void check(Input input) {
  const std::uint8_t part = input.byte();
  const Exact own(input.rest());
  const std::string_view text = own.view();
  switch (part % 7) {
    case 0:
      return check_callback(text);
    case 1:
      return check_key(text, std::nullopt);
    case 2:
      return check_key(":HOST:/:PATHNAME:", SitePage{std::string(text), std::string(text)});
    case 3:
      return check_goatcounter(text, part > 127);
    case 4:
      return check_addresses(text);
    case 5:
      return check_parameter(text);
    default:
      check_number(text);
      if (const auto body = vercount_body(text))
        require(body->url.size() <= text.size(), "a body has room for its url");
  }
}

}  // namespace
}  // namespace visitd

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  visitd::check(visitd::fuzzing::Input(data, size));
  return 0;
}
