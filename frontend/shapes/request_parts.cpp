#include "frontend/shapes/request_parts.hpp"

#include <charconv>
#include <system_error>

#include "common/os/text.hpp"
#include "frontend/http/target.hpp"
#include "frontend/images/count_format.hpp"

namespace visitd {

namespace {

bool begins_identifier(char c) noexcept {
  return is_letter(c) || c == '_' || c == '$';
}

bool is_identifier(std::string_view text) noexcept {
  if (text.empty() || !begins_identifier(text.front())) return false;
  for (const char c : text) {
    if (!begins_identifier(c) && !is_digit(c)) return false;
  }
  return true;
}

}  // namespace

std::optional<std::string> parameter_of(std::string_view query, std::string_view name) {
  while (!query.empty()) {
    std::string_view value = take_until(query, '&');
    if (take_until(value, '=') != name) continue;
    std::string buffer(value.size(), '\0');
    const auto decoded = decode_form(value, buffer);
    if (!decoded) return std::nullopt;
    return std::string(*decoded);
  }
  return std::nullopt;
}

std::optional<std::int64_t> whole_number(std::string_view text) noexcept {
  std::int64_t number = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failed != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

bool is_callback(std::string_view name) noexcept {
  if (name.empty() || name.size() > callback_limit_bytes || name.back() == '.') return false;
  while (!name.empty()) {
    if (!is_identifier(take_until(name, '.'))) return false;
  }
  return true;
}

std::optional<SitePage> web_page_of(std::string_view url) {
  const std::string_view scheme = url.substr(0, url.find(':'));
  if (!is_same_word(scheme, "http") && !is_same_word(scheme, "https")) return std::nullopt;
  auto page = page_of_url(url);
  if (page && !is_host(page->host)) page.reset();
  return page;
}

std::string grouped(std::uint64_t count) {
  std::string text;
  append_count(count, {.group = "\u202F"}, false, text);  // a narrow no-break space
  return text;
}

}  // namespace visitd
