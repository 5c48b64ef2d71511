// UTF-8 (RFC 3629), one code point at a time. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace visitd {

/// Whether a byte stands behind the first one of a character.
[[nodiscard]] constexpr bool is_continuation(char byte) noexcept {
  return (static_cast<unsigned char>(byte) & 0xC0U) == 0x80U;
}

/// The length in bytes of the UTF-8 sequence at the start of `text`, and its code point; 0: there is none. `text` is
/// not empty.
[[nodiscard]] inline std::size_t decode_utf8(std::string_view text, std::uint32_t& code_point) noexcept {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) {
    code_point = lead;
    return 1;
  }
  const std::size_t length = lead >= 0xF0 && lead <= 0xF4   ? 4
                             : lead >= 0xE0 && lead <= 0xEF ? 3
                             : lead >= 0xC2 && lead <= 0xDF ? 2
                                                            : 0;
  if (length == 0 || length > text.size()) return 0;
  code_point = lead & (0x7FU >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if (!is_continuation(text[i])) return 0;
    code_point = code_point << 6U | (byte(i) & 0x3FU);
  }
  constexpr std::uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = code_point >= 0xD800 && code_point <= 0xDFFF;
  return code_point < least[length] || code_point > 0x10FFFF || surrogate ? 0 : length;
}

/// As much of the text's beginning as has at most `most` bytes, and cuts no character in two.
[[nodiscard]] constexpr std::string_view first_characters(std::string_view text, std::size_t most) noexcept {
  if (text.size() <= most) return text;
  std::size_t end = most;
  // A character has at most four bytes; what has more of its kind is no UTF-8, and is cut where it is.
  while (end > 0 && most - end < 3 && is_continuation(text[end])) --end;
  return text.substr(0, end);
}

/// Whether a text may not be shown as it is: C0, DEL and C1.
[[nodiscard]] constexpr bool is_control_character(std::uint32_t code_point) noexcept {
  return code_point < 0x20 || (code_point >= 0x7F && code_point <= 0x9F);
}

}  // namespace visitd
