#include "flusher/counting/ring_handover.hpp"

#include <doctest/doctest.h>

namespace visitd::test {

using Step = RingHandover::Step;

TEST_CASE("a ring in use is stayed with, however quiet it is") {
  RingHandover handover;
  CHECK(handover.look(false, false) == Step::stay);
  CHECK(handover.look(false, true) == Step::stay);
  CHECK(handover.committed(false) == Step::stay);
}

TEST_CASE("a ring that must be left is finished once it is deserted, and left once that is durable") {
  RingHandover handover;
  CHECK(handover.look(true, false) == Step::commit);
  CHECK(handover.look(true, false) == Step::commit);
  CHECK(handover.committed(false) == Step::stay);
  CHECK(handover.look(true, true) == Step::finish);
  CHECK(handover.committed(false) == Step::stay);
  CHECK(handover.committed(true) == Step::end);
}

TEST_CASE("a ring that must be left no more is stayed with, as long as it is not being finished") {
  RingHandover handover;
  CHECK(handover.look(true, false) == Step::commit);
  CHECK(handover.look(false, true) == Step::stay);
  CHECK(handover.look(true, true) == Step::finish);
  CHECK(handover.look(false, false) == Step::commit);
  CHECK(handover.committed(true) == Step::end);
}

TEST_CASE("a ring is finished once, however long the disk takes to note it") {
  RingHandover handover;
  CHECK(handover.look(true, true) == Step::finish);
  for (int check = 0; check < 3; ++check) {
    CHECK(handover.look(true, true) == Step::commit);
    CHECK(handover.committed(false) == Step::stay);
  }
  CHECK(handover.committed(true) == Step::end);
}

TEST_CASE("no commit ends a life whose ring is not being finished") {
  const RingHandover handover;
  CHECK(handover.committed(true) == Step::stay);
}

}  // namespace visitd::test
