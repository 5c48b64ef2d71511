#include "frontend/images/badge_fonts.hpp"

#include <array>

#include "frontend/images/text_width.hpp"

namespace visitd {

namespace {

constexpr std::string_view verdana = "Verdana,'DejaVu Sans',sans-serif";
constexpr std::string_view arial = "Arial,Helvetica,sans-serif";

/// Widths: those of the digits, which a badge has the most of.
constexpr std::array<BadgeFont, 9> fonts{{
    {.name = "verdana", .families = verdana},
    {.name = "verdana-bold", .families = verdana, .is_bold = true, .width = 1118},
    {.name = "verdana-bold-italic", .families = verdana, .is_bold = true, .is_italic = true, .width = 1118},
    {.name = "arial", .families = arial, .width = 874},
    {.name = "arial-bold", .families = arial, .is_bold = true, .width = 920},
    {.name = "arial-italic", .families = arial, .is_italic = true, .width = 874},
    {.name = "arial-bold-italic", .families = arial, .is_bold = true, .is_italic = true, .width = 920},
    {.name = "courier-new", .families = "'Courier New',Courier,monospace", .character = 600},
    {.name = "jetbrains-mono", .families = "'JetBrains Mono','Courier New',monospace", .character = 600},
}};

}  // namespace

const BadgeFont& usual_badge_font() noexcept {
  return fonts.front();
}

const BadgeFont& badge_font(std::string_view name) noexcept {
  for (const BadgeFont& font : fonts) {
    if (font.name == name) return font;
  }
  return usual_badge_font();
}

unsigned text_width(std::string_view text, unsigned size, const BadgeFont& font) noexcept {
  if (font.character != 0) return (characters_of(text) * size * font.character + 50) / 100;
  return (text_width(text, size) * font.width + 500) / 1000;
}

}  // namespace visitd
