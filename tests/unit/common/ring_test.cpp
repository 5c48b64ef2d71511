#include "common/shm/ring.hpp"

#include <doctest/doctest.h>
#include <sys/mman.h>

#include <array>
#include <string>
#include <vector>

#include "common/shm/lane.hpp"

using namespace visitd;

namespace {

constexpr RingShape small_ring{3, 65536, 255};
constexpr std::array<FileIdentity, 3> locks{{{1, 10}, {1, 11}, {2, 12}}};

/// Gone with the test: removed at once, it lives on while attached.
Ring removed_ring(const RingShape& shape = small_ring) {
  std::vector<FileIdentity> identities(shape.lanes);
  std::copy_n(locks.begin(), std::min<std::size_t>(shape.lanes, locks.size()), identities.begin());
  Ring ring = Ring::make(shape, identities);
  ring.segment().remove();
  return ring;
}

std::string ring_outcome(const SegmentNote& note) {
  const auto attached = Ring::attach(note, SharedSegment::Access::read_only);
  const auto* fault = std::get_if<AttachFault>(&attached);
  return fault == nullptr ? "attached" : std::string(describe(*fault));
}

/// Whole pages of a lane's records that lie in memory.
std::size_t resident_pages(const Ring& ring, std::uint32_t lane) {
  const auto records = ring.records(lane);
  std::vector<unsigned char> pages(records.size_bytes() / page_bytes);
  REQUIRE(mincore(records.data(), records.size_bytes(), pages.data()) == 0);
  std::size_t resident = 0;
  for (const unsigned char page : pages) resident += page & 1U;
  return resident;
}

}  // namespace

TEST_CASE("a ring is attached as it was made") {
  const Ring made = removed_ring();
  const auto attached = Ring::attach(made.note(), SharedSegment::Access::read_only);
  REQUIRE(std::holds_alternative<Ring>(attached));
  const Ring& ring = std::get<Ring>(attached);
  CHECK(ring.shape() == small_ring);
  CHECK(ring.id() == made.id());
  CHECK(ring.id() != 0);
  CHECK(ring.hash_seed() == made.hash_seed());
  CHECK(ring.hash_seed() != ring.id());
  for (std::uint32_t n = 0; n < 3; ++n) {
    CHECK(ring.lane_lock(n) == locks[n]);
    CHECK(ring.lane_state(n) == LaneState::unused);
    CHECK(ring.records(n).size_bytes() == small_ring.lane_bytes);
  }
  made.records(1)[5].store(77);
  made.requests(2)[7].store(78);
  CHECK(ring.records(1)[5].load() == 77);
  CHECK(ring.requests(2)[7].load() == 78);
}

TEST_CASE("the parts of a ring lie apart") {
  for (const std::uint32_t lanes : {1U, 3U, 8U, 64U}) {
    const RingShape shape{lanes, 1U << 20U, 255};
    CHECK(shape.lane_header_offset(0) >= sizeof(RingHeader));
    CHECK(shape.requests_offset(0) >= shape.lane_header_offset(lanes - 1) + sizeof(LaneHeader));
    CHECK(shape.records_offset(0) == shape.requests_offset(0) + lanes * request_bytes);
    CHECK(shape.records_offset(0) % page_bytes == 0);
    CHECK(shape.question_offset(0) == shape.records_offset(0) + lanes * shape.lane_bytes);
    CHECK(shape.bytes() == shape.question_offset(0) + lanes * question_slot_bytes);
  }
}

TEST_CASE("each way in which a segment is not the ring has its name") {
  const Ring made = removed_ring();
  RingHeader& header = made.header();
  SegmentNote note = made.note();
  REQUIRE(ring_outcome(note) == "attached");

  SUBCASE("gone") {
    SegmentNote gone;
    {
      const Ring other = removed_ring();
      gone = other.note();
    }
    CHECK(ring_outcome(gone) == describe(AttachFault::gone));
    CHECK(ring_outcome({1, -1}) == describe(AttachFault::gone));
  }
  SUBCASE("not ready") {
    header.magic.store(0);
    CHECK(ring_outcome(note) == describe(AttachFault::not_ready));
  }
  SUBCASE("another's magic") {
    header.magic.store(ring_magic + 1);
    CHECK(ring_outcome(note) == describe(AttachFault::foreign));
  }
  SUBCASE("another's id") {
    note.id += 1;
    CHECK(ring_outcome(note) == describe(AttachFault::foreign));
  }
  SUBCASE("too small for a header") {
    SharedSegment tiny = SharedSegment::make(16);
    tiny.remove();
    const std::string said = ring_outcome({note.id, tiny.id()});
    CHECK((said == describe(AttachFault::foreign) || said == describe(AttachFault::not_ready)));
  }
  SUBCASE("another version") {
    header.layout_version.store(ring_layout_version + 1);
    CHECK(ring_outcome(note) == describe(AttachFault::other_version));
    auto readable = Ring::attach(note, SharedSegment::Access::read_only, Layouts::readable);
    REQUIRE(std::holds_alternative<Ring>(readable));
    CHECK_FALSE(std::get<Ring>(readable).has_own_layout());
    header.record_format.store(record_format + 1);
    CHECK(std::holds_alternative<AttachFault>(Ring::attach(note, SharedSegment::Access::read_only, Layouts::readable)));
    header.layout_version.store(ring_layout_version);
    CHECK(ring_outcome(note) == describe(AttachFault::other_version));
  }
  SUBCASE("corrupt") {
    const auto is_corrupt = [&](Word& word, std::uint64_t value) {
      const std::uint64_t was = word.load();
      word.store(value);
      const bool found = ring_outcome(note) == describe(AttachFault::corrupt);
      word.store(was);
      return found && ring_outcome(note) == "attached";
    };
    const std::uint64_t huge = std::uint64_t{1} << 63U;
    for (const std::uint64_t lanes : {std::uint64_t{0}, std::uint64_t{4}, std::uint64_t{65}, huge, huge + 3}) {
      CHECK(is_corrupt(header.lanes, lanes));
    }
    for (const std::uint64_t lane : {std::uint64_t{0}, std::uint64_t{8}, std::uint64_t{2048}, std::uint64_t{65528},
                                     std::uint64_t{131072}, huge, ~std::uint64_t{0}}) {
      CHECK(is_corrupt(header.lane_bytes, lane));
    }
    for (const std::uint64_t limit : {std::uint64_t{0}, std::uint64_t{1025}, huge, (std::uint64_t{1} << 32U) + 255}) {
      CHECK(is_corrupt(header.page_id_limit, limit));
    }
  }
}

TEST_CASE("free memory of a lane is given back, and what is in the lane is kept") {
  const RingShape shape{2, 1U << 20U, 255};
  const Ring ring = removed_ring(shape);
  const std::string page(100, 'p');
  Word head{0};
  LaneProducer producer(ring.lane(0).tail.word, ring.records(0), &head);
  std::uint32_t published = 0;
  while (producer.publish(RecordKind::visit, page, published + 1, 0, 1) == Published::published) ++published;
  for (Word& word : ring.records(1)) word.store(1);
  const std::size_t all = shape.lane_bytes / page_bytes;
  REQUIRE(resident_pages(ring, 0) == all);

  // Nothing is free: nothing goes.
  ring.release_free_memory(0, producer.head(), producer.tail());
  CHECK(resident_pages(ring, 0) == all);

  // All but the last 40,000 bytes are durable.
  const LaneRecords records(ring.records(0));
  Record record;
  std::uint64_t position = 0;
  std::uint32_t first_kept = 1;
  while (producer.tail() - position > 40'000) {
    REQUIRE(records.read(position, producer.tail(), record) == RecordCheck::whole);
    position += record.size;
    ++first_kept;
  }
  const auto kept_is_whole = [&] {
    std::uint64_t at = position;
    for (std::uint32_t i = first_kept; i <= published; ++i) {
      if (records.read(at, producer.tail(), record) != RecordCheck::whole || record.visits != i) return false;
      at += record.size;
    }
    return true;
  };
  REQUIRE(kept_is_whole());
  ring.release_free_memory(0, position, producer.tail());
  CHECK(resident_pages(ring, 0) <= 40'000 / page_bytes + 2);
  CHECK(kept_is_whole());
  CHECK(resident_pages(ring, 1) == all);  // the other lane's is its own

  // A backlog over the end of the lane keeps both of its parts, and the producer goes on in what was given back.
  head.store(position);
  for (int i = 0; i < 300; ++i)
    REQUIRE(producer.publish(RecordKind::visit, page, ++published, 0, 1) == Published::published);
  producer.look_at_head();
  ring.release_free_memory(0, producer.head(), producer.tail());
  std::uint64_t at = position;
  for (std::uint32_t i = first_kept; i <= published;) {
    REQUIRE(records.read(at, producer.tail(), record) == RecordCheck::whole);
    if (record.kind == RecordKind::visit) REQUIRE(record.visits == i++);
    at += record.size;
  }
  CHECK(resident_pages(ring, 0) <= (producer.tail() - position) / page_bytes + 3);

  // An empty lane keeps a page at most.
  head.store(producer.tail());
  producer.look_at_head();
  ring.release_free_memory(0, producer.head(), producer.tail());
  CHECK(resident_pages(ring, 0) <= 1);
}

TEST_CASE("random ids are not 0 and not the same") {
  CHECK(random_id() != 0);
  CHECK(random_id() != random_id());
}
