#include "common/os/text.hpp"

#include <cassert>
#include <charconv>
#include <cstddef>

namespace visitd {

std::optional<std::string_view> percent_decode(std::string_view text, char space, std::span<char> buffer) noexcept {
  assert(buffer.size() >= text.size());
  std::size_t size = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      buffer[size++] = text[i] == space ? ' ' : text[i];
      continue;
    }
    if (text.size() - i < 3) return std::nullopt;
    const int high = hex_value(text[i + 1]);
    const int low = hex_value(text[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    buffer[size++] = static_cast<char>(high * 16 + low);
    i += 2;
  }
  return std::string_view(buffer.data(), size);
}

std::optional<std::string> percent_decoded(std::string_view text) {
  std::string buffer(text.size(), '\0');
  const auto decoded = percent_decode(text, '%', buffer);
  if (!decoded) return std::nullopt;
  buffer.resize(decoded->size());
  return buffer;
}

std::string percent_encoded(std::string_view text, char space) {
  constexpr std::string_view digits = "0123456789ABCDEF";
  std::string encoded;
  for (const char c : text) {
    if (is_unreserved(c)) {
      encoded += c;
    } else if (c == ' ' && space != '%') {
      encoded += space;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      encoded += {'%', digits[byte >> 4U], digits[byte & 0xFU]};
    }
  }
  return encoded;
}

std::string lower_case(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return result;
}

std::string upper_case(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  return result;
}

std::string hex(std::uint64_t number) {
  std::string text(16, '0');
  for (auto digit = text.rbegin(); digit != text.rend(); ++digit, number >>= 4U) *digit = hex_digits[number & 0xFU];
  return text;
}

bool parse_hex(std::string_view text, std::uint64_t& number) noexcept {
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number, 16);
  return failed == std::errc{} && end == text.data() + text.size();
}

bool matches(std::string_view pattern, std::string_view text) noexcept {
  constexpr std::size_t none = std::string_view::npos;
  std::size_t in_pattern = 0;
  std::size_t in_text = 0;
  std::size_t star = none;    // the last one that was passed
  std::size_t resume = none;  // where what follows it is looked for next
  while (in_text < text.size()) {
    if (in_pattern < pattern.size() && pattern[in_pattern] == '*') {
      star = in_pattern++;
      resume = in_text;
    } else if (in_pattern < pattern.size() && (pattern[in_pattern] == '?' || pattern[in_pattern] == text[in_text])) {
      ++in_pattern;
      ++in_text;
    } else if (star != none) {
      in_pattern = star + 1;
      in_text = ++resume;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', in_pattern) == none;
}

}  // namespace visitd
