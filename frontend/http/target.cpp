#include "frontend/http/target.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "common/os/text.hpp"

namespace visitd {

namespace {

/// What a registered name may hold (RFC 3986), but percent-encoding, which no host needs.
constexpr std::array<bool, 256> name_characters = [] {
  std::array<bool, 256> allowed{};
  for (unsigned c = 'a'; c <= 'z'; ++c) allowed[c] = allowed[c - 0x20] = true;
  for (unsigned c = '0'; c <= '9'; ++c) allowed[c] = true;
  for (const char c : std::string_view("-._~!$&'()*+,;=")) allowed[static_cast<unsigned char>(c)] = true;
  return allowed;
}();

bool is_name_character(char c) noexcept {
  return name_characters[static_cast<unsigned char>(c)];
}

bool is_address_character(char c) noexcept {
  return hex_value(c) >= 0 || c == ':' || c == '.';
}

/// Whether this is a colon and at most five digits.
bool is_port(std::string_view text) noexcept {
  if (text.front() != ':' || text.size() > 6) return false;
  for (const char c : text.substr(1)) {
    if (!is_digit(c)) return false;
  }
  return true;
}

/// The length of "http://" or "https://" at the start of a target; 0: neither.
std::size_t scheme_length(std::string_view target) noexcept {
  for (const std::string_view scheme : {std::string_view("http://"), std::string_view("https://")}) {
    if (is_same_word(target.substr(0, scheme.size()), scheme)) return scheme.size();
  }
  return 0;
}

TargetParts split_query(std::string_view path) noexcept {
  const std::size_t question = std::min(path.find('?'), path.size());
  return {path.substr(0, question), path.substr(std::min(question + 1, path.size()))};
}

}  // namespace

bool is_host(std::string_view text) noexcept {
  std::size_t end = 0;
  if (!text.empty() && text.front() == '[') {
    end = 1;
    while (end < text.size() && is_address_character(text[end])) ++end;
    if (end < 3 || end == text.size() || text[end] != ']') return false;
    ++end;
  } else {
    while (end < text.size() && is_name_character(text[end])) ++end;
    if (end == 0) return false;
  }
  return end == text.size() || is_port(text.substr(end));
}

std::optional<TargetParts> parts_of_target(std::string_view target) noexcept {
  if (target.empty()) return std::nullopt;
  if (target.front() == '/') return split_query(target);
  if (target == "*") return TargetParts{target, {}};
  const std::size_t scheme = scheme_length(target);
  if (scheme == 0) return std::nullopt;
  const std::string_view rest = target.substr(scheme);
  const std::size_t authority = std::min(rest.find_first_of("/?"), rest.size());
  if (!is_host(rest.substr(0, authority))) return std::nullopt;
  TargetParts parts = split_query(rest.substr(authority));
  if (parts.path.empty()) parts.path = "/";
  return parts;
}

bool names_parameter(std::string_view query, std::string_view name) noexcept {
  while (!query.empty()) {
    std::string_view parameter = take_until(query, '&');
    if (take_until(parameter, '=') == name) return true;
  }
  return false;
}

std::optional<std::string_view> decode_path(std::string_view encoded, std::span<char> buffer) noexcept {
  if (std::memchr(encoded.data(), '%', encoded.size()) == nullptr) return encoded;
  return percent_decode(encoded, '%', buffer);
}

std::optional<std::string_view> decode_form(std::string_view text, std::span<char> buffer) noexcept {
  return percent_decode(text, '+', buffer);
}

}  // namespace visitd
