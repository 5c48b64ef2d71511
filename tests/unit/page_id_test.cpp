#include "common/shm/page_id.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

using visitd::check_page_id;
using visitd::PageIdFault;

namespace {

constexpr std::size_t limit = 255;

/// Unicode's own rule for each code point, written the long way.
std::string encode(std::uint32_t code_point) {
  const auto byte = [](std::uint32_t value) { return static_cast<char>(value); };
  if (code_point < 0x80) return {byte(code_point)};
  if (code_point < 0x800) return {byte(0xC0 | code_point >> 6), byte(0x80 | (code_point & 0x3F))};
  if (code_point < 0x10000) {
    return {byte(0xE0 | code_point >> 12), byte(0x80 | (code_point >> 6 & 0x3F)), byte(0x80 | (code_point & 0x3F))};
  }
  return {byte(0xF0 | code_point >> 18), byte(0x80 | (code_point >> 12 & 0x3F)), byte(0x80 | (code_point >> 6 & 0x3F)),
          byte(0x80 | (code_point & 0x3F))};
}

}  // namespace

TEST_CASE("a page id is one to as many bytes of UTF-8 as the limit says") {
  CHECK(check_page_id("", limit) == PageIdFault::empty);
  CHECK(check_page_id("a", limit) == PageIdFault::none);
  CHECK(check_page_id(std::string(255, 'a'), limit) == PageIdFault::none);
  CHECK(check_page_id(std::string(256, 'a'), limit) == PageIdFault::too_long);
  CHECK(check_page_id(std::string(1024, 'a'), 1024) == PageIdFault::none);
  // The limit counts bytes, not characters: 128 of two bytes each are 256.
  std::string umlauts;
  for (int i = 0; i < 127; ++i) umlauts += "ä";
  CHECK(check_page_id(umlauts, limit) == PageIdFault::none);
  CHECK(check_page_id(umlauts + "ä", limit) == PageIdFault::too_long);
}

TEST_CASE("an ordinary page id of any script is taken as it stands") {
  for (const std::string_view id : {"home", "/blog/2024?x=1", "a b", "Ünïcödé", "日本語", "🙂", "..", "%2F",
                                    "\"quoted\"", "visits:{17}", "\xEF\xBB\xBF", "\xEF\xBF\xBF"}) {
    CAPTURE(id);
    CHECK(check_page_id(id, limit) == PageIdFault::none);
  }
}

TEST_CASE("every code point is taken, but for control characters and surrogates") {
  std::uint32_t wrong = 0;
  for (std::uint32_t code_point = 0; code_point <= 0x10FFFF; ++code_point) {
    const bool control = code_point < 0x20 || (code_point >= 0x7F && code_point <= 0x9F);
    const bool surrogate = code_point >= 0xD800 && code_point <= 0xDFFF;
    const PageIdFault expected = surrogate ? PageIdFault::invalid_utf8
                                 : control ? PageIdFault::control_character
                                           : PageIdFault::none;
    const std::string id = std::string("x").append(encode(code_point)).append("y");
    if (check_page_id(id, limit) != expected && wrong++ == 0) {
      FAIL_CHECK("first wrong code point: " << code_point);
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("what is not UTF-8 is refused wherever it stands") {
  const std::vector<std::string> bad = {
      "\x80",              // a continuation alone
      "\xBF",              //
      "\xC0\x80",          // NUL in two bytes
      "\xC1\xBF",          // two bytes where one does
      "\xE0\x80\x80",      // three bytes where one does
      "\xE0\x9F\xBF",      // three bytes where two do
      "\xF0\x80\x80\x80",  // four bytes where one does
      "\xF0\x8F\xBF\xBF",  // four bytes where three do
      "\xED\xA0\x80",      // the first surrogate
      "\xED\xBF\xBF",      // the last
      "\xF4\x90\x80\x80",  // beyond U+10FFFF
      "\xF5\x80\x80\x80",  //
      "\xFE",
      "\xFF",
      "\xC3",          // cut off
      "\xE2\x82",      //
      "\xF0\x9F\x99",  //
      "\xC3\xC3",      // a lead byte where a continuation belongs
      "\xE2\x82z",     //
  };
  for (const std::string& bytes : bad) {
    for (const std::string& id : {bytes, "ab" + bytes, bytes + "ab", "ä" + bytes + "ä"}) {
      CAPTURE(id);
      CHECK(check_page_id(id, limit) == PageIdFault::invalid_utf8);
    }
  }
}

TEST_CASE("a control character is refused wherever it stands, NUL and DEL among them") {
  using namespace std::string_literals;
  for (const std::string& id :
       {"\0"s, "a\0b"s, "a\n"s, "\ra"s, "a\tb"s, "\x1F"s, "\x7F"s, "a\xC2\x80"s, "\xC2\x9F"s, "\x01w:x"s}) {
    CAPTURE(id);
    CHECK(check_page_id(id, limit) == PageIdFault::control_character);
  }
}

TEST_CASE("each fault is a sentence of its own") {
  const std::vector faults = {PageIdFault::empty, PageIdFault::too_long, PageIdFault::invalid_utf8,
                              PageIdFault::control_character};
  for (const PageIdFault a : faults) {
    CHECK(visitd::describe(a, "home", 3).starts_with("the page id "));
    for (const PageIdFault b : faults)
      CHECK((a == b) == (visitd::describe(a, "home", 3) == visitd::describe(b, "home", 3)));
  }
}

TEST_CASE("the bucket of a page is the same on every host and for ever") {
  // Changing one of these would look for every count in another place.
  CHECK(visitd::page_bucket("home", 8192) == 1562);
  CHECK(visitd::page_bucket("", 8192) == 0x2D06800538D394C2U % 8192);
  CHECK(visitd::page_bucket("日本語", 8192) == 4279);
  CHECK(visitd::page_bucket("home", 1) == 0);
}

TEST_CASE("buckets are filled evenly") {
  constexpr std::uint32_t buckets = 64;
  constexpr std::uint32_t pages = 64 * 1000;
  std::vector<std::uint32_t> filled(buckets);
  for (std::uint32_t i = 0; i < pages; ++i) ++filled[visitd::page_bucket("page-" + std::to_string(i), buckets)];
  // Five standard deviations of a fair throw around 1000.
  for (const std::uint32_t count : filled) {
    CHECK(count > 840);
    CHECK(count < 1160);
  }
}

TEST_CASE("the hash of a page depends on the seed") {
  CHECK(visitd::page_hash("home", 1) == visitd::page_hash("home", 1));
  CHECK(visitd::page_hash("home", 1) != visitd::page_hash("home", 2));
  CHECK(visitd::page_hash("home", 1) != visitd::page_hash("homf", 1));
}
