#include "flusher/counting/open_visits.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "flusher/counting/batch.hpp"
#include "tests/unit/flusher/deciders.hpp"
#include "tests/unit/flusher/spool_contents.hpp"

using namespace visitd;
using test::Deciders;
using test::DeciderSettings;
using test::FlusherMemory;

namespace {

constexpr std::uint32_t all_buckets = 8;
constexpr std::uint32_t here = 1;  ///< a bucket of shard 0
constexpr std::uint32_t away = 5;  ///< a bucket of shard 1

using Visits = std::map<std::string, std::uint64_t>;

/// Two shards, of four buckets each. `pages`: of short names, that there is room for.
DeciderSettings two_shards(std::uint64_t pages = 1000, std::uint64_t journal_bytes = 1U << 20U) {
  DeciderSettings settings;
  settings.open = {pages * PendingSeries::bytes_of(8), journal_bytes};
  settings.shard_of_bucket = {0, 0, 0, 0, 1, 1, 1, 1};
  settings.shards = 2;
  return settings;
}

/// Another life over the same spool.
std::unique_ptr<Deciders> next_life(SimulatedSpool spool, const DeciderSettings& settings,
                                    const std::vector<CarriedEntry>& carried = {}) {
  auto next = std::make_unique<Deciders>(settings);
  next->spool = std::move(spool);
  SpoolState state = next->spool.load(7919);
  recover_pending(state, FlusherMemory::hash_seed, all_buckets, next->pending, next->open, next->batches);
  recover_entries(state, carried, FlusherMemory::hash_seed, next->view, next->pending, next->open, next->batches,
                  next->lookups);
  return next;
}

/// The visits that a life knows to be open, in memory and spilled: of the first ten pages of each bucket, which has no
/// others.
Visits open_of(Deciders& d) {
  Visits visits;
  for (std::uint32_t i = 0; i < 10 * all_buckets; ++i) {
    const std::string page = d.memory.page_in(i / 10, i % 10);
    const std::uint32_t number = d.number_of(page);
    if (number != PendingSeries::none && d.pending[number].open != 0) visits[page] += d.pending[number].open;
  }
  d.spool.load(7919).each_spilled([&](std::uint32_t bucket, std::string_view blob) {
    if (d.open.is_in_memory(bucket)) return;  // the spool still holds what was recalled
    for (const Effect& effect : decode_effects(blob)) visits[effect.series] += effect.operand;
  });
  return visits;
}

Visits open_in(SimulatedSpool spool) {
  Visits visits;
  for (const Effect& effect : test::open_in(spool.load(7919), all_buckets)) visits[effect.series] = effect.operand;
  return visits;
}

std::uint64_t bytes_of_journal(SimulatedSpool spool) {
  std::uint64_t bytes = 0;
  for (const JournalRow& row : spool.load(7919).journal) bytes += row.deltas.size();
  return bytes;
}

/// So many pages of a bucket are visited, and the next commit spills them: their shard is away.
void fill(Deciders& d, std::uint32_t bucket, std::uint32_t pages, std::uint32_t visits = 1) {
  for (std::uint32_t i = 0; i < pages; ++i) d.visit(d.memory.page_in(bucket, i), visits);
}

/// Seals and answers until all that was open is answered. Returns what the batches held.
Visits flush(Deciders& d) {
  Visits sent;
  const std::uint64_t flush = d.batches.begin_flush();
  for (int turn = 0; turn < 100 && !d.batches.flush_is_done(flush); ++turn) {
    static_cast<void>(d.commit(true));
    for (std::uint32_t bucket = 0; bucket < all_buckets; ++bucket) {
      if (d.batches.unanswered(bucket) == nullptr) continue;
      for (const Effect& page : d.batches.unanswered(bucket)->effects) sent[page.series] += page.operand;
      d.answer_as_first(bucket);
    }
  }
  CHECK(d.batches.flush_is_done(flush));
  static_cast<void>(d.commit(false));
  return sent;
}

}  // namespace

// ---- the journal

TEST_CASE("the journal stays within its limit and the size of all rows, however long nothing can be sealed") {
  constexpr std::uint64_t limit = 600;
  Deciders d(two_shards(1000, limit));
  Visits visited;
  std::uint64_t folds = 0;
  std::uint64_t largest = 0;
  for (std::uint32_t i = 0; i < 2000; ++i) {
    const std::string page = d.memory.page_in(i % all_buckets, i % 3);
    d.visit(page);
    ++visited[page];
    const Transaction transaction = d.commit(false);
    folds += transaction.open.size();
    largest = std::max(largest, bytes_of_journal(d.spool));
    if (i % 50 == 0) REQUIRE(open_in(d.spool) == visited);
  }
  CHECK(open_in(d.spool) == visited);
  CHECK(largest <= limit + 64);  // 24 rows of bytes are less; and what one commit adds
  CHECK(folds < 2000);           // not each time
  CHECK(folds > 100);
  CHECK(d.memory.statistic(FlusherStatistic::journal_bytes) == bytes_of_journal(d.spool));
}

TEST_CASE("beyond its limit those buckets are folded first whose visits stand longest in the journal") {
  Deciders d(two_shards(1000, 100));
  const std::string oldest = d.memory.page_in(3);
  d.visit(oldest);
  CHECK(d.commit(false).open.empty());
  std::optional<Transaction> folding;
  for (int i = 0; i < 100 && !folding; ++i) {
    d.visit(d.memory.page_in(6));
    Transaction transaction = d.commit(false);
    if (!transaction.open.empty()) folding = std::move(transaction);
  }
  REQUIRE(folding);
  REQUIRE(folding->open.size() == 2);
  CHECK(folding->open[0].first == 3);
  CHECK(decode_effects(folding->open[0].second) == std::vector<Effect>{{oldest, 1}});
  CHECK(folding->journal_until == folding->number);
  CHECK(d.spool.load(7919).journal.empty());
}

TEST_CASE("a journal is cut only before the first row that some bucket still needs") {
  Deciders d(two_shards());
  const std::string stays = d.memory.page_in(2);
  const std::string sealed = d.memory.page_in(here);
  d.visit(sealed);
  static_cast<void>(d.commit(false));
  d.visit(stays);
  const std::uint64_t needed = d.commit(false).number;
  d.visit(sealed);
  static_cast<void>(d.commit(false));
  static_cast<void>(d.batches.begin_flush());
  d.batches.set_takes_batches(0, true);
  // Only one bucket is sealed: the other one's batch has not been answered.
  const Transaction both = d.commit(true);
  CHECK(both.sealed.size() == 2);
  CHECK(both.journal_until == both.number);
  d.visit(stays);
  const std::uint64_t later = d.commit(false).number;
  d.visit(sealed);
  static_cast<void>(d.commit(false));
  d.answer_as_first(here);
  static_cast<void>(d.batches.begin_flush());
  const Transaction one = d.commit(true);
  REQUIRE(one.sealed.size() == 1);
  CHECK(one.sealed[0].bucket == here);
  CHECK(one.journal_until == 0);  // its own row is behind one that the other bucket needs
  CHECK(later > needed);
  CHECK(open_in(d.spool) == Visits{{stays, 1}});
}

TEST_CASE("one wrong watermark counts visits twice, or loses them: the right one does neither") {
  Deciders former(two_shards(1000, 100));
  const std::string page = former.memory.page_in(here);
  std::uint64_t visits = 0;
  // Up to a commit that folds, and two more.
  for (int after = 0; after < 3;) {
    former.visit(page);
    ++visits;
    const Transaction transaction = former.commit(false);
    if (after != 0 || !transaction.open.empty()) ++after;
  }
  const auto recovered = [&](auto change) {
    SpoolState state = former.spool.load(7919);
    REQUIRE(state.open.size() == 1);
    REQUIRE(state.journal.size() == 2);
    change(state);
    Deciders next(two_shards());
    recover_pending(state, FlusherMemory::hash_seed, all_buckets, next.pending, next.open, next.batches);
    const std::uint32_t number = next.number_of(page);
    return number == PendingSeries::none ? 0 : next.pending[number].open;
  };
  CHECK(recovered([](SpoolState&) {}) == visits);
  CHECK(recovered([](SpoolState& state) { ++state.open[0].folded; }) == visits - 1);
  CHECK(recovered([](SpoolState& state) { state.journal.erase(state.journal.begin()); }) == visits - 1);
  CHECK(recovered([&](SpoolState& state) {
          state.journal.insert(state.journal.begin(), {state.open[0].folded, encode_effects({{page, 1}})});
        }) == visits);
  CHECK(recovered([&](SpoolState& state) {
          state.journal.insert(state.journal.begin(), {state.open[0].folded, encode_effects({{page, 1}})});
          state.open[0].folded -= 1;
        }) == visits + 1);
}

// ---- spill and recall

TEST_CASE("beyond half of the memory the pages of a shard that is away leave it, and no others") {
  Deciders d(two_shards(20));
  d.batches.set_takes_batches(1, false);
  fill(d, here, 3);
  fill(d, away, 4);
  CHECK(d.commit(false).spilled.empty());  // there is room
  CHECK_FALSE(d.open.wants_transaction());
  fill(d, away, 9, 2);
  CHECK(d.open.wants_transaction());
  const Transaction spilling = d.capture(false);
  REQUIRE(spilling.spilled.size() == 1);
  CHECK(spilling.spilled[0].first == away);
  CHECK(decode_effects(spilling.spilled[0].second).size() == 9);
  CHECK(d.pending.size() == 12);  // until it is durable
  d.finish(spilling);
  CHECK(d.pending.size() == 3);
  CHECK(d.pending.with_visits() == 3);
  CHECK(d.open.any(away));
  CHECK_FALSE(d.open.is_in_memory(away));
  CHECK(d.open.is_in_memory(here));
  CHECK(d.memory.statistic(FlusherStatistic::spilled_visits) == 4 + 9 * 2);
  CHECK(d.memory.statistic(FlusherStatistic::spilled_bytes) == spilling.spilled[0].second.size());
  CHECK(d.memory.statistic(FlusherStatistic::pending_visits) == 3 + 4 + 9 * 2);
  CHECK_FALSE(d.open.wants_transaction());
}

TEST_CASE("a bucket that is spilled, visited again, spilled again, recalled and sealed is exact") {
  Deciders d(two_shards(10));
  d.batches.set_takes_batches(1, false);
  Visits visited;
  for (std::uint32_t round = 1; round <= 3; ++round) {
    fill(d, away, 7, round);
    for (std::uint32_t i = 0; i < 7; ++i) visited[d.memory.page_in(away, i)] += round;
    CHECK(d.commit(false).spilled.size() == 1);
    CHECK(d.pending.size() == 0);
    CHECK(open_in(d.spool) == visited);
  }
  d.visit(d.memory.page_in(away), 5);  // too few to be spilled
  visited[d.memory.page_in(away)] += 5;
  static_cast<void>(d.batches.begin_flush());
  CHECK_FALSE(d.batches.wants_seal());
  CHECK_FALSE(d.open.wants_transaction());  // nobody wants it while its shard takes no batches

  d.batches.set_takes_batches(1, true);
  CHECK(d.open.wants_transaction());
  CHECK_FALSE(d.batches.wants_seal());  // not before all of it is here
  const Transaction recalling = d.commit(true);
  CHECK(recalling.recalled == std::vector<std::uint32_t>{away});
  CHECK(recalling.sealed.empty());
  CHECK(d.open.is_in_memory(away));
  CHECK(d.pending.size() == 7);
  CHECK(open_in(d.spool) == visited);  // a start now finds all of it too
  REQUIRE(d.batches.wants_seal());
  const Transaction sealing = d.commit(true);
  REQUIRE(sealing.sealed.size() == 1);
  CHECK(sealing.unspilled == std::vector<std::uint32_t>{away});
  Visits sealed;
  for (const Effect& page : sealing.sealed[0].effects) sealed[page.series] += page.operand;
  CHECK(sealed == visited);
  CHECK(open_in(d.spool).empty());
  CHECK(d.memory.statistic(FlusherStatistic::spilled_visits) == 0);
  CHECK(d.memory.statistic(FlusherStatistic::spilled_bytes) == 0);
  d.answer_as_first(away);
  CHECK(d.pending.size() == 0);
  CHECK(d.memory.statistic(FlusherStatistic::pending_visits) == 0);
  CHECK(d.batches.is_flushed(1));
  CHECK_FALSE(d.batches.wants_seal());  // nothing is left of it
}

TEST_CASE("what is visited while a spill is on its way to the disk stays in memory") {
  Deciders d(two_shards(10));
  d.batches.set_takes_batches(1, false);
  fill(d, away, 7, 2);
  const Transaction spilling = d.capture(false);
  REQUIRE(spilling.spilled.size() == 1);
  const std::string page = d.memory.page_in(away, 3);
  d.visit(page, 4);
  d.finish(spilling);
  CHECK(d.pending.size() == 1);
  CHECK(d.pending[d.number_of(page)].open == 4);
  CHECK(open_in(d.spool)[page] == 2);
  static_cast<void>(d.commit(false));
  CHECK(open_in(d.spool)[page] == 6);
  d.batches.set_takes_batches(1, true);
  CHECK(flush(d)[page] == 6);
}

TEST_CASE("a shard that goes away while its bucket is recalled keeps it, and may spill it again") {
  Deciders d(two_shards(10));
  d.batches.set_takes_batches(1, false);
  fill(d, away, 7);
  static_cast<void>(d.commit(false));
  static_cast<void>(d.batches.begin_flush());
  d.batches.set_takes_batches(1, true);
  const Transaction recalling = d.capture(false);
  REQUIRE(recalling.recalled.size() == 1);
  d.batches.set_takes_batches(1, false);
  d.finish(recalling);
  CHECK(d.pending.size() == 7);
  d.visit(d.memory.page_in(away), 2);
  const Transaction spilling = d.commit(true);
  CHECK(spilling.sealed.empty());
  CHECK(spilling.unspilled == std::vector<std::uint32_t>{away});
  REQUIRE(spilling.spilled.size() == 1);
  CHECK(d.pending.size() == 0);
  CHECK(open_in(d.spool)[d.memory.page_in(away)] == 3);
  CHECK(open_in(d.spool).size() == 7);
  d.batches.set_takes_batches(1, true);
  CHECK(flush(d).size() == 7);
  CHECK(open_in(d.spool).empty());
}

TEST_CASE("spilled rows of a bucket become one when they are more than twice what they were, and hold the same") {
  Deciders d(two_shards(8));
  d.batches.set_takes_batches(1, false);
  Visits visited;
  std::uint64_t compactions = 0;
  std::uint64_t most = 0;
  std::vector<std::string> pages;
  pages.reserve(6);
  for (std::uint32_t i = 0; i < 6; ++i) pages.push_back(d.memory.page_in(away, i));
  for (int round = 0; round < 3000; ++round) {
    for (const std::string& page : pages) {
      d.visit(page);
      ++visited[page];
    }
    const Transaction transaction = d.commit(false);
    REQUIRE(transaction.spilled.size() == 1);
    most = std::max(most, d.memory.statistic(FlusherStatistic::spilled_bytes));
    if (transaction.compacted.empty()) continue;
    ++compactions;
    CHECK(transaction.compacted == std::vector<std::uint32_t>{away});
    CHECK(d.memory.statistic(FlusherStatistic::spilled_bytes) < 100);
    CHECK(open_in(d.spool) == visited);
  }
  CHECK(compactions >= 3);
  CHECK(most < 40'000);
  CHECK(d.memory.statistic(FlusherStatistic::spilled_visits) == 3000 * 6);
  d.batches.set_takes_batches(1, true);
  CHECK(flush(d) == visited);
  CHECK(d.memory.statistic(FlusherStatistic::spilled_bytes) == 0);
}

TEST_CASE("a page with an entry stays exact over spill, visits, recall, seal and answer") {
  Deciders d(two_shards(10));
  d.batches.set_takes_batches(1, false);
  const std::string page = d.memory.page_in(away);
  d.give_entry(page, 100);
  const auto count = [&] {
    const FlusherMemory::Entry entry = d.memory.entry(page);
    CHECK(entry.there);
    return entry.base + entry.inflight + entry.open;
  };
  fill(d, away, 7, 2);
  CHECK(d.commit(false).spilled.size() == 1);
  CHECK(count() == 102);
  const std::uint32_t number = d.number_of(page);
  REQUIRE(number != PendingSeries::none);  // its entry keeps it
  CHECK(d.pending.size() == 1);
  CHECK(d.pending[number].open == 0);
  fill(d, away, 7, 3);
  CHECK(count() == 105);
  CHECK(d.commit(false).spilled.size() == 1);
  d.visit(page, 10);
  CHECK(count() == 115);

  d.batches.set_takes_batches(1, true);
  static_cast<void>(d.batches.begin_flush());
  static_cast<void>(d.commit(true));
  REQUIRE(d.open.is_in_memory(away));
  CHECK(count() == 115);
  CHECK(d.pending[number].open == 15);
  static_cast<void>(d.commit(true));
  CHECK(d.memory.entry(page) == FlusherMemory::Entry{true, 100, 5000, 15, 0});
  std::vector<std::uint64_t> totals;
  for (const Effect& sealed : d.batches.unanswered(away)->effects) {
    totals.push_back(sealed.operand + (sealed.series == page ? 100 : 0));
  }
  d.answer(away, totals);
  CHECK(d.memory.entry(page).base == 115);
  CHECK(count() == 115);
}

TEST_CASE("an entry that goes while its page is spilled takes nothing of the page's visits with it") {
  Deciders d(two_shards(10));
  d.batches.set_takes_batches(1, false);
  const std::string page = d.memory.page_in(away);
  d.give_entry(page, 100);
  fill(d, away, 7, 2);
  static_cast<void>(d.commit(false));
  const std::uint32_t number = d.number_of(page);
  std::vector<bool> forgotten(d.memory.shape.buckets);
  forgotten[away] = true;
  d.lookups.forget_buckets(forgotten);
  CHECK_FALSE(d.memory.entry(page).there);
  CHECK(d.pending.size() == 0);
  CHECK(open_in(d.spool)[page] == 2);
  // Its number is another page's now, of which other visits are spilled.
  const std::string other = d.memory.page_in(away, 30);
  d.give_entry(other, 1);
  REQUIRE(d.number_of(other) == number);
  d.visit(other, 9);
  fill(d, away, 6);
  CHECK(d.commit(false).spilled.size() == 1);
  d.batches.set_takes_batches(1, true);
  const Visits sent = flush(d);
  CHECK(sent.at(page) == 3);
  CHECK(sent.at(other) == 9);
}

TEST_CASE("a page whose count somebody waits for is not spilled with its bucket") {
  Deciders d(two_shards(10));
  const std::string page = d.memory.page_in(away, 2);
  fill(d, away, 7, 2);
  static_cast<void>(d.memory.ask(0, page));
  CHECK(d.lookups.run(0));
  d.batches.set_takes_batches(1, false);
  const Transaction spilling = d.commit(false);
  REQUIRE(spilling.spilled.size() == 1);
  CHECK(decode_effects(spilling.spilled[0].second).size() == 6);
  REQUIRE(spilling.open.size() == 1);
  CHECK(decode_effects(spilling.open[0].second) == std::vector<Effect>{{page, 2}});
  CHECK(open_in(d.spool).size() == 7);
  d.lookups.counted(d.number_of(page), 40, 0, 0);
  CHECK(d.memory.entry(page) == FlusherMemory::Entry{true, 40, 5000, 0, 2});
  d.batches.set_takes_batches(1, true);
  CHECK(flush(d)[page] == 2);
}

TEST_CASE("a bucket that is wanted comes when there is memory for it, and the first one in any case") {
  Deciders d(two_shards(40));
  d.batches.set_takes_batches(1, false);
  for (std::uint32_t bucket = 4; bucket < 8; ++bucket) fill(d, bucket, 6);
  CHECK(d.commit(false).spilled.size() == 4);
  // Pages of the shard that takes batches crowd the memory: not yet answered.
  fill(d, here, 29);
  d.batches.set_takes_batches(1, true);
  d.open.want(4);
  d.open.want(5);
  d.open.want(4);     // once is enough
  d.open.want(here);  // it is here
  CHECK(d.open.wants_transaction());
  CHECK(d.commit(false).recalled == std::vector<std::uint32_t>{4});
  CHECK_FALSE(d.open.wants_transaction());
  CHECK(d.commit(false).recalled.empty());
  d.batches.begin_flush(0);
  // What is sealed leaves its room at once: its batch has room of its own.
  CHECK(d.commit(true).recalled == std::vector<std::uint32_t>{5});
  CHECK_FALSE(d.open.is_in_memory(6));
}

TEST_CASE("what was recalled of a shard that takes no batches any more keeps no other shard's bucket waiting") {
  Deciders d(two_shards(40));
  d.batches.set_takes_batches(0, false);
  d.batches.set_takes_batches(1, false);
  fill(d, here, 21);
  fill(d, away, 1);
  CHECK(d.commit(false).spilled.size() == 2);
  d.batches.set_takes_batches(0, true);
  fill(d, here + 1, 29);  // not yet answered
  d.batches.set_takes_batches(1, true);
  d.open.want(away);
  CHECK(d.commit(false).recalled == std::vector<std::uint32_t>{away});
  d.open.want(here);
  CHECK_FALSE(d.open.wants_transaction());  // the one that came can be sealed
  d.batches.set_takes_batches(1, false);
  CHECK(d.open.wants_transaction());
  CHECK(d.commit(false).recalled == std::vector<std::uint32_t>{here});
}

TEST_CASE("a bucket that is wanted for a read comes before those that are to be sealed, and once") {
  Deciders d(two_shards(400));
  d.batches.set_takes_batches(1, false);
  for (std::uint32_t bucket = 4; bucket < 8; ++bucket) fill(d, bucket, 60);
  CHECK(d.commit(false).spilled.size() == 4);
  d.batches.set_takes_batches(1, true);
  for (std::uint32_t bucket = 4; bucket < 8; ++bucket) d.open.want(bucket);
  d.open.want_for_read(7);
  d.open.want_for_read(6);
  d.open.want_for_read(7);
  std::vector<std::uint32_t> recalled;
  while (d.open.wants_transaction()) {
    for (const std::uint32_t bucket : d.commit(false).recalled) recalled.push_back(bucket);
  }
  CHECK(recalled == std::vector<std::uint32_t>{7, 6, 4, 5});
}

// ---- lives

TEST_CASE("a start finds rows, journal and spilled rows, and goes on as if nothing had been") {
  const DeciderSettings settings = two_shards(24, 300);
  Deciders former(settings);
  former.batches.set_takes_batches(1, false);
  Visits visited;
  const auto visit = [&](std::uint32_t bucket, std::uint32_t nth, std::uint32_t visits) {
    const std::string page = former.memory.page_in(bucket, nth);
    former.visit(page, visits);
    visited[page] += visits;
  };
  for (std::uint32_t i = 0; i < 10; ++i) visit(away, i, 3);
  for (std::uint32_t i = 0; i < 4; ++i) visit(here, i, 1);
  CHECK(former.commit(false).spilled.size() == 1);
  for (std::uint32_t round = 0; round < 20; ++round) {
    visit(away, round % 3, 1);
    visit(here, round % 5, 2);
    visit(2, round % 2, 1);
    static_cast<void>(former.commit(false));
  }
  SpoolState held = former.spool.load(7919);
  CHECK_FALSE(held.open.empty());
  CHECK_FALSE(held.journal.empty());
  REQUIRE(open_of(former) == visited);

  const auto next = next_life(former.spool, settings);
  CHECK(open_of(*next) == visited);
  CHECK_FALSE(next->open.is_in_memory(away));
  CHECK(next->memory.statistic(FlusherStatistic::spilled_visits) == 30);
  CHECK(next->memory.statistic(FlusherStatistic::spilled_bytes) ==
        former.memory.statistic(FlusherStatistic::spilled_bytes));
  CHECK(next->memory.statistic(FlusherStatistic::journal_bytes) == bytes_of_journal(former.spool));
  // Its numbers go on behind the former life's.
  const Transaction first = next->commit(false);
  CHECK(first.number > held.journal.back().number);
  CHECK(flush(*next) == visited);
  CHECK(open_in(next->spool).empty());
  CHECK(next->pending.size() == 0);
}

TEST_CASE("entries of spilled buckets come over with what is spilled of their pages") {
  const DeciderSettings settings = two_shards(10);
  Deciders former(settings);
  former.batches.set_takes_batches(1, false);
  const std::string page = former.memory.page_in(away);
  const std::string unvisited = former.memory.page_in(away, 20);
  const std::string other = former.memory.page_in(here);
  for (const std::string& name : {page, unvisited, other}) former.give_entry(name, 100);
  for (std::uint32_t round = 0; round < 2; ++round) {
    fill(former, away, 7, 2);
    CHECK(former.commit(false).spilled.size() == 1);
  }
  former.visit(page, 5);
  former.visit(other, 6);
  static_cast<void>(former.commit(false));
  REQUIRE(former.memory.entry(page) == FlusherMemory::Entry{true, 100, 5000, 0, 9});

  const auto next = next_life(former.spool, settings, carried_entries(former.memory.shown(), all_buckets));
  for (const std::string& name : {page, unvisited, other}) CHECK(next->memory.entry(name) == former.memory.entry(name));
  const Visits sent = flush(*next);
  CHECK(sent.at(page) == 9);
  CHECK(next->memory.entry(page) == FlusherMemory::Entry{true, 109, 5000, 0, 0});
  CHECK(next->memory.entry(other).base == 106);
}

namespace {

/// Lives over one spool, under random events; what each page has is known.
struct RandomLives {
  explicit RandomLives(std::uint64_t seed) : random(seed) {
    settings.batches.batch_pages = 3;
    settings.batches.keep_batches_s = 1'000'000;
    d = std::make_unique<Deciders>(settings);
  }

  void step() {
    switch (random() % 10) {
      case 0: {
        const std::size_t shard = random() % 2;
        takes[shard] = !takes[shard];
        d->batches.set_takes_batches(static_cast<std::uint32_t>(shard), takes[shard]);
        break;
      }
      case 1:
        static_cast<void>(d->batches.begin_flush());
        break;
      case 2:
        d->open.want(static_cast<std::uint32_t>(random() % all_buckets));
        break;
      case 3:
        answer_all();
        break;
      case 4:
        if (random() % 4 == 0) crash();
        break;
      case 5:
      case 6:
      case 7:
        commit();
        break;
      default:
        for (int i = 0; i < 4; ++i) visit();
    }
  }

  void visit() {
    const std::string page =
        d->memory.page_in(static_cast<std::uint32_t>(random() % all_buckets), static_cast<std::uint32_t>(random() % 3));
    waiting.push_back({page, 1 + random() % 3});
    d->visit(page, static_cast<std::uint32_t>(waiting.back().operand));
    // Without room for its page a visit waits in the lane, and those behind it.
    const std::uint64_t now_applied = d->memory.statistic(FlusherStatistic::visits_applied);
    while (told < now_applied) {
      told += waiting.front().operand;
      applied[waiting.front().series] += waiting.front().operand;
      waiting.pop_front();
    }
    REQUIRE(told == now_applied);
  }
  void answer_all() {
    for (std::uint32_t bucket = 0; bucket < all_buckets; ++bucket) {
      if (d->batches.unanswered(bucket) != nullptr && takes[bucket / 4]) d->answer_as_first(bucket);
    }
  }
  void commit() {
    const Transaction transaction = d->capture(random() % 2 == 0);
    durable = applied;
    if (random() % 2 == 0) visit();  // while the disk works
    d->finish(transaction);
    spills += transaction.spilled.size();
    recalls += transaction.recalled.size();
    folds += transaction.open.size();
    check();
  }
  /// What was applied and is not durable would be read from the lanes again; here it is gone.
  void crash() {
    d = next_life(d->spool, settings);
    for (std::uint32_t shard = 0; shard < 2; ++shard) d->batches.set_takes_batches(shard, takes[shard]);
    applied = durable;
    waiting.clear();
    told = 0;
    REQUIRE(open_of(*d) == open_in(d->spool));
  }
  /// Open, in a batch, or answered: the spool holds each visit once.
  void check() {
    SpoolState state = d->spool.load(7919);
    Visits held;
    const auto add = [&](const std::vector<Effect>& effects) {
      for (const Effect& effect : effects) held[effect.series] += effect.operand;
    };
    add(test::open_in(state, all_buckets));
    for (const Batch& batch : state.unanswered) add(batch.effects);
    for (const KeptBatch& batch : state.kept) add(decode_effects(batch.content));
    REQUIRE(held == durable);
  }

  DeciderSettings settings = two_shards(12, 150);
  std::mt19937_64 random;
  std::unique_ptr<Deciders> d;
  std::array<bool, 2> takes{true, true};
  std::deque<Effect> waiting;  ///< in the lane
  std::uint64_t told = 0;      ///< applied by this life
  Visits applied;
  Visits durable;
  std::uint64_t spills = 0;
  std::uint64_t recalls = 0;
  std::uint64_t folds = 0;
};

}  // namespace

TEST_CASE("whatever is folded, spilled, recalled and sealed, a start at any moment finds every visit once") {
  std::uint64_t spills = 0;
  std::uint64_t recalls = 0;
  std::uint64_t folds = 0;
  for (std::uint64_t seed = 1; seed <= 150; ++seed) {
    CAPTURE(seed);
    RandomLives lives(seed);
    for (int step = 0; step < 150; ++step) lives.step();
    // In the end everything is answered, each visit in one batch.
    for (std::uint32_t shard = 0; shard < 2; ++shard) {
      lives.takes[shard] = true;
      lives.d->batches.set_takes_batches(shard, true);
    }
    for (int turn = 0; turn < 200 && !(open_in(lives.d->spool).empty() && lives.d->batches.unanswered_count() == 0);
         ++turn) {
      static_cast<void>(lives.d->batches.begin_flush());
      lives.commit();
      lives.answer_all();
    }
    CHECK(open_in(lives.d->spool).empty());
    spills += lives.spills;
    recalls += lives.recalls;
    folds += lives.folds;
  }
  CHECK(spills > 500);
  CHECK(recalls > 200);
  CHECK(folds > 2000);
}
