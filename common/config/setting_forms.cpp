#include "common/config/setting_forms.hpp"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <iterator>
#include <string>

#include "common/os/ip_network.hpp"
#include "common/os/text.hpp"
#include "common/os/unix_address.hpp"
#include "common/pages/page_rules.hpp"
#include "common/shm/page_id.hpp"

namespace visitd::setting {

namespace {

constexpr std::string_view unix_scheme = "unix:";

bool is_of_name(char c) noexcept {
  return is_letter(c) || is_digit(c) || c == '-' || c == '_';
}

}  // namespace

bool is_absolute_path(std::string_view text) {
  return text.starts_with('/') && text.find('\0') == std::string_view::npos;
}

bool is_absolute_path_or_empty(std::string_view text) {
  return text.empty() || is_absolute_path(text);
}

bool is_host_name_or_empty(std::string_view text) {
  return std::ranges::all_of(
      text, [](char c) { return is_letter(c) || is_digit(c) || c == '-' || c == '.' || c == '_' || c == ':'; });
}

bool is_api_prefix(std::string_view text) {
  if (text.empty()) return true;
  if (!text.starts_with('/') || text.ends_with('/') || text.find("//") != std::string_view::npos) return false;
  // All that follows these is a page id: below them a path would name one page with the prefix and another without it.
  const std::string start = std::string(text) + '/';
  if (start.starts_with("/visit/") || start.starts_with("/visits/")) return false;
  const auto dots = [&](std::string_view segment) {
    return text.ends_with(segment) || text.find(std::string(segment) + '/') != text.npos;
  };
  return !dots("/.") && !dots("/..") && std::ranges::all_of(text, [](char c) { return c == '/' || is_unreserved(c); });
}

bool is_listen_address(std::string_view text) {
  if (text.starts_with(unix_scheme)) {
    const std::string_view path = text.substr(unix_scheme.size());
    return is_absolute_path(path) && !path.ends_with('/') && path.size() <= unix_path_limit_bytes;
  }
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return false;
  const std::string_view host = text.substr(0, colon);
  const std::string_view port = text.substr(colon + 1);
  std::uint16_t number = 0;
  const auto [end, failed] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (failed != std::errc{} || end != port.data() + port.size() || number == 0) return false;
  if (host.starts_with('[')) {
    return host.size() > 3 && host.ends_with(']') &&
           host.find_first_not_of("0123456789abcdefABCDEF:.", 1) == host.size() - 1;
  }
  return std::ranges::all_of(host, is_unreserved);
}

bool is_network(std::string_view text) {
  return IpNetwork::parse(text).has_value();
}

bool is_origin(std::string_view text) {
  if (text == "*") return true;
  const std::size_t scheme = text.find("://");
  if (scheme == std::string_view::npos || scheme == 0 || scheme + 3 == text.size()) return false;
  // Browsers write an origin in lower case, and it is compared byte by byte.
  const auto lower_case = [](char c) { return is_unreserved(c) && !(c >= 'A' && c <= 'Z'); };
  return std::ranges::all_of(text.substr(0, scheme), lower_case) &&
         std::ranges::all_of(text.substr(scheme + 3),
                             [&](char c) { return lower_case(c) || c == ':' || c == '[' || c == ']'; });
}

bool is_one_origin(std::string_view text) {
  return text != "*" && is_origin(text);
}

bool is_pattern(std::string_view text) {
  return check_page_id(text, max_page_id_bytes) == PageIdFault::none;
}

bool is_page_rule(std::string_view text) {
  return is_pattern(text) && PageRule::parse(text).has_value();
}

bool is_script_path(std::string_view text) {
  constexpr std::string_view ending = ".js";
  return text.starts_with('/') && text.ends_with(ending) && text.size() > 1 + ending.size() &&
         std::ranges::all_of(text.substr(1, text.size() - 1 - ending.size()), is_of_name);
}

bool is_visit_path(std::string_view text) {
  if (text.empty()) return true;
  constexpr std::string_view taken[] = {"/visit/", "/visits/", "/pixel/", "/badge/"};
  return text.starts_with('/') && text.ends_with('/') && text.size() > 2 &&
         std::ranges::find(taken, text) == std::end(taken) &&
         std::ranges::all_of(text.substr(1, text.size() - 2), is_of_name);
}

bool is_shape(std::string_view text) {
  constexpr std::string_view shapes[] = {"countapi", "abacus", "goatcounter", "busuanzi", "vercount", "hits"};
  return std::ranges::find(shapes, text) != std::end(shapes);
}

bool is_agent_part(std::string_view text) {
  constexpr std::size_t most_bytes = 256;
  return !text.empty() && text.size() <= most_bytes &&
         std::ranges::all_of(text, [](char c) { return c >= ' ' && c <= '~'; });
}

bool is_not_empty(std::string_view text) {
  return !text.empty();
}

bool is_utf8(std::string_view text) noexcept {
  return check_page_id(text, text.size()) != PageIdFault::invalid_utf8;
}

bool is_password(std::string_view text) noexcept {
  return text.find('\0') == std::string_view::npos;
}

}  // namespace visitd::setting
