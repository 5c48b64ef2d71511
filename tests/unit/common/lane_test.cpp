#include "common/shm/lane.hpp"

#include <doctest/doctest.h>

#include <deque>
#include <memory>
#include <random>
#include <string>
#include <vector>

using namespace visitd;

namespace {

constexpr std::uint64_t small_lane = 4096;

/// A lane in plain memory and a consumer that keeps its own position.
struct TestLane {
  explicit TestLane(std::uint64_t start = 0, std::uint64_t capacity = small_lane)
      : words(capacity / 8), records(words), position(start) {
    tail.store(start);
    head.store(start);
  }

  LaneProducer producer() { return {tail, words, &head}; }

  struct Taken {
    RecordCheck check = RecordCheck::damaged;
    Record record;
    std::string page;
  };
  /// The next record that is no pad; `damaged` also where there is none.
  Taken take() {
    Taken taken;
    while (position < tail.load()) {
      taken.check = records.read(position, tail.load(), taken.record);
      if (taken.check == RecordCheck::damaged) return taken;
      char buffer[max_page_id_bytes];
      if (taken.record.kind != RecordKind::pad) taken.page = records.page(position, taken.record, buffer);
      position += taken.record.size;
      if (taken.record.kind != RecordKind::pad) return taken;
      ++pads;
      last_pad = taken.record.size;
      taken = {};
    }
    return taken;
  }
  void free_taken() { head.store(position); }

  Word tail{0};
  Word head{0};
  std::vector<Word> words;
  LaneRecords records;
  std::uint64_t position;
  std::uint64_t pads = 0;
  std::uint64_t last_pad = 0;
};

Published publish(LaneProducer& producer, std::string_view page, std::uint32_t visits = 1) {
  return producer.publish(RecordKind::visit, page, visits, 1'700'000'000, 0x1234567890abcdef);
}

std::string page_of(std::size_t length, std::uint64_t salt = 0) {
  std::string page(length, ' ');
  for (std::size_t i = 0; i < length; ++i) page[i] = static_cast<char>('a' + (i + salt) % 26);
  return page;
}

}  // namespace

TEST_CASE("a record comes out as it went in, for every length of a page") {
  TestLane lane;
  LaneProducer producer = lane.producer();
  for (std::size_t length = 1; length <= max_page_id_bytes; ++length) {
    const std::string page = page_of(length, length);
    REQUIRE(producer.publish(RecordKind::visit, page, 7, 1'700'000'000, length * 31) == Published::published);
    const std::uint64_t at = lane.position;
    const TestLane::Taken taken = lane.take();
    REQUIRE(taken.check == RecordCheck::whole);
    REQUIRE(taken.record.kind == RecordKind::visit);
    REQUIRE(taken.record.visits == 7);
    REQUIRE(taken.record.time == 1'700'000'000);
    REQUIRE(taken.record.page_hash == length * 31);
    REQUIRE(taken.record.page_length == length);
    REQUIRE(taken.record.size == record_bytes(length));
    REQUIRE(taken.page == page);
    if (lane.position - at == taken.record.size) {
      REQUIRE(lane.records.is_page(at, taken.record, page));
      std::string other = page;
      other[length - 1] = '!';
      REQUIRE_FALSE(lane.records.is_page(at, taken.record, other));
      REQUIRE_FALSE(lane.records.is_page(at, taken.record, page + "x"));
    }
    lane.free_taken();
  }
  CHECK(lane.pads > 100);
}

TEST_CASE("the words of a page are its bytes, zeros behind them, and nothing beyond its end is read") {
  for (std::size_t length = 1; length <= 40; ++length) {
    const auto exact = std::make_unique<char[]>(length);  // a byte too far is a sanitizer's find
    for (std::size_t i = 0; i < length; ++i) exact[i] = static_cast<char>(0xf0 + i);
    for (std::size_t w = 0; w < words_for(length); ++w) {
      const std::uint64_t word = text_word({exact.get(), length}, w);
      for (std::size_t b = 0; b < 8; ++b) {
        const std::size_t i = 8 * w + b;
        CHECK((word >> (8 * b) & 0xffU) == (i < length ? (0xf0 + i) & 0xffU : 0));
      }
    }
  }
}

TEST_CASE("a full lane refuses and loses nothing") {
  TestLane lane;
  LaneProducer producer = lane.producer();
  std::uint32_t published = 0;
  while (publish(producer, page_of(20), published + 1) == Published::published) ++published;
  CHECK(published == small_lane / record_bytes(20));
  const std::uint64_t tail = lane.tail.load();
  for (int i = 0; i < 10; ++i) CHECK(publish(producer, page_of(20)) == Published::full);
  CHECK(lane.tail.load() == tail);
  for (std::uint32_t i = 1; i <= published; ++i) REQUIRE(lane.take().record.visits == i);
  CHECK(lane.take().check == RecordCheck::damaged);  // that was all

  // Taken is not freed: the space belongs to the records until they are durable.
  CHECK(publish(producer, page_of(20)) == Published::full);
  lane.free_taken();
  CHECK(publish(producer, page_of(20), 99) == Published::published);
  CHECK(lane.take().record.visits == 99);
}

TEST_CASE("a lane can be filled to its last byte") {
  TestLane lane;
  LaneProducer producer = lane.producer();
  const std::size_t length = 1000;  // 1024 bytes with its head: four fill the lane
  for (int i = 0; i < 4; ++i) REQUIRE(publish(producer, page_of(length)) == Published::published);
  CHECK(producer.tail() - producer.head() == producer.capacity());
  CHECK(publish(producer, "x") == Published::full);
  for (int i = 0; i < 4; ++i) REQUIRE(lane.take().page == page_of(length));
  CHECK(lane.pads == 0);
}

TEST_CASE("a record that does not fit before the end is preceded by a pad, be it of 8 bytes") {
  for (std::uint64_t to_end = 8; to_end <= 64; to_end += 8) {
    TestLane lane(small_lane - to_end);
    LaneProducer producer = lane.producer();
    const std::string page = page_of(to_end + 1);  // never fits
    REQUIRE(publish(producer, page, 5) == Published::published);
    CHECK(producer.tail() == small_lane + record_bytes(page.size()));
    const TestLane::Taken taken = lane.take();
    CHECK(taken.check == RecordCheck::whole);
    CHECK(taken.page == page);
    CHECK(lane.last_pad == to_end);
  }
}

TEST_CASE("a pad needs its space as a record does") {
  // 40 bytes to the end, and as many free behind it as the record needs, but 8.
  TestLane lane(small_lane - 40);
  LaneProducer producer = lane.producer();
  const std::uint64_t size = record_bytes(page_of(100).size());
  lane.head.store(small_lane - 40);
  REQUIRE(publish(producer, page_of(16)) == Published::published);  // exactly the 40 bytes
  while (producer.tail() + size + 40 <= producer.head() + small_lane)
    REQUIRE(publish(producer, "x") == Published::published);
  const std::uint64_t tail = producer.tail();
  CHECK(publish(producer, page_of(100 + 40)) == Published::full);
  CHECK(producer.tail() == tail);
}

TEST_CASE("records survive any number of wraps, in order, whatever their lengths") {
  std::mt19937_64 random(7);
  TestLane lane;
  LaneProducer producer = lane.producer();
  std::deque<std::pair<std::string, std::uint32_t>> expected;
  std::uint64_t refused = 0;
  for (std::uint32_t i = 1; i <= 200'000; ++i) {
    const std::string page = page_of(1 + random() % 200, random() % 26);
    if (publish(producer, page, i) == Published::published) {
      expected.emplace_back(page, i);
    } else {
      ++refused;
    }
    while (!expected.empty() && random() % 8 != 0) {
      const TestLane::Taken taken = lane.take();
      REQUIRE(taken.check == RecordCheck::whole);
      REQUIRE(taken.page == expected.front().first);
      REQUIRE(taken.record.visits == expected.front().second);
      expected.pop_front();
    }
    if (random() % 16 == 0) lane.free_taken();
  }
  CHECK(lane.pads > 1000);
  CHECK(refused > 0);
  CHECK(lane.take().check == (expected.empty() ? RecordCheck::damaged : RecordCheck::whole));
}

TEST_CASE("positions pass 2^32 as any other number") {
  const std::uint64_t border = std::uint64_t{1} << 32U;
  TestLane lane(border - small_lane);
  LaneProducer producer = lane.producer();
  for (std::uint32_t i = 1; i <= 1000; ++i) {
    REQUIRE(publish(producer, page_of(1 + i % 50), i) == Published::published);
    REQUIRE(lane.take().record.visits == i);
    lane.free_taken();
  }
  CHECK(producer.tail() > border);
  while (publish(producer, "page") == Published::published) {
  }
  CHECK(producer.tail() - producer.head() <= small_lane);
  CHECK(producer.tail() - producer.head() > small_lane - record_bytes(4));
}

TEST_CASE("the next owner of a lane appends after its tail") {
  TestLane lane;
  {
    LaneProducer first = lane.producer();
    REQUIRE(publish(first, "one", 1) == Published::published);
  }
  LaneProducer second = lane.producer();
  REQUIRE(publish(second, "two", 2) == Published::published);
  CHECK(lane.take().record.visits == 1);
  CHECK(lane.take().record.visits == 2);
}

TEST_CASE("a producer that dies before it publishes has written nothing") {
  TestLane lane;
  LaneProducer producer = lane.producer();
  REQUIRE(publish(producer, "one", 1) == Published::published);
  // What a dead producer may leave behind tail.
  for (std::size_t w = lane.tail.load() / 8; w < lane.words.size(); ++w) lane.words[w].store(0x5555555555555555);
  LaneProducer next = lane.producer();
  REQUIRE(publish(next, "two", 2) == Published::published);
  CHECK(lane.take().page == "one");
  CHECK(lane.take().page == "two");
  CHECK(lane.take().check == RecordCheck::damaged);
  CHECK(lane.position == lane.tail.load());
}

TEST_CASE("without a cache a lane takes what fits, and a head that comes later frees it") {
  TestLane lane;
  LaneProducer producer(lane.tail, lane.words, nullptr);
  while (publish(producer, page_of(20)) == Published::published) {
  }
  CHECK(producer.head() == 0);
  while (lane.take().check == RecordCheck::whole) {
  }
  lane.free_taken();
  CHECK(publish(producer, page_of(20)) == Published::full);
  producer.attach_head(&lane.head);
  CHECK(publish(producer, page_of(20)) == Published::published);
}

TEST_CASE("a head that goes back or beyond tail is not believed") {
  TestLane lane;
  LaneProducer producer = lane.producer();
  for (int i = 0; i < 10; ++i) REQUIRE(publish(producer, page_of(20)) == Published::published);
  lane.head.store(5 * record_bytes(20));
  producer.look_at_head();
  CHECK(producer.head() == 5 * record_bytes(20));
  Word older{8};
  producer.attach_head(&older);
  CHECK(producer.head() == 5 * record_bytes(20));
  older.store(producer.tail() + 8);
  producer.look_at_head();
  CHECK(producer.head() == 5 * record_bytes(20));
}

TEST_CASE("a damaged record is found") {
  TestLane lane;
  LaneProducer producer = lane.producer();
  REQUIRE(publish(producer, page_of(20)) == Published::published);
  REQUIRE(publish(producer, page_of(20)) == Published::published);
  const std::uint64_t tail = lane.tail.load();
  Record record;
  const auto check = [&](std::uint64_t size, RecordKind kind, std::uint64_t length) {
    lane.words[0].store(LaneProducer::first_word(size, kind, length));
    return lane.records.read(0, tail, record);
  };
  const std::uint64_t right = record_bytes(20);
  REQUIRE(check(right, RecordKind::visit, 20) == RecordCheck::whole);
  CHECK(check(right, RecordKind::request, 20) == RecordCheck::whole);

  CHECK(check(0, RecordKind::visit, 20) == RecordCheck::damaged);
  CHECK(check(right - 8, RecordKind::visit, 20) == RecordCheck::damaged);
  CHECK(check(right + 8, RecordKind::visit, 20) == RecordCheck::damaged);
  CHECK(check(right - 1, RecordKind::visit, 20) == RecordCheck::damaged);
  CHECK(check(right, RecordKind::visit, 0) == RecordCheck::damaged);
  CHECK(check(right, RecordKind::visit, 25) == RecordCheck::damaged);
  CHECK(check(24, RecordKind::visit, 0) == RecordCheck::damaged);
  CHECK(check(record_bytes(1025), RecordKind::visit, 1025) == RecordCheck::damaged);
  CHECK(check(record_bytes(65535), RecordKind::visit, 65535) == RecordCheck::damaged);
  CHECK(check(0xfffffff8, RecordKind::visit, 20) == RecordCheck::damaged);

  CHECK(check(right, RecordKind::none, 20) == RecordCheck::damaged);
  for (unsigned kind = 4; kind < 256; ++kind) {
    CHECK(check(right, static_cast<RecordKind>(kind), 20) == RecordCheck::damaged);
  }
  // Longer than what is published.
  CHECK(check(record_bytes(80), RecordKind::visit, 80) == RecordCheck::damaged);

  CHECK(check(8, RecordKind::pad, 0) == RecordCheck::whole);
  CHECK(check(tail, RecordKind::pad, 0) == RecordCheck::whole);
  CHECK(check(0, RecordKind::pad, 0) == RecordCheck::damaged);
  CHECK(check(12, RecordKind::pad, 0) == RecordCheck::damaged);
  CHECK(check(tail + 8, RecordKind::pad, 0) == RecordCheck::damaged);
  CHECK(check(0xfffffff8, RecordKind::pad, 0) == RecordCheck::damaged);
}

TEST_CASE("a record never reaches over the end of the lane") {
  TestLane lane(small_lane - 32);
  lane.tail.store(small_lane + 512);
  Record record;
  lane.words[(small_lane - 32) / 8].store(LaneProducer::first_word(record_bytes(8), RecordKind::visit, 8));
  CHECK(lane.records.read(small_lane - 32, small_lane + 512, record) == RecordCheck::whole);
  lane.words[(small_lane - 32) / 8].store(LaneProducer::first_word(record_bytes(9), RecordKind::visit, 9));
  CHECK(lane.records.read(small_lane - 32, small_lane + 512, record) == RecordCheck::damaged);
  lane.words[(small_lane - 32) / 8].store(LaneProducer::first_word(40, RecordKind::pad, 0));
  CHECK(lane.records.read(small_lane - 32, small_lane + 512, record) == RecordCheck::damaged);
}

TEST_CASE("random bytes are refused or read within bounds, and a reader of them comes to an end") {
  std::mt19937_64 random(11);
  for (int round = 0; round < 2000; ++round) {
    TestLane lane;
    for (Word& word : lane.words) {
      std::uint64_t bytes = random();
      // Sizes, kinds and lengths near right ones are the dangerous ones.
      if (random() % 2 == 0) {
        bytes = LaneProducer::first_word(8 * (random() % 40), static_cast<RecordKind>(random() % 4), random() % 300);
      }
      word.store(bytes);
    }
    const std::uint64_t tail = 8 * (random() % (small_lane / 8 + 1));
    char buffer[max_page_id_bytes];
    std::uint64_t position = 0;
    std::uint64_t steps = 0;
    while (position < tail) {
      Record record;
      if (lane.records.read(position, tail, record) == RecordCheck::damaged) break;
      REQUIRE(record.size >= 8);
      REQUIRE(record.size % 8 == 0);
      if (record.kind != RecordKind::pad) {
        REQUIRE(lane.records.page(position, record, buffer).size() == record.page_length);
      }
      position += record.size;
      REQUIRE(position <= tail);
      REQUIRE(++steps <= small_lane / 8);
    }
  }
}

TEST_CASE("the producer notes what it has seen freed before it writes over it") {
  TestLane lane;
  Word freed{0};
  LaneProducer producer(lane.tail, lane.words, &lane.head, &freed);
  while (publish(producer, "page") == Published::published) {
  }
  CHECK(freed.load() == 0);
  const std::uint64_t overwritten_from = lane.tail.load() - small_lane;
  lane.take();
  lane.take();
  lane.free_taken();
  CHECK(freed.load() == 0);
  REQUIRE(publish(producer, "page") == Published::published);
  CHECK(freed.load() == lane.position);
  // Whoever starts there finds whole records up to the tail.
  CHECK(lane.tail.load() - small_lane > overwritten_from);
  CHECK(freed.load() >= lane.tail.load() - small_lane);
  while (lane.position < lane.tail.load()) REQUIRE(lane.take().check == RecordCheck::whole);
}

TEST_CASE("the next owner of a lane starts with what the one before had seen freed, where that can be true") {
  TestLane lane(small_lane, small_lane);
  const auto head_of = [&](std::uint64_t said) {
    Word freed{said};
    return LaneProducer(lane.tail, lane.words, nullptr, &freed).head();
  };
  CHECK(head_of(64) == 64);
  CHECK(head_of(small_lane) == small_lane);
  CHECK(head_of(small_lane + 8) == 0);  // past the tail
  CHECK(head_of(65) == 0);              // between two words
  lane.tail.store(2 * small_lane);
  CHECK(head_of(64) == 0);  // more than a lane behind the tail
}
