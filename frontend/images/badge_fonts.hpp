// The fonts that a badge may ask for, and how wide a text is in each. Pure.
#pragma once

#include <string_view>

namespace visitd {

struct BadgeFont {
  std::string_view name;
  std::string_view families;  ///< as font-family lists them
  bool is_bold = false;
  bool is_italic = false;
  unsigned width = 1000;   ///< of a text: thousandths of what it has in the usual font
  unsigned character = 0;  ///< width of each character, thousandths of the font's size; 0: they differ
};

/// What badges are drawn in that ask for no font.
[[nodiscard]] const BadgeFont& usual_badge_font() noexcept;
/// The font that abacus calls so. If it has none of this name: the usual one.
[[nodiscard]] const BadgeFont& badge_font(std::string_view name) noexcept;

/// The width in tenths of a pixel of a text of valid UTF-8 in a font of `size` pixels.
[[nodiscard]] unsigned text_width(std::string_view text, unsigned size, const BadgeFont& font) noexcept;

}  // namespace visitd
