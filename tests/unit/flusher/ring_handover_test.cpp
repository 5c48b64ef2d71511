#include "flusher/counting/ring_handover.hpp"

#include <doctest/doctest.h>

namespace visitd::test {

using HandoverStep = RingHandover::Step;

TEST_CASE("a ring in use is stayed with, however quiet it is") {
  RingHandover handover;
  CHECK(handover.look(false, false) == HandoverStep::stay);
  CHECK(handover.look(false, true) == HandoverStep::stay);
  CHECK(handover.committed(false) == HandoverStep::stay);
}

TEST_CASE("a ring that must be left is finished once it is deserted, and left once that is durable") {
  RingHandover handover;
  CHECK(handover.look(true, false) == HandoverStep::commit);
  CHECK(handover.look(true, false) == HandoverStep::commit);
  CHECK(handover.committed(false) == HandoverStep::stay);
  CHECK(handover.look(true, true) == HandoverStep::finish);
  CHECK(handover.committed(false) == HandoverStep::stay);
  CHECK(handover.committed(true) == HandoverStep::end);
}

TEST_CASE("a ring that must be left no more is stayed with, as long as it is not being finished") {
  RingHandover handover;
  CHECK(handover.look(true, false) == HandoverStep::commit);
  CHECK(handover.look(false, true) == HandoverStep::stay);
  CHECK(handover.look(true, true) == HandoverStep::finish);
  CHECK(handover.look(false, false) == HandoverStep::commit);
  CHECK(handover.committed(true) == HandoverStep::end);
}

TEST_CASE("a ring is finished once, however long the disk takes to note it") {
  RingHandover handover;
  CHECK(handover.look(true, true) == HandoverStep::finish);
  for (int check = 0; check < 3; ++check) {
    CHECK(handover.look(true, true) == HandoverStep::commit);
    CHECK(handover.committed(false) == HandoverStep::stay);
  }
  CHECK(handover.committed(true) == HandoverStep::end);
}

TEST_CASE("no commit ends a life whose ring is not being finished") {
  const RingHandover handover;
  CHECK(handover.committed(true) == HandoverStep::stay);
}

}  // namespace visitd::test
