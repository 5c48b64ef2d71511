// A badge: a label and a message side by side, as an SVG image. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "frontend/images/badge_fonts.hpp"

namespace visitd {

enum class BadgeStyle : std::uint8_t { flat, flat_square, plastic, for_the_badge };

/// "flat", "flat-square", "plastic", "for-the-badge"; nullopt: it is none of them.
[[nodiscard]] std::optional<BadgeStyle> badge_style(std::string_view name) noexcept;
[[nodiscard]] std::string_view name_of(BadgeStyle style) noexcept;

/// A colour, 0xRRGGBB.
using Rgb = std::uint32_t;

/// Three or six hex digits, with or without "#", or a name that shields.io documents ("brightgreen", "informational");
/// nullopt: it is no colour.
[[nodiscard]] std::optional<Rgb> badge_color(std::string_view text) noexcept;

inline constexpr Rgb blue = 0x007EC6;
inline constexpr Rgb red = 0xE05D44;
inline constexpr Rgb grey = 0x555555;
inline constexpr Rgb light_grey = 0x9F9F9F;

/// What a badge shows, and how. The texts are valid UTF-8 without control characters.
struct BadgeLook {
  std::string_view label = "visits";  ///< empty: there is only the message
  std::string_view message;
  BadgeStyle style = BadgeStyle::flat;
  Rgb color = blue;  ///< behind the message
  /// Behind the label; nullopt: grey, and darker where the reader prefers dark pages.
  std::optional<Rgb> label_color{};
  /// Of the texts; nullopt: black or white, what is easier to read there.
  std::optional<Rgb> text_color{};
  /// In which they are drawn; nullptr: the usual font.
  const BadgeFont* font = nullptr;
  /// All of it is drawn so large that its text has this size, tenths of a pixel; 0: as large as its style is.
  unsigned size_tenths = 0;
  std::string_view description{};  ///< longer than the message, for who cannot see it; empty: label and message
};

/// Appends the image.
void draw_badge(const BadgeLook& look, std::string& out);

/// Whether white text on this colour is easier to read than black text: the contrast of WCAG 2.
[[nodiscard]] bool is_dark(Rgb color) noexcept;

/// Appends a text of valid UTF-8 so that it is one in XML, in and outside of quotes. What XML cannot hold becomes
/// U+FFFD.
void append_xml(std::string_view text, std::string& out);

}  // namespace visitd
