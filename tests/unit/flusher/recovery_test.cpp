#include "flusher/counting/recovery.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "common/os/errors.hpp"
#include "tests/unit/flusher/deciders.hpp"
#include "tests/unit/flusher/spool_contents.hpp"

using namespace visitd;
using test::Deciders;
using test::DeciderSettings;
using test::FlusherMemory;

namespace {

constexpr std::uint32_t buckets = 8;

using Positions = std::vector<std::uint64_t>;

SpoolState with_ring(std::uint64_t id, Positions positions) {
  SpoolState spool;
  spool.rings.push_back({id, 1, false, std::move(positions)});
  return spool;
}

std::map<std::string, CarriedEntry> by_page(const std::vector<CarriedEntry>& entries) {
  std::map<std::string, CarriedEntry> pages;
  for (const CarriedEntry& entry : entries) pages[entry.page] = entry;
  return pages;
}

/// Another life over the same spool, with the entries that its predecessor showed.
struct NextLife : Deciders {
  NextLife(SpoolState state, const std::vector<CarriedEntry>& carried, const DeciderSettings& settings = {})
      : Deciders(settings) {
    recover_pending(state, FlusherMemory::hash_seed, buckets, pending, open, batches);
    recover_entries(state, carried, FlusherMemory::hash_seed, view, pending, open, batches, lookups);
  }
};

}  // namespace

// ---- positions

TEST_CASE("positions of a ring that the spool knows are the spool's") {
  SpoolState spool = with_ring(7, {100, 200});
  spool.rings.push_back({8, 2, false, {1, 2}});
  CHECK(positions_of(spool, 7, Positions{0, 0}) == Positions{100, 200});
  CHECK(positions_of(spool, 7, Positions{100, 200}) == Positions{100, 200});
  CHECK(positions_of(spool, 8, Positions{0, 0}) == Positions{1, 2});
}

TEST_CASE("a ring that the spool does not know starts at the largest head that cache and ring know") {
  CHECK(positions_of({}, 9, Positions{64, 64, 0}, Positions{128, 8, 0}) == Positions{128, 64, 0});
  const auto starts = lane_starts({}, 9, Positions{64, 64, 0}, Positions{128, 8, 0});
  CHECK(starts[0].by == LaneStart::By::ring);
  CHECK(starts[1].by == LaneStart::By::cache);
  CHECK(starts[2].by == LaneStart::By::nobody);
}

TEST_CASE("what the ring says moves the lane on, and stops no flusher, also where the spool knows the ring") {
  const SpoolState spool = with_ring(7, {100, 200});
  CHECK(positions_of(spool, 7, Positions{0, 0}, Positions{40, 200}) == Positions{100, 200});
  const auto starts = lane_starts(spool, 7, Positions{0, 0}, Positions{160, 0});
  CHECK(starts[0].position == 160);
  CHECK(starts[0].by == LaneStart::By::ring_blindly);
  CHECK(starts[0].spool == 100);
  CHECK(starts[1].by == LaneStart::By::spool);
}

TEST_CASE("a ring that the spool does not know starts where the cache says it is durable") {
  CHECK(positions_of(with_ring(7, {100}), 9, Positions{64, 0}) == Positions{64, 0});
  CHECK(positions_of({}, 9, Positions{0, 0}) == Positions{0, 0});
}

TEST_CASE("a spool that is older than its ring is refused, whichever lane shows it") {
  const SpoolState spool = with_ring(7, {100, 200});
  CHECK_THROWS_WITH_AS(static_cast<void>(positions_of(spool, 7, Positions{0, 208})),
                       doctest::Contains("of lane 1 it holds what was recorded up to position 200"), Error);
  CHECK_THROWS_WITH_AS(static_cast<void>(positions_of(spool, 7, Positions{108, 0})), doctest::Contains("--renew-spool"),
                       Error);
  // A lane that the spool says nothing of counts as not begun.
  CHECK(positions_of(spool, 7, Positions{0, 0, 0}) == Positions{100, 200, 0});
  CHECK_THROWS_AS(static_cast<void>(positions_of(spool, 7, Positions{0, 0, 8})), Error);
}

// ---- what is pending

TEST_CASE("everything pending comes back from the spool, and goes on as if nothing had been") {
  DeciderSettings settings{{2, 600, 1U << 20U, 5000}};
  Deciders former(settings);
  std::vector<std::string> names;
  for (std::uint32_t i = 0; i < 3; ++i) names.push_back(former.memory.page_in(3, i));
  const std::string other = former.memory.page_in(5);
  former.count_one(names[0]);
  for (std::uint32_t i = 0; i < 3; ++i) former.visit(names[i], i + 1);
  static_cast<void>(former.batches.begin_flush());
  static_cast<void>(former.commit(true));  // two pages sealed, the third stays open
  former.visit(names[0], 10);
  former.visit(other, 7);
  static_cast<void>(former.commit(false));

  settings.incarnation = {2, 0xdef};
  NextLife d(former.spool.load(7919), {}, settings);
  CHECK(d.pending.with_visits() == 4);
  CHECK(d.pending.size() == 4);
  const auto page = [&](const std::string& name) -> const SeriesVisits& { return d.pending[d.number_of(name)]; };
  CHECK(page(names[0]).open == 10);
  CHECK(page(names[0]).inflight == 1);
  CHECK(page(names[1]).open == 0);
  CHECK(page(names[1]).inflight == 2);
  CHECK(page(names[2]).open == 3);
  CHECK(page(other).open == 7);
  CHECK(page(other).bucket == 5);
  CHECK(std::ranges::all_of(names, [&](const std::string& name) { return page(name).unspooled == 0; }));

  CHECK(d.batches.last_seq(3) == 1);
  CHECK(d.batches.field(3) == former.batches.field(3));
  REQUIRE(d.batches.unanswered(3) != nullptr);
  CHECK(d.batches.unanswered(3)->mark == former.batches.unanswered(3)->mark);
  CHECK(d.batches.unanswered(3)->expected == former.batches.field(3));
  CHECK(d.batches.unanswered_count() == 1);
  REQUIRE(d.batches.lost_since(3, ""));
  CHECK(d.batches.lost_since(3, "")->size() == 1);
  CHECK(d.batches.was_written(3));
  CHECK_FALSE(d.batches.was_written(5));

  d.spool = former.spool;
  d.answer(3, {2, 2});
  const std::uint64_t flush = d.batches.begin_flush();
  const Transaction sealing = d.commit(true);
  CHECK(sealing.deltas.empty());
  REQUIRE(sealing.sealed.size() == 2);
  CHECK(sealing.sealed[0].mark.seq == 3);
  CHECK(sealing.sealed[0].mark.incarnation == Incarnation{2, 0xdef});
  CHECK(sealing.sealed[0].expected == d.batches.field(3));
  d.answer_as_first(3);
  d.answer_as_first(5);
  CHECK(d.batches.flush_is_done(flush));
  CHECK(d.pending.size() == 0);
  static_cast<void>(d.commit(true));
  const SpoolState spool = d.spool.load(7919);
  CHECK(test::open_in(spool, buckets).empty());
  CHECK(spool.unanswered.empty());
}

TEST_CASE("nothing of a bucket that the settings no longer have is taken") {
  SpoolState spool;
  spool.marks.push_back({buckets + 1, 4, "field"});
  spool.kept.push_back({buckets + 1, {test::first_life, 4, 0}, "", encode_effects({{"home", 1}}), 1000});
  spool.open.push_back({buckets, 1, encode_effects({{"home", 1}})});
  spool.each_spilled = [](const auto& use) { use(buckets + 1, encode_effects({{"home", 1}})); };
  NextLife d(spool, {});
  CHECK(d.batches.unanswered_count() == 0);
  CHECK(d.memory.statistic(FlusherStatistic::kept_batches) == 0);
  CHECK(d.memory.statistic(FlusherStatistic::spilled_visits) == 0);
  CHECK(d.pending.size() == 0);
}

// ---- entries

TEST_CASE("entries come over only to a spool that holds their ring as far as their cache says") {
  const auto entries_for = [](const SpoolState& spool) {
    return entries_known_to(spool, {7, {64, 32}, {{"page", 3, 5000, 0, 1}}}).size();
  };
  CHECK(entries_for({}) == 0);  // a new spool
  CHECK(entries_for(with_ring(6, {640, 640})) == 0);
  CHECK(entries_for(with_ring(7, {64, 24})) == 0);  // an old copy
  CHECK(entries_for(with_ring(7, {64, 32})) == 1);
  SpoolState left = with_ring(7, {80, 32});  // also of the ring before
  left.rings.push_back({8, 2, false, {0, 0}});
  CHECK(entries_for(left) == 1);
}

TEST_CASE("entries are read from a view as they stand, each with its bucket's answered batch") {
  Deciders d;
  const std::string page = d.memory.page_in(3);
  d.count_one(page);
  d.give_entry(page, 100, 50);
  d.give_entry("a page of more than one word", 7, 60);
  const auto carried = by_page(carried_entries(d.memory.shown(), buckets));
  REQUIRE(carried.size() == 2);
  CHECK(carried.at(page).base == 100);
  CHECK(carried.at(page).expires == 5050);
  CHECK(carried.at(page).bucket == 3);
  CHECK(carried.at(page).answered == 1);
  CHECK(carried.at("a page of more than one word").base == 7);
  CHECK(carried_entries(d.memory.shown(), buckets * 2).empty());  // laid out for other settings
}

TEST_CASE("a long id comes over whole, and one whose cells lead nowhere does not") {
  DeciderSettings settings;
  settings.shape.page_id_limit = 1024;
  Deciders former(settings);
  const std::string longest = std::string(1000, 'x') + "in the fourth cell";
  former.give_entry(longest, 12);
  former.give_entry(std::string(300, 'y'), 13);
  former.give_entry("short", 14);
  const auto carried = by_page(carried_entries(former.memory.shown(), buckets));
  REQUIRE(carried.size() == 3);
  CHECK(carried.at(longest).base == 12);
  CHECK(carried.at(std::string(300, 'y')).base == 13);

  NextLife d({}, carried_entries(former.memory.shown(), buckets), settings);
  CHECK(d.view.entries() == 3);
  CHECK(d.memory.entry(longest).base == 12);
  CHECK(d.memory.entry("short").base == 14);

  const ViewMemory view = former.memory.shown();
  view.page_room(former.pending[former.number_of(longest)].node).back().store(view.shape.entries + 1);
  CHECK(by_page(carried_entries(view, buckets)).count(longest) == 0);
}

TEST_CASE("an entry comes over with what is pending of its page, where its bucket agrees with the spool") {
  Deciders former;
  const std::string agrees = former.memory.page_in(3);
  const std::string ahead = former.memory.page_in(4);
  former.count_one(agrees);
  former.give_entry(agrees, 100);
  former.give_entry(ahead, 40);
  former.visit(agrees, 5);
  former.visit(ahead, 6);
  static_cast<void>(former.batches.begin_flush());
  static_cast<void>(former.commit(true));
  former.visit(agrees, 2);
  static_cast<void>(former.commit(false));
  // The answer reaches the view, and the flusher dies before the spool has it.
  former.answer(4, {46});
  CHECK(former.memory.entry(ahead).base == 46);

  NextLife d(former.spool.load(7919), carried_entries(former.memory.shown(), buckets));
  CHECK(d.memory.entry(agrees) == FlusherMemory::Entry{true, 100, 5000, 5, 2});
  CHECK_FALSE(d.memory.entry(ahead).there);  // 46 and 6 more would count them twice
  CHECK(d.pending[d.number_of(ahead)].inflight == 6);
  CHECK(d.memory.shown().answered(3).load() == 1);
  CHECK(d.memory.shown().answered(4).load() == 0);
  // It can be evicted and looked up like one that was asked for.
  CHECK(d.memory.ask(0, agrees) == Published::published);
  CHECK(d.lookups.run(3999));
  CHECK(d.lookups.take_lanes_to_wake() == 1);
  d.lookups.forget_buckets(std::vector<bool>(8, true));
  CHECK_FALSE(d.memory.entry(agrees).there);
}

TEST_CASE("no more entries come over than there is room, and none twice") {
  std::vector<CarriedEntry> carried;
  for (int i = 0; i < 20; ++i) {
    const std::string page = "page-" + std::to_string(i % 10);
    carried.push_back({page, 100U + static_cast<std::uint64_t>(i), 5000, 0, page_bucket(page, buckets)});
  }
  NextLife all({}, carried);
  CHECK(all.view.entries() == 10);
  CHECK(all.memory.entry("page-3").base == 103);

  DeciderSettings few;
  few.shape.entries = 4;
  NextLife some({}, carried, few);
  CHECK(some.view.entries() == 4);
  CHECK(some.pending.size() == 4);

  // What needs more cells than are left is passed over, and what comes behind it is not.
  std::vector<CarriedEntry> of_lengths;
  for (const std::size_t length : {1U, 1024U, 2U, 300U, 3U}) {
    const std::string page(length, 'x');
    of_lengths.push_back({page, length, 5000, 0, page_bucket(page, buckets)});
  }
  few.shape.page_id_limit = 1024;
  NextLife fitting({}, of_lengths, few);
  CHECK(fitting.view.entries() == 3);
  CHECK(fitting.memory.entry(std::string(300, 'x')).base == 300);
  CHECK_FALSE(fitting.memory.entry(std::string(1024, 'x')).there);

  DeciderSettings shorter;
  shorter.shape.page_id_limit = 5;
  NextLife none({}, carried, shorter);
  CHECK(none.view.entries() == 0);
}

TEST_CASE("a view whose chains are damaged is read without end or fault") {
  Deciders d;
  for (int i = 0; i < 10; ++i) d.give_entry("page-" + std::to_string(i), 1);
  const ViewMemory view = d.memory.shown();
  const auto first_of = [&](const std::string& page) -> Word& {
    return view.first(FlusherMemory::hash_of(page) & (view.shape.chains() - 1));
  };
  const std::uint64_t n = d.pending[d.number_of("page-0")].node;

  SUBCASE("a circle") {
    view.node(n).next.store(n);
  }
  SUBCASE("a link beyond the nodes") {
    view.node(n).next.store(std::uint64_t{1} << 60U);
  }
  SUBCASE("a first node beyond the nodes") {
    first_of("page-0").store(view.shape.entries + 1);
  }
  SUBCASE("a page of no length") {
    view.node(n).page_length.store(0);
  }
  SUBCASE("a page longer than may be") {
    view.node(n).page_length.store(~std::uint64_t{0});
  }
  SUBCASE("everything links to everything") {
    for (std::uint64_t chain = 0; chain < view.shape.chains(); ++chain) view.first(chain).store(1);
    for (std::uint64_t node = 1; node <= view.shape.entries; ++node)
      view.node(node).next.store(node % view.shape.entries + 1);
  }
  const std::vector<CarriedEntry> carried = carried_entries(view, buckets);
  CHECK(carried.size() <= std::size_t{chain_limit} * view.shape.chains());
  const NextLife next({}, carried);
  CHECK(next.view.entries() <= 10);
}
