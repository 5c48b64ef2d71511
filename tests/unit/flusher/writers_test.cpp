#include "flusher/counting/writers.hpp"

#include <doctest/doctest.h>

#include <string>

using namespace visitd;

TEST_CASE("a writer's note is read as it was written, with its names as words") {
  const std::string text = to_text(WriterNote{"web 3\n", "0.2.0", 7, 1'796'000'000, 41, 12});
  CHECK(text == "web_3_ 0.2.0 7 1796000000 41 12");
  const auto note = parse_writer_note(text);
  REQUIRE(note);
  CHECK(note->host == "web_3_");
  CHECK(note->version == "0.2.0");
  CHECK(note->incarnation == 7);
  CHECK(note->seen_at == 1'796'000'000);
  CHECK(note->batches == 41);
  CHECK(note->buckets == 12);
  CHECK(to_text(WriterNote{}) == "- - 0 0 0 0");
  for (const char* other :
       {"", "web", "web 1 2 3 4", "web 1 2 3 4 x", "web 1 2 3 4 5 6", "web 1 -2 3 4 5", " 1 2 3 4 5"}) {
    CAPTURE(other);
    CHECK_FALSE(parse_writer_note(other));
  }
}

TEST_CASE("a note says when a writer was forgotten, and on which host") {
  CHECK(to_text(ForgottenNote{1'796'000'000, "web 1"}) == "1796000000 web_1");
  const auto note = parse_forgotten_note("1796000000 web-1");
  REQUIRE(note);
  CHECK(note->at == 1'796'000'000);
  CHECK(note->by == "web-1");
  CHECK_FALSE(parse_forgotten_note("soon"));
}

TEST_CASE("what several shards say of the writers is put together") {
  WriterList list;
  list.add({{"a", "web-1 0.2.0 7 1000 40 10"}, {"a:wrote", "990"}, {"b", "web-2 0.1.0 3 500 1 1"}, {"b:wrote", "x"}});
  list.add({{"a", "web-1 0.2.0 8 1030 2 1"}, {"a:wrote", "900"}, {"b:forgotten", "2000 web-1"}, {"c", "?"}});
  list.add({{"a", "old 0.1.0 6 10 1 1"}, {"b:forgotten", "1500 web-9"}, {"b:unknown", "1"}});
  REQUIRE(list.writers().size() == 3);
  const Writer& a = list.writers().at("a");
  CHECK(a.id == "a");
  CHECK(a.note.host == "web-1");
  CHECK(a.note.incarnation == 8);
  CHECK(a.note.seen_at == 1030);
  CHECK(a.note.batches == 43);
  CHECK(a.note.buckets == 12);
  CHECK(a.wrote_at == 990);
  CHECK_FALSE(a.forgotten);
  const Writer& b = list.writers().at("b");
  CHECK(b.wrote_at == 0);
  REQUIRE(b.forgotten);
  CHECK(b.forgotten->at == 2000);
  CHECK(b.forgotten->by == "web-1");
  CHECK(list.writers().at("c").note.host.empty());
}
