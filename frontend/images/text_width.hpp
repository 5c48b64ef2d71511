// How wide a text is when it is drawn, so that what surrounds it fits. Pure.
#pragma once

#include <string_view>

namespace visitd {

/// The width in tenths of a pixel of a text of valid UTF-8 in DejaVu Sans of `size` pixels. What the table of
/// text_widths.hpp lacks is taken for as wide as a letter, or, of scripts of full width and emoji, as a square.
[[nodiscard]] unsigned text_width(std::string_view text, unsigned size) noexcept;

}  // namespace visitd
