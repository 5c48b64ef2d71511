// How names of header fields and the like are compared: in any case.
#pragma once

#include <algorithm>
#include <string_view>

namespace visitd {

/// Whether `text` is `lower`, which holds no capital letters, in any case.
[[nodiscard]] inline bool is_same_word(std::string_view text, std::string_view lower) noexcept {
  return std::equal(text.begin(), text.end(), lower.begin(), lower.end(),
                    [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a | 0x20 : a) == b; });
}

}  // namespace visitd
