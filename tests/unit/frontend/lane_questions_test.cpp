#include "frontend/api/lane_questions.hpp"

#include <doctest/doctest.h>

#include <optional>
#include <string>

#include "tests/unit/frontend/frontend_host.hpp"

namespace visitd {

namespace {

OwnerQuestion about(const std::string& text, std::uint64_t until_ms = 5000) {
  return {until_ms, true, "192.0.2.1", "", {ControlCommand::pages, text}};
}
OwnerQuestion to_set(const std::string& page) {
  return {5000, true, "192.0.2.1", "", {ControlCommand::correct, "set\t" + page + "\t5\n"}};
}

/// A frontend that asks; the test plays the flusher.
struct Asking {
  Asking() : membership(host.settings), cache(host.make_cache(membership.ring())), questions(membership) {
    membership.follow_cache();
  }

  /// What stands in the ring; empty: nothing.
  [[nodiscard]] std::string asked() const {
    const TextSlot slot = membership.ring().question(membership.lane());
    const auto text = slot.read(slot.number());
    return text ? decode_question(*text).request.argument : std::string();
  }
  void answer(const std::string& text) {
    cache.answer(membership.lane())
        .write(membership.ring().question(membership.lane()).number(),
               encode_owner_answer({OwnerAnswer::Verdict::answered, {true, "", {{"said", text}}, {}}}));
  }
  [[nodiscard]] std::string told(std::uint64_t number) {
    const auto answer = questions.take_answer(number);
    return answer ? answer->answer.text.at(0).second : std::string();
  }

  test::FrontendHost host;
  RingMembership membership;
  Cache& cache;
  LaneQuestions questions;
};

}  // namespace

TEST_CASE("one question at a time stands in the ring, and nothing once it is answered") {
  Asking asking;
  const std::uint64_t first = asking.questions.ask(about("first"));
  const std::uint64_t second = asking.questions.ask(about("second"));
  CHECK(asking.asked() == "first");
  CHECK_FALSE(asking.questions.concerns(first, 0));
  asking.answer("one");
  CHECK(asking.questions.concerns(first, 0));
  CHECK_FALSE(asking.questions.concerns(second, 0));
  CHECK(asking.told(first) == "one");
  CHECK(asking.told(first).empty());
  CHECK(asking.asked() == "second");
  asking.answer("two");
  CHECK(asking.told(second) == "two");
  CHECK(asking.asked().empty());
}

TEST_CASE("a change of a count comes before lists that wait") {
  Asking asking;
  static_cast<void>(asking.questions.ask(about("asked")));
  static_cast<void>(asking.questions.ask(about("waits")));
  static_cast<void>(asking.questions.ask(to_set("a")));
  static_cast<void>(asking.questions.ask(to_set("b")));
  for (const char* next : {"asked", "set\ta\t5\n", "set\tb\t5\n", "waits"}) {
    CHECK(asking.asked() == next);
    asking.answer("said");
    static_cast<void>(asking.questions.concerns(0, 0));  // it looks, and posts the next one
    CHECK(asking.asked() != next);
  }
}

TEST_CASE("a question whose asker has gone makes room for the next one") {
  Asking asking;
  const std::uint64_t first = asking.questions.ask(about("first"));
  const std::uint64_t second = asking.questions.ask(about("second"));
  const std::uint64_t third = asking.questions.ask(about("third"));
  asking.questions.forget(second);
  asking.questions.forget(first);
  CHECK(asking.asked() == "third");
  asking.questions.forget(third);
  CHECK(asking.asked().empty());
  asking.questions.forget(0);
}

TEST_CASE("an asker is told when nobody waits any more, and when too many do") {
  Asking asking;
  const std::uint64_t late = asking.questions.ask(about("late", 100));
  CHECK_FALSE(asking.questions.concerns(late, 99));
  CHECK(asking.questions.concerns(late, 100));
  std::size_t waiting = 1;
  while (asking.questions.ask(about("another")) != 0) ++waiting;
  CHECK(waiting == 64);
  CHECK(asking.questions.ask(about(std::string(question_slot_bytes, 'x'))) == 0);
}

TEST_CASE("a frontend that takes over a lane, and one that ends, leave no question") {
  test::FrontendHost host;
  RingMembership membership(host.settings);
  membership.ring().question(membership.lane()).write(99, encode_question(about("of one that was killed")));
  std::optional<LaneQuestions> questions(std::in_place, membership);
  CHECK(membership.ring().question(membership.lane()).number() == 0);
  static_cast<void>(questions->ask(about("asked")));
  questions.reset();
  CHECK(membership.ring().question(membership.lane()).number() == 0);
}

}  // namespace visitd
