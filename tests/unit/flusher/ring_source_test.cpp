#include "flusher/ring_source.hpp"

#include <doctest/doctest.h>

using namespace visitd;

namespace {

RingNote ring_note(std::uint64_t id, int segment, bool finished) {
  RingNote note;
  note.id = id;
  note.segment = segment;
  note.finished = finished;
  return note;
}

}  // namespace

TEST_CASE("what the spool has begun is drained first, then the oldest, and nothing twice") {
  SpoolState spool;
  spool.rings = {ring_note(1, 11, true), ring_note(3, 13, false)};
  const std::vector<SegmentNote> noted{{1, 11}, {2, 12}, {3, 13}, {4, 14}};
  CHECK(rings_to_drain(spool, noted) == std::vector<SegmentNote>{{3, 13}, {2, 12}, {4, 14}});
}

TEST_CASE("a ring that the runtime directory does not name any more is drained all the same") {
  SpoolState spool;
  spool.rings = {ring_note(3, 13, false)};
  CHECK(rings_to_drain(spool, {}) == std::vector<SegmentNote>{{3, 13}});
  spool.rings.front().finished = true;
  CHECK(rings_to_drain(spool, {}).empty());
}
