#include "frontend/api/list_turns.hpp"

#include <doctest/doctest.h>

#include <optional>
#include <utility>

using namespace visitd;

TEST_CASE("The turn of as many lists comes as ask for the pages that are answered at a time") {
  ListTurns turns(1000);
  const ListTurns::Turn first = turns.wait(600);
  std::optional<ListTurns::Turn> second = turns.wait(400);
  const ListTurns::Turn third = turns.wait(1);
  CHECK(turns.has_come(first.number()));
  CHECK(turns.has_come(second->number()));
  CHECK_FALSE(turns.has_come(third.number()));
  second.reset();
  CHECK(turns.has_come(third.number()));
}

TEST_CASE("Lists have their turns in the order in which they came, also behind one that needs more than is free") {
  ListTurns turns(1000);
  std::optional<ListTurns::Turn> first = turns.wait(900);
  const ListTurns::Turn large = turns.wait(500);
  const ListTurns::Turn small = turns.wait(1);
  CHECK_FALSE(turns.has_come(large.number()));
  CHECK_FALSE(turns.has_come(small.number()));
  first.reset();
  CHECK(turns.has_come(large.number()));
  CHECK(turns.has_come(small.number()));
}

TEST_CASE("A list that is given up while it waits keeps no other from its turn") {
  ListTurns turns(10);
  std::optional<ListTurns::Turn> first = turns.wait(10);
  std::optional<ListTurns::Turn> gone = turns.wait(10);
  const ListTurns::Turn third = turns.wait(10);
  gone.reset();
  CHECK_FALSE(turns.has_come(third.number()));
  first.reset();
  CHECK(turns.has_come(third.number()));
}

TEST_CASE("One list always has its turn, however many pages it asks for") {
  ListTurns turns(10);
  const ListTurns::Turn large = turns.wait(5000);
  CHECK(turns.has_come(large.number()));
}

TEST_CASE("A list that lends its turn lets the next one go on, and keeps its own") {
  ListTurns turns(10);
  std::optional<ListTurns::Turn> slow = turns.wait(10);
  std::optional<ListTurns::Turn> next = turns.wait(10);
  slow->lend();
  slow->lend();
  CHECK(turns.has_come(slow->number()));
  CHECK(turns.has_come(next->number()));
  const ListTurns::Turn third = turns.wait(10);
  slow.reset();
  CHECK_FALSE(turns.has_come(third.number()));
  next.reset();
  CHECK(turns.has_come(third.number()));
}

TEST_CASE("A turn that is moved is held once") {
  ListTurns turns(10);
  ListTurns::Turn first = turns.wait(10);
  const ListTurns::Turn second = turns.wait(10);
  {
    ListTurns::Turn moved = std::move(first);
    first = std::move(moved);
  }
  CHECK_FALSE(turns.has_come(second.number()));
  first = ListTurns::Turn();
  CHECK(turns.has_come(second.number()));
}

TEST_CASE("A list that has not asked for a turn has none") {
  ListTurns turns(10);
  const ListTurns::Turn first = turns.wait(10);
  CHECK(ListTurns::Turn().number() == 0);
  CHECK_FALSE(turns.has_come(0));
}
