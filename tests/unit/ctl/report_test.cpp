#include "ctl/report.hpp"

#include <doctest/doctest.h>

namespace visitd::test {

TEST_CASE("a terminal gets no control characters and no invalid UTF-8") {
  CHECK(printable("home/ü €") == "home/ü €");
  CHECK(printable("a\x1b[2Jb") == "a\\x1b[2Jb");
  CHECK(printable("\xff\xc3") == "\\xff\\xc3");
  CHECK(printable(std::string("\0x", 2)) == "\\x00x");
  CHECK(printable("\xc2\x85") == "\\xc2\\x85");
  CHECK(printable("") == "");
}

TEST_CASE("JSON is valid whatever bytes a text has") {
  const Json report = {{"page", "a\xff\x1b"}};
  const std::string text = to_json_text(report);
  CHECK(Json::accept(text));
  CHECK(text.ends_with("\n"));
}

TEST_CASE("amounts are shown in the largest unit that fits") {
  CHECK(bytes_text(0) == "0 B");
  CHECK(bytes_text(1023) == "1023 B");
  CHECK(bytes_text(1024) == "1.0 KiB");
  CHECK(bytes_text(32U << 20U) == "32.0 MiB");
  CHECK(bytes_text((1U << 20U) - 1) == "1.0 MiB");
  CHECK(bytes_text(UINT64_MAX) == "16.0 EiB");
}

TEST_CASE("time spans are shown in two units at most") {
  CHECK(span_text(0) == "0 ms");
  CHECK(span_text(999) == "999 ms");
  CHECK(span_text(3250) == "3.2 s");
  CHECK(span_text(250'000) == "4 min 10 s");
  CHECK(span_text(25'500'000) == "7 h 5 min");
  CHECK(span_text(90'000'000) == "1 d 1 h");
}

TEST_CASE("an age is not known of what never was, or is yet to come") {
  CHECK(age_ms(0, 5'000'000).is_null());
  CHECK(age_ms(5'000'000'000, 5'000'000).is_null());
  CHECK(age_ms(6'000'000, 5'000'000) == 0);  // stored between the look at the clock and the look at it
  CHECK(age_ms(2'000'000, 5'000'000) == 3);
}

TEST_CASE("values are shown plainly") {
  CHECK(plain(nullptr) == "-");
  CHECK(plain(nullptr, "never") == "never");
  CHECK(plain(7) == "7");
  CHECK(plain("a\nb") == "a\\x0ab");
  CHECK(plain_bytes(2048U) == "2.0 KiB");
  CHECK(plain_bytes(nullptr, "?") == "?");
  CHECK(plain_span(1500U) == "1.5 s");
}

TEST_CASE("a report has failed when it says why") {
  CHECK_FALSE(has_failed({{"visits", 1}}));
  CHECK_FALSE(has_failed({{"error", nullptr}}));
  CHECK(has_failed({{"error", "no"}}));
}

TEST_CASE("columns are as wide as their widest cell, numbers to the right") {
  Table table({"page", ">visits", ""});
  table.row({"ü", "7", ""});
  table.row({"a", "1234567", "x"});
  CHECK(table.text() ==
        "page   visits\n"
        "ü           7\n"
        "a     1234567  x\n");
}

}  // namespace visitd::test
