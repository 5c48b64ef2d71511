#include "frontend/images/badge.hpp"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <utility>

#include "common/os/text.hpp"
#include "common/os/utf8.hpp"
#include "frontend/images/text_width.hpp"

namespace visitd {

namespace {

/// What distinguishes the styles; lengths in pixels.
struct Shape {
  std::string_view name;
  unsigned height;
  unsigned font_size;
  unsigned padding;  ///< on each side of a text
  unsigned corner;
  unsigned letter_spacing;  ///< tenths
  bool capitals;
  std::string_view light;  ///< how strong the light from above is; empty: none
};

constexpr std::array<Shape, 4> shapes{{
    {"flat", 20, 11, 6, 3, 0, false, ".1"},
    {"flat-square", 20, 11, 6, 0, 0, false, ""},
    {"plastic", 18, 11, 6, 4, 0, false, ".25"},
    {"for-the-badge", 28, 10, 10, 0, 12, true, ""},
}};

constexpr std::pair<std::string_view, Rgb> named_colors[] = {
    {"brightgreen", 0x44CC11},
    {"green", 0x97CA00},
    {"yellowgreen", 0xA4A61D},
    {"yellow", 0xDFB317},
    {"orange", 0xFE7D37},
    {"red", red},
    {"blue", blue},
    {"grey", grey},
    {"gray", grey},
    {"lightgrey", light_grey},
    {"lightgray", light_grey},
    {"success", 0x44CC11},
    {"important", 0xFE7D37},
    {"critical", red},
    {"informational", blue},
    {"inactive", light_grey},
    {"black", 0x000000},
    {"white", 0xFFFFFF},
};

/// One half of the badge.
struct Part {
  std::string text;
  Rgb behind;
  unsigned left = 0;    ///< pixels
  unsigned width = 0;   ///< pixels; 0: the badge has no such half
  unsigned length = 0;  ///< of the text: tenths of a pixel
};

Part part_of(std::string_view text, Rgb behind, unsigned left, const Shape& shape, const BadgeFont& font) {
  Part part{shape.capitals ? upper_case(text) : std::string(text), behind, left};
  if (part.text.empty()) return part;
  part.length = text_width(part.text, shape.font_size, font) + shape.letter_spacing * characters_of(part.text);
  part.width = (part.length + 9) / 10 + 2 * shape.padding;
  return part;
}

void append_text(const Part& part, const BadgeLook& look, const Shape& shape, std::string& out) {
  if (part.width == 0) return;
  const Rgb color = look.text_color.value_or(is_dark(part.behind) ? 0xFFFFFF : 0x111111);
  const unsigned middle_tenths = part.left * 10 + part.width * 5;
  // Wide letters would be drawn wider still.
  const std::string_view adjusted = shape.letter_spacing == 0 ? "spacingAndGlyphs" : "spacing";
  fmt::format_to(std::back_inserter(out),
                 R"(<text x="{}.{}" y="{}" fill="#{:06x}" textLength="{}.{}" lengthAdjust="{}">)", middle_tenths / 10,
                 middle_tenths % 10, shape.height / 2 + 4, color, part.length / 10, part.length % 10, adjusted);
  append_xml(part.text, out);
  out += "</text>";
}

void append_described(const BadgeLook& look, std::string& out) {
  if (look.description.empty()) {
    append_xml(look.label, out);
    if (!look.label.empty()) out += ": ";
    append_xml(look.message, out);
  } else {
    append_xml(look.description, out);
  }
}

/// The image's size; where it is drawn larger or smaller, its own comes after it.
void append_size(unsigned width, const BadgeLook& look, const Shape& shape, std::string& out) {
  const unsigned own_tenths = 10 * shape.font_size;
  if (look.size_tenths == 0 || look.size_tenths == own_tenths) {
    fmt::format_to(std::back_inserter(out), R"(width="{}" height="{}")", width, shape.height);
    return;
  }
  const auto scaled = [&](unsigned length) { return (10 * length * look.size_tenths + own_tenths / 2) / own_tenths; };
  const unsigned wide = scaled(width);
  const unsigned high = scaled(shape.height);
  fmt::format_to(std::back_inserter(out), R"(width="{}.{}" height="{}.{}" viewBox="0 0 {} {}")", wide / 10, wide % 10,
                 high / 10, high % 10, width, shape.height);
}

double linear(unsigned channel) noexcept {
  const double value = channel / 255.0;
  return value <= 0.04045 ? value / 12.92 : std::pow((value + 0.055) / 1.055, 2.4);
}

}  // namespace

std::optional<BadgeStyle> badge_style(std::string_view name) noexcept {
  for (std::size_t style = 0; style < shapes.size(); ++style) {
    if (shapes[style].name == name) return static_cast<BadgeStyle>(style);
  }
  return std::nullopt;
}

std::string_view name_of(BadgeStyle style) noexcept {
  return shapes[static_cast<std::size_t>(style)].name;
}

std::optional<Rgb> badge_color(std::string_view text) noexcept {
  for (const auto& [name, color] : named_colors) {
    if (is_same_word(text, name)) return color;
  }
  if (text.starts_with('#')) text.remove_prefix(1);
  if (text.size() != 3 && text.size() != 6) return std::nullopt;
  Rgb color = 0;
  for (const char digit : text) {
    const int value = hex_value(digit);
    if (value < 0) return std::nullopt;
    color = color << 4U | static_cast<Rgb>(value);
    if (text.size() == 3) color = color << 4U | static_cast<Rgb>(value);
  }
  return color;
}

bool is_dark(Rgb color) noexcept {
  const double luminance =
      0.2126 * linear(color >> 16U) + 0.7152 * linear(color >> 8U & 0xFFU) + 0.0722 * linear(color & 0xFFU);
  const double with_white = 1.05 / (luminance + 0.05);
  const double with_black = (luminance + 0.05) / 0.05;
  // Of colours in the middle readers find white text easier than the formula does.
  return with_white >= 3.0 || with_white >= with_black;
}

void append_xml(std::string_view text, std::string& out) {
  while (!text.empty()) {
    std::uint32_t code_point = 0;
    const std::size_t length = decode_utf8(text, code_point);
    if (length == 0) return;
    switch (code_point) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += is_control_character(code_point) || code_point == 0xFFFE || code_point == 0xFFFF
                   ? "\uFFFD"
                   : text.substr(0, length);
    }
    text.remove_prefix(length);
  }
}

void draw_badge(const BadgeLook& look, std::string& out) {
  const Shape& shape = shapes[static_cast<std::size_t>(look.style)];
  const BadgeFont& font = look.font == nullptr ? usual_badge_font() : *look.font;
  const Part label = part_of(look.label, look.label_color.value_or(grey), 0, shape, font);
  const Part message = part_of(look.message, look.color, label.width, shape, font);
  const unsigned width = label.width + message.width;
  const auto write = [&out]<typename... Values>(fmt::format_string<Values...> format, Values&&... values) {
    fmt::format_to(std::back_inserter(out), format, std::forward<Values>(values)...);
  };
  out += R"(<svg xmlns="http://www.w3.org/2000/svg" )";
  append_size(width, look, shape, out);
  out += R"( role="img" aria-label=")";
  append_described(look, out);
  out += "\"><title>";
  append_described(look, out);
  out += "</title>";
  if (!look.label_color) out += "<style>@media(prefers-color-scheme:dark){.l{fill:#30363d}}</style>";
  if (!shape.light.empty()) {
    write(R"(<linearGradient id="s" x2="0" y2="100%"><stop offset="0" stop-color="#fff" stop-opacity="{}"/>)",
          shape.light);
    write(R"(<stop offset="1" stop-opacity="{}"/></linearGradient>)", shape.light);
  }
  write(R"svg(<clipPath id="r"><rect width="{}" height="{}" rx="{}"/></clipPath><g clip-path="url(#r)">)svg", width,
        shape.height, shape.corner);
  write(
      R"(<rect class="l" width="{}" height="{}" fill="#{:06x}"/><rect x="{}" width="{}" height="{}" fill="#{:06x}"/>)",
      label.width, shape.height, label.behind, label.width, message.width, shape.height, message.behind);
  if (!shape.light.empty()) write(R"svg(<rect width="{}" height="{}" fill="url(#s)"/>)svg", width, shape.height);
  write(R"(</g><g text-anchor="middle" font-family="{}"{}{} font-size="{}">)", font.families,
        font.is_bold ? R"( font-weight="bold")" : "", font.is_italic ? R"( font-style="italic")" : "", shape.font_size);
  append_text(label, look, shape, out);
  append_text(message, look, shape, out);
  out += "</g></svg>";
}

}  // namespace visitd
