#include "flusher/redis/primary_search.hpp"

#include <doctest/doctest.h>

#include <optional>
#include <string>
#include <variant>

#include "tests/unit/contains.hpp"

using visitd::PrimarySearch;
using visitd::ServerAddress;
using visitd::test::contains;

namespace {

const ServerAddress first{"10.0.0.1", 6379};
const ServerAddress second{"10.0.0.2", 6379};

PrimarySearch three_sentinels() {
  return PrimarySearch({.addresses = {{"s0", 1}, {"s1", 2}, {"s2", 3}}, .primary = "counts"});
}

std::optional<std::size_t> asked(const PrimarySearch::Step& step) {
  const auto* ask = std::get_if<PrimarySearch::Ask>(&step);
  return ask == nullptr ? std::nullopt : std::optional(ask->sentinel);
}

std::optional<ServerAddress> connected(const PrimarySearch::Step& step) {
  const auto* connect = std::get_if<PrimarySearch::Connect>(&step);
  return connect == nullptr ? std::nullopt : std::optional(connect->primary);
}

bool is_nothing(const PrimarySearch::Step& step) {
  return std::holds_alternative<PrimarySearch::Nothing>(step);
}

}  // namespace

TEST_CASE("the first sentinel that names a primary is believed, and then listened to") {
  PrimarySearch search = three_sentinels();
  CHECK(asked(search.begin()) == 0);
  CHECK(connected(search.on_primary(first)) == first);
  search.settle();
  CHECK(is_nothing(search.on_primary(first)));  // told again
}

TEST_CASE("sentinels that do not answer are passed over, each once") {
  PrimarySearch search = three_sentinels();
  CHECK(asked(search.begin()) == 0);
  CHECK(asked(search.on_no_answer("Connection refused")) == 1);
  CHECK(asked(search.on_no_answer("does not know it")) == 2);
  CHECK(connected(search.on_primary(first)) == first);
}

TEST_CASE("where no sentinel names one, the search ends with what each of them said, and the next one begins anew") {
  PrimarySearch search = three_sentinels();
  for (int round = 0; round < 2; ++round) {
    CHECK(asked(search.begin()) == 0);
    CHECK(asked(search.on_no_answer("Connection refused")) == 1);
    CHECK(asked(search.on_no_answer("does not know it")) == 2);
    const PrimarySearch::Step end = search.on_no_answer("no answer within 3000 ms");
    REQUIRE(std::holds_alternative<PrimarySearch::GiveUp>(end));
    const std::string why = std::get<PrimarySearch::GiveUp>(end).why;
    for (const char* part : {"counts", "s0:1: Connection refused", "s1:2: does not know it", "s2:3: no answer"}) {
      CHECK(contains(why, part));
    }
  }
}

TEST_CASE("sentinels that refuse for one reason are named together") {
  PrimarySearch search = three_sentinels();
  static_cast<void>(search.begin());
  static_cast<void>(search.on_no_answer("Connection refused"));
  static_cast<void>(search.on_no_answer("does not know it"));
  const PrimarySearch::Step end = search.on_no_answer("Connection refused");
  REQUIRE(std::holds_alternative<PrimarySearch::GiveUp>(end));
  CHECK(contains(std::get<PrimarySearch::GiveUp>(end).why, "(s0:1, s2:3: Connection refused; s1:2: does not know it)"));
}

TEST_CASE("a change that is told leads away from the former primary, and the sentinel that told it is asked first") {
  PrimarySearch search = three_sentinels();
  static_cast<void>(search.begin());
  CHECK(asked(search.on_no_answer("Connection refused")) == 1);
  static_cast<void>(search.on_primary(first));
  search.settle();
  const PrimarySearch::Step step = search.on_primary(second);
  REQUIRE(std::holds_alternative<PrimarySearch::Leave>(step));
  const std::string why = std::get<PrimarySearch::Leave>(step).why;
  CHECK(contains(why, "s1:2"));
  CHECK(contains(why, "10.0.0.2:6379"));
  search.cancel();
  CHECK(asked(search.begin()) == 1);
  CHECK(connected(search.on_primary(second)) == second);
}

TEST_CASE("a change before the former primary took the connection leads away from it too") {
  PrimarySearch search = three_sentinels();
  static_cast<void>(search.begin());
  static_cast<void>(search.on_primary(first));
  CHECK(std::holds_alternative<PrimarySearch::Leave>(search.on_primary(second)));
  search.cancel();
  CHECK(asked(search.begin()) == 0);
}

TEST_CASE("a sentinel whose primary is away, or is none, is asked after the others") {
  PrimarySearch search = three_sentinels();
  CHECK(asked(search.begin()) == 0);
  CHECK(connected(search.on_primary(first)) == first);
  search.cancel();
  CHECK(asked(search.begin()) == 1);
  CHECK(connected(search.on_primary(first)) == first);
  search.cancel();
  CHECK(asked(search.begin()) == 2);
  CHECK(connected(search.on_primary(second)) == second);
  search.settle();
  search.cancel();
  CHECK(asked(search.begin()) == 2);  // the connection had stood: it is believed again
}

TEST_CASE("what sentinels say while nobody wants a primary leads nowhere") {
  PrimarySearch search = three_sentinels();
  static_cast<void>(search.begin());
  search.cancel();
  CHECK(is_nothing(search.on_primary(first)));
  CHECK(is_nothing(search.on_primary(second)));
}

TEST_CASE("where the sentinel that is listened to ends, the next one is listened to later") {
  PrimarySearch search = three_sentinels();
  static_cast<void>(search.begin());
  static_cast<void>(search.on_primary(first));
  search.settle();
  for (const std::size_t next : {1U, 2U, 0U, 1U}) {
    const PrimarySearch::Step step = search.on_no_answer("Server closed the connection");
    REQUIRE(std::holds_alternative<PrimarySearch::AskLater>(step));
    CHECK(std::get<PrimarySearch::AskLater>(step).sentinel == next);
  }
  // What changed meanwhile is told by its answer.
  CHECK(std::holds_alternative<PrimarySearch::Leave>(search.on_primary(second)));
}

TEST_CASE("a single sentinel is asked again and again") {
  PrimarySearch search({.addresses = {{"s0", 1}}, .primary = "counts"});
  for (int round = 0; round < 3; ++round) {
    CHECK(asked(search.begin()) == 0);
    CHECK(connected(search.on_primary(first)) == first);
    search.cancel();
    CHECK(asked(search.begin()) == 0);
    CHECK(std::holds_alternative<PrimarySearch::GiveUp>(search.on_no_answer("Connection refused")));
  }
}
