#include "frontend/images/badge.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "frontend/images/badge_query.hpp"
#include "frontend/images/count_format.hpp"
#include "frontend/images/text_width.hpp"
#include "tests/unit/contains.hpp"

namespace visitd {
namespace {

using test::contains;

std::string shown(std::uint64_t count, std::string_view language, bool abbreviate = false) {
  std::string text;
  append_count(count, number_format(language).value(), abbreviate, text);
  return text;
}

std::string drawn(const BadgeLook& look) {
  std::string image;
  draw_badge(look, image);
  return image;
}

std::string_view wrong_in(std::string_view query) {
  BadgeQuery badge;
  const auto problem = badge.read(query);
  return problem ? problem->parameter : std::string_view("none");
}

TEST_CASE("a count is written as its language writes it") {
  CHECK(shown(1234567, "en") == "1,234,567");
  CHECK(shown(1234567, "de") == "1.234.567");
  CHECK(shown(1234567, "fr") == "1\u202F234\u202F567");
  CHECK(shown(1234567, "de-CH") == "1'234'567");
  CHECK(shown(12345678, "hi") == "1,23,45,678");
  CHECK(shown(999, "de") == "999");
  CHECK(shown(0, "en") == "0");
}

TEST_CASE("some languages group from five digits on") {
  CHECK(shown(1234, "es") == "1234");
  CHECK(shown(12345, "es") == "12.345");
  CHECK(shown(1234, "en") == "1,234");
}

TEST_CASE("a region that is not known is its language, and a language that is not known is none") {
  CHECK(shown(1234, "en-GB") == "1,234");
  CHECK(shown(1234, "DE-at") == "1\u00A0234");
  CHECK_FALSE(number_format("tlh").has_value());
  CHECK_FALSE(number_format("").has_value());
}

TEST_CASE("without a language there are no groups") {
  std::string text;
  append_count(1234567, {}, false, text);
  CHECK(text == "1234567");
}

TEST_CASE("an abbreviated count never shows more than there is") {
  CHECK(shown(999, "en", true) == "999");
  CHECK(shown(1000, "en", true) == "1k");
  CHECK(shown(1999, "en", true) == "1.9k");
  CHECK(shown(1999, "de", true) == "1,9k");
  CHECK(shown(19'999, "en", true) == "19k");
  CHECK(shown(999'999, "en", true) == "999k");
  CHECK(shown(1'000'000, "en", true) == "1M");
  CHECK(shown(9'223'372'036'854'775'807U, "en", true) == "9.2E");
  CHECK(shown(18'446'744'073'709'551'615U, "en", true) == "18E");
}

TEST_CASE("a text is as wide as its characters") {
  CHECK(text_width("", 11) == 0);
  CHECK(text_width("visits", 11) == text_width("vis", 11) + text_width("its", 11));
  CHECK(text_width("W", 11) > text_width("i", 11));
  CHECK(text_width("\u96F6", 11) == 110);
  CHECK(text_width("\U0001F600", 11) == 110);
}

TEST_CASE("a badge holds no markup of its texts") {
  const std::string image = drawn({.label = "<script>&\"'", .message = "</text>"});
  CHECK_FALSE(contains(image, "<script>"));
  CHECK(contains(image, "&lt;script&gt;&amp;&quot;&#39;"));
  CHECK(contains(image, "&lt;/text&gt;"));
}

TEST_CASE("a badge says what it shows to who cannot see it") {
  CHECK(contains(drawn({.message = "12"}), R"(role="img" aria-label="visits: 12"><title>visits: 12</title>)"));
  CHECK(contains(drawn({.label = "", .message = "12"}), R"(aria-label="12")"));
  CHECK(contains(drawn({.message = "no", .description = "no count"}), R"(aria-label="no count")"));
}

TEST_CASE("a badge is as wide as both its texts and the room around them") {
  const unsigned label = (text_width("visits", 11) + 9) / 10 + 12;
  const unsigned message = (text_width("12", 11) + 9) / 10 + 12;
  CHECK(contains(drawn({.message = "12"}), R"( width=")" + std::to_string(label + message) + R"(" height="20")"));
}

TEST_CASE("a badge is drawn in the font that it asks for, which has a width of its own") {
  const auto image = [](std::string_view font) { return drawn({.message = "12", .font = &badge_font(font)}); };
  CHECK(image("verdana") == drawn({.message = "12"}));
  CHECK(image("no font") == drawn({.message = "12"}));
  CHECK(contains(image("arial-bold-italic"),
                 R"(font-family="Arial,Helvetica,sans-serif" font-weight="bold" font-style="italic")"));
  CHECK(contains(image("courier-new"), R"(textLength="13.2")"));  // 0.6 of 11 pixels each
  CHECK(text_width("\u96F6", 10, badge_font("jetbrains-mono")) == 60);
  CHECK(text_width("12", 11, badge_font("arial")) < text_width("12", 11, usual_badge_font()));
}

TEST_CASE("a badge is as large as it is asked for, and its parts with it") {
  const std::string own = drawn({.message = "12"});
  CHECK(drawn({.message = "12", .size_tenths = 110}) == own);
  const unsigned width = (text_width("visits", 11) + 9) / 10 + (text_width("12", 11) + 9) / 10 + 24;
  const std::string twice = drawn({.message = "12", .size_tenths = 220});
  CHECK(contains(twice, "width=\"" + std::to_string(2 * width) + ".0\" height=\"40.0\" viewBox=\"0 0 " +
                            std::to_string(width) + " 20\""));
}

TEST_CASE("a style is drawn, and capitals are where the style has them") {
  CHECK(contains(drawn({.message = "12", .style = BadgeStyle::for_the_badge}), ">VISITS</text>"));
  CHECK_FALSE(contains(drawn({.message = "12", .style = BadgeStyle::flat_square}), "linearGradient"));
  for (const BadgeStyle style :
       {BadgeStyle::flat, BadgeStyle::flat_square, BadgeStyle::plastic, BadgeStyle::for_the_badge}) {
    CHECK(badge_style(name_of(style)) == style);
  }
}

TEST_CASE("a colour is hex digits or a name") {
  CHECK(badge_color("4c1") == 0x44CC11U);
  CHECK(badge_color("#07C") == 0x0077CCU);
  CHECK(badge_color("A1b2C3") == 0xA1B2C3U);
  CHECK(badge_color("BrightGreen") == 0x44CC11U);
  for (const char* none : {"", "#", "12", "12345", "1234567", "nocolour", "gggggg"}) {
    CAPTURE(none);
    CHECK_FALSE(badge_color(none).has_value());
  }
}

TEST_CASE("text is white on dark colours and black on light ones") {
  CHECK(is_dark(0x000000));
  CHECK(is_dark(blue));
  CHECK(is_dark(red));
  CHECK_FALSE(is_dark(0xFFFFFF));
  CHECK_FALSE(is_dark(0x44CC11));
  CHECK_FALSE(is_dark(0xDFB317));
}

TEST_CASE("a query says how a badge looks") {
  BadgeQuery badge;
  CHECK_FALSE(badge.read("label=Be%73uche+%C3%BC&color=red&labelColor=fff&style=plastic&locale=de&abbreviate&count"));
  CHECK(badge.label == "Besuche \u00FC");
  CHECK(badge.color == red);
  CHECK(badge.label_color == 0xFFFFFFU);
  CHECK(badge.style == BadgeStyle::plastic);
  CHECK(badge.format.group == ".");
  CHECK(badge.abbreviate);
  CHECK(badge.counts);
}

TEST_CASE("a query that no badge understands is refused, and the parameter named") {
  CHECK(wrong_in("") == "none");
  CHECK(wrong_in("label=") == "none");
  CHECK(wrong_in("label=%0A") == "label");
  CHECK(wrong_in("label=%FF") == "label");
  CHECK(wrong_in("label=" + std::string(129, 'a')) == "label");
  CHECK(wrong_in("label=" + std::string(128, 'a')) == "none");
  CHECK(wrong_in("label=%4") == "query");
  CHECK(wrong_in("color=javascript:alert(1)") == "color");
  CHECK(wrong_in("labelColor=") == "labelColor");
  CHECK(wrong_in("style=social") == "style");
  CHECK(wrong_in("locale=xx") == "locale");
  CHECK(wrong_in("colour=red") == "query");
}

}  // namespace
}  // namespace visitd
