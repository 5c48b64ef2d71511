#include "flusher/counting/batch.hpp"

#include <doctest/doctest.h>

#include "common/os/errors.hpp"

namespace visitd {

TEST_CASE("a mark is read back from its text") {
  const Mark mark{{12, 0xfedc'ba98'7654'3210U}, 345, 0x1a};
  CHECK(to_text(mark) == "12-fedcba9876543210 345 000000000000001a");
  Mark read;
  REQUIRE(parse_mark(to_text(mark), read));
  CHECK(read == mark);
}

TEST_CASE("a text that is no mark is refused and changes nothing") {
  const Mark before{{1, 2}, 3, 4};
  for (const char* text : {"", "x", "1", "1-", "1-2", "1-2 3", "1-2 3 ", "1-2 3 4 ", "1-2 3 4x", "1-2  3 4", "-1-2 3 4",
                           "1 2 3 4", "18446744073709551616-1 1 1", "1-2 3 11111111111111111"}) {
    CAPTURE(text);
    Mark mark = before;
    CHECK_FALSE(parse_mark(text, mark));
    CHECK(mark == before);
  }
}

TEST_CASE("pages of any bytes and any number of visits are read back from a blob") {
  const std::vector<Effect> pages = {{"home", 1},
                                     {std::string("\0\x01 odd\r\n", 8), 127},
                                     {std::string(1024, 'x'), 128},
                                     {"", 0},
                                     {"größte", 0xffff'ffff'ffff'ffffU}};
  CHECK(decode_effects(encode_effects(pages)) == pages);
  CHECK(decode_effects("").empty());
}

TEST_CASE("a blob that was cut off is found damaged at every length") {
  const std::string blob = encode_effects({{"a page", 300}});
  for (std::size_t length = 1; length < blob.size(); ++length) {
    CAPTURE(length);
    CHECK_THROWS_AS(static_cast<void>(decode_effects(blob.substr(0, length))), Error);
  }
  CHECK_THROWS_AS(static_cast<void>(decode_effects(std::string(11, '\xff'))), Error);
}

TEST_CASE("a correction is read back with its differences, and is told from visits") {
  Batch batch{17, {}, "", {{"home", std::uint64_t{0} - 3}, {"größte", 0x7fff'ffff'ffff'ffffU}, {"x", 0}}, {}};
  batch.correction = Correction{1'700'000'000, "root", {"", "another page", ""}};
  Batch read;
  decode_content(encode_content(batch), read);
  CHECK(read.effects == batch.effects);
  CHECK(read.correction == batch.correction);
  CHECK(difference_of(read.effects[0]) == -3);
  Batch visits;
  decode_content(encode_effects({{"home", 3}}), visits);
  CHECK_FALSE(visits.correction);
  CHECK(visits.effects == std::vector<Effect>{{"home", 3}});
  const std::string blob = encode_content(batch);
  for (const std::size_t cut : {std::size_t{1}, std::size_t{7}, blob.size() - 1}) {
    Batch damaged;
    CHECK_THROWS_AS(decode_content(blob.substr(0, cut), damaged), Error);
  }
}

TEST_CASE("batches of other content have other digests") {
  CHECK(digest_of(encode_effects({{"a", 1}})) != digest_of(encode_effects({{"a", 2}})));
  CHECK(digest_of(encode_effects({{"ab", 1}})) != digest_of(encode_effects({{"a", 1}})));
}

}  // namespace visitd
