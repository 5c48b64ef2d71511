#include "flusher/counting/lookups.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "tests/unit/flusher/deciders.hpp"

using namespace visitd;
using test::Deciders;
using test::DeciderSettings;
using test::FlusherMemory;

namespace {

/// A frontend posts a request, and the flusher takes it. Returns whose doorbells are to be rung.
std::uint64_t ask(Deciders& d, std::uint32_t lane, const std::string& page, std::uint64_t now_ms = 0) {
  REQUIRE(d.memory.ask(lane, page) == Published::published);
  CHECK(d.lookups.run(now_ms));
  return d.lookups.take_lanes_to_wake();
}

}  // namespace

TEST_CASE("a page is asked of its shard once, whoever waits, and all of them are woken by its count") {
  Deciders d;
  CHECK(ask(d, 0, "home") == 0);
  CHECK(ask(d, 1, "home") == 0);
  CHECK(ask(d, 0, "home") == 0);
  CHECK(d.asked == std::vector<std::string>{"home"});
  d.lookups.counted(d.number_of("home"), 12, 0, 100);
  CHECK(d.lookups.take_lanes_to_wake() == 3);
  CHECK(d.lookups.take_lanes_to_wake() == 0);
  CHECK(d.memory.entry("home") == FlusherMemory::Entry{true, 12, 5100, 0, 0});
  CHECK(d.memory.statistic(FlusherStatistic::lookups) == 1);
  CHECK(d.memory.statistic(FlusherStatistic::entries) == 1);
}

TEST_CASE("a fresh entry wakes at once; one in the last fifth of its TTL, or past it, is asked for again") {
  Deciders d;
  d.give_entry("home", 12, 100);
  CHECK(ask(d, 1, "home", 4099) == 2);
  CHECK(d.asked.empty());
  CHECK(ask(d, 1, "home", 4100) == 0);
  CHECK(d.asked == std::vector<std::string>{"home"});
  d.lookups.counted(d.number_of("home"), 15, 0, 4200);
  CHECK(d.lookups.take_lanes_to_wake() == 2);
  CHECK(d.memory.entry("home") == FlusherMemory::Entry{true, 15, 9200, 0, 0});
  CHECK(ask(d, 1, "home", 9200) == 0);
  CHECK(d.asked == std::vector<std::string>{"home", "home"});
}

TEST_CASE("a lower count than before does not make the entry fall") {
  Deciders d;
  d.give_entry("home", 12, 0);
  d.lookups.counted(d.number_of("home"), 7, 0, 100);
  CHECK(d.memory.entry("home") == FlusherMemory::Entry{true, 12, 5100, 0, 0});
}

TEST_CASE("an entry is made with what is pending of its page") {
  Deciders d;
  d.visit("home", 4);
  static_cast<void>(d.batches.begin_flush());
  static_cast<void>(d.commit(true));
  d.visit("home", 3);
  CHECK(ask(d, 0, "home") == 0);
  d.lookups.counted(d.number_of("home"), 100, 0, 0);
  CHECK(d.memory.entry("home") == FlusherMemory::Entry{true, 100, 5000, 4, 3});
}

TEST_CASE("whoever asks for a page whose shard cannot be asked is woken to look for himself") {
  Deciders d;
  d.shard_answers = false;
  CHECK(ask(d, 1, "home") == 2);
  CHECK(d.pending.size() == 0);
  d.shard_answers = true;
  CHECK(ask(d, 1, "home") == 0);
  CHECK(d.asked.size() == 1);
}

TEST_CASE("a lookup without an answer wakes those who wait, and the page can be asked for again") {
  Deciders d;
  CHECK(ask(d, 0, "home") == 0);
  const std::uint32_t number = d.number_of("home");
  REQUIRE(number != PendingSeries::none);
  d.lookups.dropped(number);
  CHECK(d.lookups.take_lanes_to_wake() == 1);
  CHECK(d.pending.size() == 0);
  CHECK_FALSE(d.memory.entry("home").there);
  CHECK(ask(d, 0, "home") == 0);
  CHECK(d.asked.size() == 2);

  // A page with visits is not forgotten with its lookup.
  d.visit("home", 2);
  d.lookups.dropped(d.number_of("home"));
  CHECK(d.number_of("home") != PendingSeries::none);
  d.lookups.dropped(d.number_of("home"));  // nobody waits
  CHECK(d.lookups.take_lanes_to_wake() == 1);
}

TEST_CASE("requests are taken once each, and their space is free then") {
  Deciders d;
  for (std::uint32_t i = 0; i < 500; ++i) {
    // 500 times 40 bytes go several times round the requests of 4096 bytes.
    REQUIRE(d.memory.ask(0, "page-" + std::to_string(i % 10)) == Published::published);
    CHECK_FALSE(d.lookups.is_empty());
    CHECK(d.lookups.run(0));
    CHECK(d.lookups.is_empty());
    CHECK_FALSE(d.lookups.run(0));
  }
  CHECK(d.asked.size() == 10);
}

TEST_CASE("requests that make no sense are passed over") {
  Deciders d;
  CHECK(ask(d, 0, "\x01w:writer") == 0);
  CHECK(ask(d, 0, std::string(65, 'x')) == 0);
  CHECK(d.asked.empty());
  CHECK(d.pending.size() == 0);
  CHECK(ask(d, 0, "home") == 0);
  CHECK(d.asked == std::vector<std::string>{"home"});
}

TEST_CASE("a full view makes room by dropping what nobody asked for lately") {
  DeciderSettings settings;
  settings.shape.entries = 4;
  Deciders d(settings);
  for (const char* page : {"a", "b", "c", "d"}) d.give_entry(page, 1, 0);
  // The first one that needs room sends the hand all the way round: everything looks used at first.
  d.give_entry("e", 1, 0);
  CHECK_FALSE(d.memory.entry("a").there);
  CHECK(ask(d, 0, "b", 1) == 1);
  CHECK(ask(d, 0, "d", 1) == 1);
  d.give_entry("f", 1, 1);
  CHECK(d.memory.entry("b").there);
  CHECK(d.memory.entry("d").there);
  CHECK_FALSE(d.memory.entry("c").there);
  CHECK(d.memory.entry("e").there);
  CHECK(d.memory.entry("f").there);
  CHECK(d.memory.statistic(FlusherStatistic::entries_evicted) == 2);
  CHECK(d.memory.statistic(FlusherStatistic::entries) == 4);
  CHECK(d.pending.size() == 4);
}

TEST_CASE("a long id makes room by dropping as many entries as it needs cells, and gives them back") {
  DeciderSettings settings;
  settings.shape.entries = 8;
  settings.shape.page_id_limit = 1024;
  Deciders d(settings);
  const std::string longest(1024, 'x');
  const auto there = [&] {
    std::string found;
    for (const char* page : {"a", "b", "c", "d", "e", "f", "g", "h"}) found += d.memory.entry(page).there ? page : "";
    return found + (d.memory.entry(longest).there ? "+" : "");
  };
  for (const char* page : {"a", "b", "c", "d", "e", "f", "g", "h"}) d.give_entry(page, 1, 0);
  CHECK(there() == "abcdefgh");
  d.visit(longest, 3);
  d.give_entry(longest, 10, 0);
  CHECK(d.memory.entry(longest) == FlusherMemory::Entry{true, 10, 5000, 0, 3});
  CHECK(there() == "efgh+");
  CHECK(d.memory.statistic(FlusherStatistic::entries) == 5);
  CHECK(d.memory.statistic(FlusherStatistic::entries_evicted) == 4);
  for (const char* page : {"a", "b", "c", "d"}) d.give_entry(page, 1, 1);
  CHECK(there() == "abcd+");
  // Everything looks used: the hand goes all the way round, over the long id's further cells, and comes to its node.
  d.give_entry("e", 1, 1);
  CHECK(there() == "abcde");
  for (const char* page : {"f", "g", "h"}) d.give_entry(page, 1, 1);
  CHECK(there() == "abcdefgh");
  CHECK(d.memory.statistic(FlusherStatistic::entries_evicted) == 9);
  // Its visits were kept without an entry.
  d.give_entry(longest, 10, 2);
  CHECK(d.memory.entry(longest) == FlusherMemory::Entry{true, 10, 5002, 0, 3});
}

TEST_CASE("a page that lost its entry keeps its visits, and gets them back with the next one") {
  DeciderSettings settings;
  settings.shape.entries = 1;
  Deciders d(settings);
  d.give_entry("home", 10);
  d.visit("home", 3);
  d.give_entry("about", 1);
  CHECK_FALSE(d.memory.entry("home").there);
  d.visit("home", 2);
  d.give_entry("home", 10);
  CHECK(d.memory.entry("home") == FlusherMemory::Entry{true, 10, 5000, 0, 5});
  CHECK_FALSE(d.memory.entry("about").there);
  CHECK(d.number_of("about") == PendingSeries::none);
}

TEST_CASE("entries of a bucket whose truth has changed go, and no others") {
  Deciders d;
  const std::string gone = d.memory.page_in(3, 0);
  const std::string counted = d.memory.page_in(3, 1);
  const std::string other = d.memory.page_in(4);
  for (const std::string& page : {gone, counted, other}) d.give_entry(page, 10);
  d.visit(counted, 2);
  std::vector<bool> forgotten(8);
  forgotten[3] = true;
  CHECK(d.lookups.known_of(forgotten).first > 0);
  d.lookups.forget_buckets(forgotten);
  CHECK(d.lookups.known_of(forgotten).first == 0);
  CHECK_FALSE(d.memory.entry(gone).there);
  CHECK_FALSE(d.memory.entry(counted).there);
  CHECK(d.memory.entry(other).there);
  CHECK(d.number_of(gone) == PendingSeries::none);
  CHECK(d.number_of(counted) != PendingSeries::none);
  CHECK(d.memory.statistic(FlusherStatistic::entries) == 1);
  // Lower than before: the shard is now believed.
  d.give_entry(counted, 4);
  CHECK(d.memory.entry(counted) == FlusherMemory::Entry{true, 4, 5000, 0, 2});
}

TEST_CASE("a page whose field holds no count is damaged, said once, and taken as it stands once it is mended") {
  using Change = UncountablePages::Change;
  Deciders d;
  d.give_entry("home", 100);
  d.visit("home", 3);
  d.lookups.unreadable(d.number_of("home"), 10);
  CHECK(d.memory.entry("home") == FlusherMemory::Entry{true, 100, 5010, 0, 3, true});
  CHECK(d.memory.statistic(FlusherStatistic::pages_uncountable) == 1);
  d.lookups.unreadable(d.number_of("home"), 20);
  auto news = d.lookups.uncountable().take_news();
  REQUIRE(news.size() == 1);
  CHECK(news[0].page == "home");
  CHECK(news[0].change == Change::unreadable);
  CHECK(d.lookups.uncountable().names(10) == std::vector<std::string>{"home"});

  // Lower than it was: somebody wrote it.
  d.give_entry("home", 7, 30);
  CHECK(d.memory.entry("home") == FlusherMemory::Entry{true, 7, 5030, 0, 3, false});
  CHECK(d.memory.statistic(FlusherStatistic::pages_uncountable) == 0);
  news = d.lookups.uncountable().take_news();
  REQUIRE(news.size() == 1);
  CHECK(news[0].change == Change::countable);
  CHECK(d.lookups.uncountable().names(10).empty());
}

TEST_CASE("a count without room for the visits that were put aside is no count of the page") {
  Deciders d;
  d.lookups.uncountable().set_aside("home", 5);
  CHECK(d.memory.statistic(FlusherStatistic::pages_uncountable) == 1);
  // Not durably: the visits may come back with the next life.
  d.give_entry("home", 7, 5);
  CHECK(d.memory.entry("home").damaged);
  d.lookups.uncountable().aside_is_durable();
  d.give_entry("home", count_limit - 4, 10);
  CHECK(d.memory.entry("home").damaged);
  d.give_entry("home", count_limit - 5, 20);
  CHECK(d.memory.entry("home") == FlusherMemory::Entry{true, count_limit - 5, 5020, 0, 0, false});
  CHECK(d.memory.statistic(FlusherStatistic::pages_uncountable) == 0);
}

TEST_CASE("the flusher asks by itself whether pages can be counted again, and remembers a bounded number of them") {
  Deciders d;
  for (std::size_t i = 0; i < UncountablePages::limit + 10; ++i) {
    d.lookups.uncountable().set_aside("page-" + std::to_string(i), 1);
  }
  d.lookups.uncountable().aside_is_durable();
  CHECK(d.memory.statistic(FlusherStatistic::pages_uncountable) == UncountablePages::limit);
  for (std::size_t round = 0; round < UncountablePages::limit / 64; ++round) {
    d.asked.clear();
    d.lookups.ask_uncountable();
    REQUIRE(d.asked.size() == 64);
    for (const std::string& page : std::vector<std::string>(d.asked)) d.lookups.counted(d.number_of(page), 9, 0, 0);
  }
  CHECK(d.memory.statistic(FlusherStatistic::pages_uncountable) == 0);
  d.asked.clear();
  d.lookups.ask_uncountable();
  CHECK(d.asked.empty());
}

TEST_CASE("a request whose hash is not its page's makes no second page of the name") {
  Deciders d;
  d.visit("home", 4);
  REQUIRE(d.memory.ask_with_hash(0, "home", FlusherMemory::hash_of("about")) == Published::published);
  CHECK(d.lookups.run(0));
  CHECK(d.asked.empty());
  CHECK(d.pending.size() == 1);
  CHECK(ask(d, 0, "home") == 0);
  CHECK(d.asked == std::vector<std::string>{"home"});
}
