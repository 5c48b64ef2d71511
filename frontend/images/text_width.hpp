// How wide a text is when it is drawn, so that what surrounds it fits. Pure.
#pragma once

#include <string_view>

namespace visitd {

/// How many characters a text of valid UTF-8 has.
[[nodiscard]] unsigned characters_of(std::string_view text) noexcept;

/// The width in tenths of a pixel of a text of valid UTF-8 in DejaVu Sans of `size` pixels. What the table of
/// text_widths.hpp lacks is taken for as wide as a letter, or, of scripts of full width and emoji, as a square.
[[nodiscard]] unsigned text_width(std::string_view text, unsigned size) noexcept;

}  // namespace visitd
