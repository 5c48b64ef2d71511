// Characters and words of ASCII, whatever the locale says: what parsers and writers of text share.
#pragma once

#include <algorithm>
#include <charconv>
#include <concepts>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

namespace visitd {

inline constexpr std::string_view hex_digits = "0123456789abcdef";

[[nodiscard]] constexpr bool is_digit(char c) noexcept {
  return c >= '0' && c <= '9';
}
[[nodiscard]] constexpr bool is_letter(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
/// What stands in a URI without percent-encoding, wherever it stands (RFC 3986).
[[nodiscard]] constexpr bool is_unreserved(char c) noexcept {
  return is_letter(c) || is_digit(c) || c == '-' || c == '.' || c == '_' || c == '~';
}
/// A space or a tab.
[[nodiscard]] constexpr bool is_blank(char c) noexcept {
  return c == ' ' || c == '\t';
}
/// A space, a tab, or a byte of a line break.
[[nodiscard]] constexpr bool is_space(char c) noexcept {
  return is_blank(c) || c == '\r' || c == '\n';
}
/// -1: not a hex digit.
[[nodiscard]] constexpr int hex_value(char c) noexcept {
  if (is_digit(c)) return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/// Without the white space around it.
[[nodiscard]] constexpr std::string_view trim(std::string_view text) noexcept {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

/// What stands before the next separator, or all of it; the text begins behind that.
[[nodiscard]] constexpr std::string_view take_until(std::string_view& text, char separator) noexcept {
  const std::size_t end = std::min(text.find(separator), text.size());
  const std::string_view part = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return part;
}

/// Whether `text` is `lower`, which holds no capital letters, in any case.
[[nodiscard]] constexpr bool is_same_word(std::string_view text, std::string_view lower) noexcept {
  return std::equal(text.begin(), text.end(), lower.begin(), lower.end(),
                    [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a | 0x20 : a) == b; });
}

/// The text with a to z in the place of A to Z, and the other way round.
[[nodiscard]] std::string lower_case(std::string_view text);
[[nodiscard]] std::string upper_case(std::string_view text);

/// Whether the text is what the pattern says: "*" stands for any characters, slashes too, "?" for one byte, all else
/// for itself.
[[nodiscard]] bool matches(std::string_view pattern, std::string_view text) noexcept;

/// Percent-decodes, once, into `buffer`, which is at least as large; `space`: the character that stands for a space,
/// '%': none does. nullopt: an escape is not two hex digits.
[[nodiscard]] std::optional<std::string_view> percent_decode(std::string_view text, char space,
                                                             std::span<char> buffer) noexcept;

/// The same, into a text of its own; no character stands for a space.
[[nodiscard]] std::optional<std::string> percent_decoded(std::string_view text);

/// The text, every byte of it encoded that is not unreserved; `space`: what stands for a space, '%': its encoding.
[[nodiscard]] std::string percent_encoded(std::string_view text, char space = '%');

/// Appends each part to a text or buffer that takes it.
template <typename Out, typename... Parts>
void append_all(Out& out, const Parts&... parts) {
  (out.append(parts), ...);
}

/// False: the text is no decimal number that fits.
template <std::unsigned_integral Number>
[[nodiscard]] bool parse_decimal(std::string_view text, Number& number) noexcept {
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
  return failed == std::errc{} && end == text.data() + text.size();
}

/// 16 hex digits.
[[nodiscard]] std::string hex(std::uint64_t number);
/// False: the text is no hexadecimal number of 64 bits.
[[nodiscard]] bool parse_hex(std::string_view text, std::uint64_t& number) noexcept;

}  // namespace visitd
