#include "frontend/images/text_width.hpp"

#include <cstddef>
#include <cstdint>

#include "common/os/utf8.hpp"
#include "frontend/images/text_widths.hpp"

namespace visitd {

namespace {

/// Scripts whose characters are squares (Unicode, EastAsianWidth.txt: W and F, by whole blocks), and emoji.
bool is_square(std::uint32_t code_point) noexcept {
  struct Blocks {
    std::uint32_t first, last;
  };
  constexpr Blocks squares[] = {{0x1100, 0x115F}, {0x2E80, 0xA4CF}, {0xAC00, 0xD7A3},   {0xF900, 0xFAFF},
                                {0xFE30, 0xFE4F}, {0xFF00, 0xFF60}, {0x1F300, 0x1FAFF}, {0x20000, 0x3FFFD}};
  for (const Blocks& blocks : squares) {
    if (code_point >= blocks.first && code_point <= blocks.last) return true;
  }
  return false;
}

unsigned units_of(std::uint32_t code_point) noexcept {
  if (code_point >= first_measured && code_point - first_measured < measured_widths.size())
    return measured_widths[code_point - first_measured];
  return is_square(code_point) ? text_width_units : measured_widths['n' - first_measured];
}

}  // namespace

unsigned characters_of(std::string_view text) noexcept {
  unsigned characters = 0;
  for (const char c : text) characters += is_continuation(c) ? 0 : 1;
  return characters;
}

unsigned text_width(std::string_view text, unsigned size) noexcept {
  unsigned units = 0;
  while (!text.empty()) {
    std::uint32_t code_point = 0;
    const std::size_t length = decode_utf8(text, code_point);
    if (length == 0) break;
    units += units_of(code_point);
    text.remove_prefix(length);
  }
  return (units * size * 10 + text_width_units / 2) / text_width_units;
}

}  // namespace visitd
