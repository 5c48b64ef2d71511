// What a byte of a head, or of the lines between chunks, may be part of (RFC 9110, 9112).
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "common/os/text.hpp"

namespace visitd {

// One bit a class.
inline constexpr std::uint8_t in_token = 1;
inline constexpr std::uint8_t in_target = 2;
inline constexpr std::uint8_t in_value = 4;

inline constexpr std::array<std::uint8_t, 256> byte_classes = [] {
  std::array<std::uint8_t, 256> classes{};
  for (unsigned c = 0; c < 256; ++c) {
    const char text = static_cast<char>(c);
    const bool is_mark = std::string_view("!#$%&'*+-.^_`|~").find(text) != std::string_view::npos;
    if (is_letter(text) || is_digit(text) || is_mark) classes[c] |= in_token;
    if (c > 0x20 && c < 0x7F && c != '#') classes[c] |= in_target;
    if (c == '\t' || (c >= 0x20 && c != 0x7F)) classes[c] |= in_value;
  }
  return classes;
}();

[[nodiscard]] inline bool is_in(char c, std::uint8_t byte_class) noexcept {
  return (byte_classes[static_cast<unsigned char>(c)] & byte_class) != 0;
}

}  // namespace visitd
