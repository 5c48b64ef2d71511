#include "flusher/counting/batches.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "tests/unit/flusher/deciders.hpp"
#include "tests/unit/flusher/spool_contents.hpp"

using namespace visitd;
using test::Deciders;
using test::DeciderSettings;
using test::FlusherMemory;

namespace {

constexpr std::uint32_t any_bucket = 3;

DeciderSettings with(const BatchLimits& limits) {
  DeciderSettings settings;
  settings.batches = limits;
  return settings;
}

std::vector<Effect> sorted(std::vector<Effect> pages) {
  std::ranges::sort(pages, {}, &Effect::series);
  return pages;
}

std::vector<std::uint64_t> seqs_of(const std::vector<Batch>& batches) {
  std::vector<std::uint64_t> seqs;
  for (const Batch& batch : batches) seqs.push_back(batch.mark.seq);
  return seqs;
}

}  // namespace

TEST_CASE("a commit holds the visits since the last one, once") {
  Deciders d;
  d.visit("home", 2);
  d.visit("about", 1);
  d.visit("home", 3);
  const Transaction first = d.commit(false, 1234);
  CHECK(decode_effects(first.deltas) == std::vector<Effect>{{"home", 5}, {"about", 1}});
  REQUIRE(first.ring);
  CHECK(first.ring->positions == d.drain.positions());
  CHECK(first.open.empty());
  CHECK(first.sealed.empty());
  CHECK(first.answered_at == 1234);
  d.visit("about", 4);
  CHECK(decode_effects(d.commit(false).deltas) == std::vector<Effect>{{"about", 4}});
  CHECK(d.commit(false).deltas.empty());
}

TEST_CASE("a seal folds its bucket: batch and row hold all of it, and the journal says only what is of others") {
  Deciders d(with({1, 600, 1U << 20U, 5000}));
  const std::string due = d.memory.page_in(any_bucket, 0);
  const std::string rest = d.memory.page_in(any_bucket, 1);
  const std::string late = d.memory.page_in(any_bucket + 1);
  d.visit(due, 2);
  d.visit(rest, 3);
  static_cast<void>(d.commit(false));
  static_cast<void>(d.batches.begin_flush());
  d.visit(late, 5);  // opened after the flush began: its bucket is not due
  const Transaction sealing = d.commit(true);
  CHECK(decode_effects(sealing.deltas) == std::vector<Effect>{{late, 5}});
  REQUIRE(sealing.sealed.size() == 1);
  CHECK(sealing.sealed[0].effects == std::vector<Effect>{{due, 2}});
  std::map<std::uint32_t, std::vector<Effect>> open;
  for (const auto& [number, blob] : sealing.open) open[number] = decode_effects(blob);
  CHECK(open == std::map<std::uint32_t, std::vector<Effect>>{{any_bucket, {{rest, 3}}}});
  CHECK(sealing.journal_until == sealing.number - 1);  // all that was of the sealed bucket alone
  CHECK(test::open_in(d.spool.load(7919), 8) == sorted({{rest, 3}, {late, 5}}));

  // The next seal finds nothing changed but the bucket that is due again.
  d.answer_as_first(any_bucket);
  const Transaction next = d.commit(true);
  REQUIRE(next.sealed.size() == 1);
  CHECK(next.sealed[0].effects == std::vector<Effect>{{rest, 3}});
  REQUIRE(next.open.size() == 1);
  CHECK(next.open[0].first == any_bucket);
  CHECK(next.open[0].second.empty());  // nothing is left of it
  CHECK(test::open_in(d.spool.load(7919), 8) == std::vector<Effect>{{late, 5}});
}

TEST_CASE(
    "a flush of more pages than a batch may hold goes in several, one unanswered a bucket, each expecting the last") {
  Deciders d(with({2, 600, 1U << 20U, 5000}));
  for (std::uint32_t i = 0; i < 5; ++i) d.visit(d.memory.page_in(any_bucket, i), i + 1);
  CHECK_FALSE(d.batches.wants_seal());
  const std::uint64_t flush = d.batches.begin_flush();
  std::vector<Batch> sent;
  while (d.batches.wants_seal()) {
    REQUIRE(sent.size() < 10);
    const Transaction sealing = d.commit(true);
    REQUIRE(sealing.sealed.size() == 1);
    CHECK(d.ready == std::vector<std::uint32_t>{any_bucket});
    CHECK_FALSE(d.batches.wants_seal());
    CHECK(d.commit(true).sealed.empty());
    CHECK_FALSE(d.batches.flush_is_done(flush));
    sent.push_back(*d.batches.unanswered(any_bucket));
    CHECK(d.batches.unanswered_count() == 1);
    d.answer_as_first(any_bucket);
    CHECK(d.batches.unanswered(any_bucket) == nullptr);
  }
  CHECK(d.batches.flush_is_done(flush));
  CHECK(seqs_of(sent) == std::vector<std::uint64_t>{1, 2, 3});
  std::string expected;
  std::vector<Effect> pages;
  for (const Batch& batch : sent) {
    CHECK(batch.bucket == any_bucket);
    CHECK(batch.expected == expected);
    CHECK(batch.mark.incarnation == test::first_life);
    CHECK(batch.mark.digest == digest_of(encode_effects(batch.effects)));
    CHECK(batch.effects.size() <= 2);
    expected = to_text(batch.mark);
    pages.insert(pages.end(), batch.effects.begin(), batch.effects.end());
  }
  CHECK(d.batches.field(any_bucket) == expected);
  CHECK(d.batches.last_seq(any_bucket) == 3);
  REQUIRE(pages.size() == 5);
  for (std::uint32_t i = 0; i < 5; ++i) CHECK(pages[i] == Effect{d.memory.page_in(any_bucket, i), i + 1});
  CHECK(d.pending.with_visits() == 0);
  CHECK(d.pending.size() == 0);
}

TEST_CASE("a flush is done when what was open at its beginning is answered, whatever came since") {
  Deciders d;
  CHECK(d.batches.flush_is_done(d.batches.begin_flush()));  // nothing is open
  const std::uint32_t shard = d.placement.shard_of(any_bucket);
  CHECK_FALSE(d.batches.oldest_flush(shard));
  const std::string page = d.memory.page_in(any_bucket);
  d.visit(page);
  const std::uint64_t first = d.batches.begin_flush();
  static_cast<void>(d.commit(true));
  d.visit(page);
  const std::uint64_t second = d.batches.begin_flush();
  CHECK(second > first);
  CHECK_FALSE(d.batches.flush_is_done(first));
  CHECK(d.batches.oldest_flush(shard) == first);
  d.answer_as_first(any_bucket);
  CHECK(d.batches.flush_is_done(first));
  CHECK(d.batches.oldest_flush(shard) == second);
  CHECK_FALSE(d.batches.flush_is_done(second));
  static_cast<void>(d.commit(true));
  CHECK_FALSE(d.batches.flush_is_done(second));
  d.answer_as_first(any_bucket);
  CHECK(d.batches.flush_is_done(second));
  CHECK_FALSE(d.batches.oldest_flush(shard));
}

TEST_CASE("a batch is no one's to send before it is durable") {
  Deciders d;
  d.visit(d.memory.page_in(any_bucket));
  static_cast<void>(d.batches.begin_flush());
  CHECK_FALSE(d.batches.was_written(any_bucket));
  const Transaction sealing = d.capture(true);
  REQUIRE(sealing.sealed.size() == 1);
  CHECK(d.batches.unanswered(any_bucket) == nullptr);
  CHECK(d.batches.was_written(any_bucket));  // as soon as it is captured it may come to be
  CHECK(d.batches.committed() == std::vector<std::uint32_t>{any_bucket});
  REQUIRE(d.batches.unanswered(any_bucket) != nullptr);
  CHECK(d.batches.unanswered(any_bucket)->mark.seq == 1);
  CHECK(d.batches.committed().empty());
}

TEST_CASE("visits move from open to inflight when their batch is durable, and to the base when it is answered") {
  Deciders d;
  const std::string page = d.memory.page_in(any_bucket);
  d.visit(page, 3);
  d.give_entry(page, 100, 0);
  CHECK(d.memory.entry(page) == FlusherMemory::Entry{true, 100, 5000, 0, 3});
  static_cast<void>(d.batches.begin_flush());
  const Transaction sealing = d.capture(true);
  CHECK(d.memory.entry(page).open == 3);
  d.visit(page, 2);  // while the disk works
  d.spool.apply(sealing);
  CHECK(d.batches.committed().size() == 1);
  CHECK(d.memory.entry(page) == FlusherMemory::Entry{true, 100, 5000, 3, 2});
  CHECK(d.batches.unanswered(any_bucket)->effects == std::vector<Effect>{{page, 3}});
  d.answer(any_bucket, {103}, 7000);
  CHECK(d.memory.entry(page) == FlusherMemory::Entry{true, 103, 12000, 0, 2});
  CHECK(d.memory.shown().answered(any_bucket).load() == 1);
  static_cast<void>(d.batches.begin_flush());
  static_cast<void>(d.commit(true));
  CHECK(d.batches.unanswered(any_bucket)->effects == std::vector<Effect>{{page, 2}});
  CHECK(d.memory.statistic(FlusherStatistic::pending_visits) == 2);
}

/// Three visits of a page whose base is 100 are sealed and durable. Returns the page.
static std::string seal_three(Deciders& d) {
  const std::string page = d.memory.page_in(any_bucket);
  d.visit(page, 3);
  d.give_entry(page, 100);
  static_cast<void>(d.batches.begin_flush());
  static_cast<void>(d.commit(true));
  return page;
}

TEST_CASE("a shard that says less than was counted makes no count fall; one that says more is believed") {
  for (const std::uint64_t total : {0U, 103U, 110U}) {
    Deciders d;
    const std::string page = seal_three(d);
    d.answer(any_bucket, {total});
    CHECK(d.memory.entry(page).base == std::max<std::uint64_t>(total, 103));
    CHECK(d.memory.entry(page).inflight == 0);
  }
}

TEST_CASE("a page that a shard counted, and that holds no count by now, is damaged, whatever was corrected since") {
  for (const std::uint64_t fix : {0U, 7U}) {
    Deciders d;
    const std::string page = seal_three(d);
    d.batches.answered(any_bucket, {no_total}, fix, 7000, 7);
    CHECK(d.memory.entry(page) == FlusherMemory::Entry{true, 103, 0, 0, 0, true});
    CHECK(d.memory.statistic(FlusherStatistic::pending_visits) == 0);
  }
}

TEST_CASE("answered batches are kept, and told from the mark that a shard fell back to") {
  Deciders d;
  std::vector<std::string> fields = {""};
  for (int i = 0; i < 3; ++i) {
    d.count_one(d.memory.page_in(any_bucket, static_cast<std::uint32_t>(i)));
    fields.push_back(d.batches.field(any_bucket));
  }
  const auto all = d.batches.lost_since(any_bucket, "");
  REQUIRE(all);
  CHECK(seqs_of(*all) == std::vector<std::uint64_t>{1, 2, 3});
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK((*all)[i].expected == fields[i]);
    CHECK(to_text((*all)[i].mark) == fields[i + 1]);
    CHECK((*all)[i].effects == std::vector<Effect>{{d.memory.page_in(any_bucket, static_cast<std::uint32_t>(i)), 1}});
  }
  const auto last = d.batches.lost_since(any_bucket, fields[2]);
  REQUIRE(last);
  CHECK(seqs_of(*last) == std::vector<std::uint64_t>{3});
  CHECK_FALSE(d.batches.lost_since(any_bucket, "1-0000000000000abc 9 0000000000000000"));
  CHECK_FALSE(d.batches.lost_since(any_bucket + 1, ""));
}

TEST_CASE("kept batches are forgotten when they are old, the oldest first") {
  Deciders d(with({1000, 60, 1U << 20U, 5000}));
  d.count_one(d.memory.page_in(any_bucket), 1000);
  const std::string first = d.batches.field(any_bucket);
  d.count_one(d.memory.page_in(any_bucket, 1), 1030);
  CHECK(d.commit(false, 1059).forgotten.empty());
  CHECK(d.commit(false, 1060).forgotten == std::vector<std::pair<std::uint32_t, std::uint64_t>>{{any_bucket, 1}});
  CHECK_FALSE(d.batches.lost_since(any_bucket, ""));
  CHECK(d.batches.lost_since(any_bucket, first));
  CHECK(d.commit(false, 1090).forgotten == std::vector<std::pair<std::uint32_t, std::uint64_t>>{{any_bucket, 2}});
  CHECK_FALSE(d.batches.lost_since(any_bucket, first));
  CHECK(d.memory.statistic(FlusherStatistic::kept_batches) == 0);
  CHECK(d.memory.statistic(FlusherStatistic::kept_bytes) == 0);
  CHECK(d.spool.load(7919).kept.empty());
}

TEST_CASE("kept batches are forgotten when they are too many bytes, across all buckets") {
  Deciders d(with({1000, 1'000'000, 2000, 5000}));
  for (std::uint32_t i = 0; i < 40; ++i) d.count_one(d.memory.page_in(i % 8, i), 1000 + i);
  static_cast<void>(d.commit(false));
  const std::uint64_t kept = d.memory.statistic(FlusherStatistic::kept_batches);
  CHECK(d.memory.statistic(FlusherStatistic::kept_bytes) <= 2000);
  CHECK(kept > 4);
  CHECK(kept < 40);
  const SpoolState spool = d.spool.load(7919);
  CHECK(spool.kept.size() == kept);
  for (const KeptBatch& batch : spool.kept) CHECK(batch.answered_at >= 1000 + 40 - kept);
}

TEST_CASE("after a start the oldest kept batch still goes first, whatever its bucket") {
  Deciders former(with({1000, 60, 1U << 20U, 5000}));
  former.count_one(former.memory.page_in(5), 1000);
  former.count_one(former.memory.page_in(0), 1050);
  Deciders d(with({1000, 60, 1U << 20U, 5000}));
  SpoolState spool = former.spool.load(7919);
  spool.loaded_at = 1055;
  recover_pending(spool, FlusherMemory::hash_seed, 8, d.pending, d.open, d.batches);
  CHECK(d.capture(false, 1114).forgotten.empty());
  CHECK(d.batches.committed().empty());
  CHECK(d.capture(false, 1115).forgotten == std::vector<std::pair<std::uint32_t, std::uint64_t>>{{5, 1}, {0, 1}});
}

TEST_CASE("a wall clock that went back between two batches costs neither of them its turn after a start") {
  Deciders former(with({1000, 60, 1U << 20U, 5000}));
  former.count_one(former.memory.page_in(5, 0), 1000);
  former.count_one(former.memory.page_in(5, 1), 900);
  Deciders d(with({1000, 60, 1U << 20U, 5000}));
  SpoolState spool = former.spool.load(7919);
  spool.loaded_at = 900;
  recover_pending(spool, FlusherMemory::hash_seed, 8, d.pending, d.open, d.batches);
  CHECK(d.capture(false, 959).forgotten.empty());
  CHECK(d.batches.committed().empty());
  CHECK(d.capture(false, 960).forgotten == std::vector<std::pair<std::uint32_t, std::uint64_t>>{{5, 1}, {5, 2}});
}

TEST_CASE("a wall clock that jumped while no flusher ran costs no kept batch its time, and gives it no more") {
  constexpr std::uint64_t year_s = 365 * 86'400;
  for (const std::uint64_t started_at : {std::uint64_t{10}, std::uint64_t{1000}, 1000 + year_s}) {
    Deciders former(with({1000, 60, 1U << 20U, 5000}));
    former.count_one(former.memory.page_in(5), 1000);
    Deciders d(with({1000, 60, 1U << 20U, 5000}));
    SpoolState spool = former.spool.load(7919);
    spool.loaded_at = started_at;
    recover_pending(spool, FlusherMemory::hash_seed, 8, d.pending, d.open, d.batches);
    CHECK(d.capture(false, started_at + 59).forgotten.empty());
    CHECK(d.batches.committed().empty());
    CHECK(d.capture(false, started_at + 60).forgotten.size() == 1);
  }
}

TEST_CASE("what the operator accepts is expected from then on, and nothing from before is sent again") {
  Deciders d;
  d.count_one(d.memory.page_in(any_bucket));
  d.visit(d.memory.page_in(any_bucket, 1), 4);
  static_cast<void>(d.batches.begin_flush());
  static_cast<void>(d.commit(true));
  CHECK_FALSE(d.batches.accept(any_bucket, d.batches.field(any_bucket)));
  CHECK_FALSE(d.batches.has_news());

  CHECK(d.batches.accept(any_bucket, "another writer's mark"));
  CHECK(d.batches.has_news());
  CHECK(d.batches.field(any_bucket) == "another writer's mark");
  CHECK(d.batches.unanswered(any_bucket) == nullptr);  // it expects another mark, which is not durable yet
  CHECK_FALSE(d.batches.lost_since(any_bucket, ""));
  const Transaction accepting = d.commit(false);
  CHECK(accepting.forgotten == std::vector<std::pair<std::uint32_t, std::uint64_t>>{{any_bucket, 1}});
  REQUIRE(accepting.accepted.size() == 1);
  CHECK(accepting.accepted[0].field == "another writer's mark");
  CHECK(accepting.accepted[0].seq == 1);
  CHECK(d.ready == std::vector<std::uint32_t>{any_bucket});
  REQUIRE(d.batches.unanswered(any_bucket) != nullptr);
  CHECK(d.batches.unanswered(any_bucket)->expected == "another writer's mark");
  CHECK(d.batches.unanswered(any_bucket)->mark.seq == 2);
  CHECK_FALSE(d.batches.has_news());

  // The spool says the same after a start.
  const SpoolState spool = d.spool.load(7919);
  REQUIRE(spool.unanswered.size() == 1);
  CHECK(spool.unanswered[0].expected == "another writer's mark");
  CHECK(spool.kept.empty());
  REQUIRE(spool.marks.size() == 1);
  CHECK(spool.marks[0].field == "another writer's mark");
}

TEST_CASE(
    "a mark that is accepted while a seal is on its way to the disk holds the batch back until it is durable too") {
  Deciders d;
  d.visit(d.memory.page_in(any_bucket), 4);
  static_cast<void>(d.batches.begin_flush());
  const Transaction sealing = d.capture(true);
  CHECK(d.batches.accept(any_bucket, "held"));
  d.spool.apply(sealing);
  CHECK(d.batches.committed().empty());
  CHECK(d.batches.unanswered(any_bucket) == nullptr);

  const Transaction replacing = d.capture(false);
  REQUIRE(replacing.replaced.size() == 1);
  CHECK(replacing.replaced[0].expected == "held");
  CHECK(d.batches.accept(any_bucket, "held now"));  // and once more
  d.spool.apply(replacing);
  CHECK(d.batches.committed().empty());
  static_cast<void>(d.commit(false));
  CHECK(d.ready == std::vector<std::uint32_t>{any_bucket});
  CHECK(d.batches.unanswered(any_bucket)->expected == "held now");
  d.answer_as_first(any_bucket);
  CHECK(d.commit(false).answered.size() == 1);
  CHECK(d.ready.empty());
}

TEST_CASE("pages that a shard cannot take are set aside, and the rest goes on without them") {
  Deciders d;
  std::vector<std::string> pages;
  for (std::uint32_t i = 0; i < 3; ++i) {
    pages.push_back(d.memory.page_in(any_bucket, i));
    d.visit(pages[i], i + 1);
  }
  d.give_entry(pages[1], 10);
  static_cast<void>(d.batches.begin_flush());
  static_cast<void>(d.commit(true));
  const std::uint64_t former_digest = d.batches.unanswered(any_bucket)->mark.digest;
  CHECK(d.memory.entry(pages[1]).inflight == 2);

  d.batches.refused(any_bucket, {1}, "no integer");
  CHECK(d.batches.is_fencing(any_bucket));
  CHECK_FALSE(d.batches.has_news());  // a former copy may be executed
  const Batch fence = *d.batches.unanswered(any_bucket);
  CHECK(fence.effects.empty());
  d.batches.fenced(any_bucket, 1'700'000'000);
  CHECK(d.batches.unanswered(any_bucket) == nullptr);
  CHECK(d.batches.has_news());
  const Transaction transaction = d.commit(false);
  REQUIRE(transaction.set_aside.size() == 1);
  CHECK(transaction.set_aside[0].effect == Effect{pages[1], 2});
  CHECK(transaction.set_aside[0].bucket == any_bucket);
  CHECK(transaction.set_aside[0].reason == "no integer");
  CHECK(d.ready == std::vector<std::uint32_t>{any_bucket});
  const Batch* const rest = d.batches.unanswered(any_bucket);
  REQUIRE(rest != nullptr);
  CHECK(rest->effects == std::vector<Effect>{{pages[0], 1}, {pages[2], 3}});
  CHECK(rest->mark.seq == 2);
  CHECK(rest->expected == to_text(fence.mark));
  CHECK(rest->mark.digest != former_digest);
  CHECK(rest->mark.digest == digest_of(encode_effects(rest->effects)));
  CHECK(d.memory.entry(pages[1]).inflight == 0);
  CHECK(d.pending.with_visits() == 2);
  CHECK(d.memory.statistic(FlusherStatistic::pages_set_aside) == 1);
  CHECK(d.memory.statistic(FlusherStatistic::pending_visits) == 4);

  d.answer(any_bucket, {1, 3});
  static_cast<void>(d.commit(false));
  CHECK(d.pending.with_visits() == 0);
  CHECK(d.spool.set_aside() == std::map<std::string, std::uint64_t>{{pages[1], 2}});
  // A shard that loses its tail gets the fence again too: what follows expects it.
  const auto lost = d.batches.lost_since(any_bucket, "");
  REQUIRE(lost);
  REQUIRE(lost->size() == 2);
  CHECK(lost->front().effects.empty());
  CHECK(lost->front().mark == fence.mark);
  CHECK(lost->back().expected == to_text(fence.mark));
  const SpoolState next = d.spool.load(7919);
  REQUIRE(next.kept.size() == 2);
  CHECK(next.kept.front().mark == fence.mark);
  CHECK(next.kept.front().content.empty());
}

TEST_CASE("a batch of which nothing is left still moves the mark") {
  Deciders d;
  d.visit(d.memory.page_in(any_bucket), 2);
  const std::uint64_t flush = d.batches.begin_flush();
  static_cast<void>(d.commit(true));
  d.batches.refused(any_bucket, {0}, "no integer");
  d.batches.fenced(any_bucket, 1'700'000'000);
  static_cast<void>(d.commit(false));
  REQUIRE(d.batches.unanswered(any_bucket) != nullptr);
  CHECK(d.batches.unanswered(any_bucket)->effects.empty());
  CHECK_FALSE(d.batches.flush_is_done(flush));
  d.answer(any_bucket, {});
  CHECK(d.batches.flush_is_done(flush));
  CHECK(d.batches.last_seq(any_bucket) == 2);
}

TEST_CASE("an answer becomes durable with the next commit, and the batch is kept there") {
  Deciders d;
  d.visit(d.memory.page_in(any_bucket), 2);
  static_cast<void>(d.batches.begin_flush());
  static_cast<void>(d.commit(true));
  CHECK_FALSE(d.batches.has_news());
  d.answer_as_first(any_bucket);
  CHECK(d.batches.has_news());
  CHECK(d.spool.load(7919).unanswered.size() == 1);
  static_cast<void>(d.commit(false, 1234));
  CHECK_FALSE(d.batches.has_news());
  const SpoolState spool = d.spool.load(7919);
  CHECK(spool.unanswered.empty());
  REQUIRE(spool.kept.size() == 1);
  CHECK(spool.kept[0].answered_at == 1234);
  REQUIRE(spool.marks.size() == 1);
  CHECK(spool.marks[0].seq == 1);
  CHECK(spool.marks[0].field == d.batches.field(any_bucket));
}

TEST_CASE("identities are noted with the next commit") {
  Deciders d;
  d.batches.note_identity({"one", "identity-1"});
  CHECK(d.batches.has_news());
  const Transaction transaction = d.commit(false);
  REQUIRE(transaction.identities.size() == 1);
  CHECK(transaction.identities[0].shard == "one");
  CHECK(transaction.identities[0].identity == "identity-1");
  CHECK_FALSE(d.batches.has_news());
}

// ---- shards

namespace {

/// Buckets 0 to 3 on one shard, 4 to 7 on another.
DeciderSettings two_shards(const BatchLimits& limits) {
  DeciderSettings settings = with(limits);
  settings.shard_of_bucket = {0, 0, 0, 0, 1, 1, 1, 1};
  settings.shards = 2;
  return settings;
}

std::uint64_t pages_in(const Transaction& transaction) {
  std::uint64_t pages = 0;
  for (const Batch& batch : transaction.sealed) pages += batch.effects.size();
  return pages;
}

}  // namespace

TEST_CASE("a shard that takes no batches is not sealed, holds up no other, and its flush goes on when it does") {
  Deciders d(two_shards({1000, 600, 1U << 20U, 5000}));
  d.visit(d.memory.page_in(1), 2);
  d.visit(d.memory.page_in(6), 3);
  d.batches.set_takes_batches(1, false);
  const std::uint64_t flush = d.batches.begin_flush();
  const Transaction first = d.commit(true);
  REQUIRE(first.sealed.size() == 1);
  CHECK(first.sealed[0].bucket == 1);
  CHECK(d.batches.unanswered_on(0) == 1);
  CHECK(d.batches.unanswered_on(1) == 0);
  CHECK_FALSE(d.batches.wants_seal());
  d.answer_as_first(1);
  CHECK(d.batches.is_flushed(0));
  CHECK_FALSE(d.batches.is_flushed(1));
  CHECK_FALSE(d.batches.flush_is_done(flush));
  // The other shard is flushed again and again meanwhile.
  for (int round = 0; round < 3; ++round) {
    d.visit(d.memory.page_in(1));
    d.batches.begin_flush(0);
    REQUIRE(d.commit(true).sealed.size() == 1);
    d.answer_as_first(1);
    CHECK(d.batches.is_flushed(0));
  }
  d.visit(d.memory.page_in(6), 4);
  d.batches.set_takes_batches(1, true);
  REQUIRE(d.batches.wants_seal());
  const Transaction second = d.commit(true);
  REQUIRE(second.sealed.size() == 1);
  CHECK(second.sealed[0].effects == std::vector<Effect>{{d.memory.page_in(6), 7}});
  d.answer_as_first(6);
  CHECK(d.batches.flush_is_done(flush));
  CHECK(d.batches.is_flushed(1));
}

TEST_CASE("a shard that stops taking batches while a bucket waits to be sealed gets none") {
  Deciders d(two_shards({1000, 600, 1U << 20U, 5000}));
  d.visit(d.memory.page_in(6));
  static_cast<void>(d.batches.begin_flush());
  CHECK(d.batches.wants_seal());
  d.batches.set_takes_batches(1, false);
  CHECK_FALSE(d.batches.wants_seal());
  CHECK(d.commit(true).sealed.empty());
  d.batches.set_takes_batches(1, true);
  CHECK(d.commit(true).sealed.size() == 1);
}

TEST_CASE("pages on their way to a shard are bounded, a batch more is begun below the bound, and the rest follows") {
  Deciders d(two_shards({4, 600, 1U << 20U, 5000, 10}));
  for (std::uint32_t bucket = 0; bucket < 4; ++bucket) {
    for (std::uint32_t i = 0; i < 9; ++i) d.visit(d.memory.page_in(bucket, i));
  }
  const std::uint64_t flush = d.batches.begin_flush();
  std::uint64_t sealed = 0;
  int transactions = 0;
  while (!d.batches.flush_is_done(flush)) {
    REQUIRE(++transactions < 20);
    REQUIRE(d.batches.wants_seal());
    const std::uint64_t pages = pages_in(d.commit(true));
    CHECK(pages > 0);
    CHECK(pages < 10 + 4);
    sealed += pages;
    CHECK_FALSE(d.batches.wants_seal());  // full
    CHECK(d.commit(true).sealed.empty());
    for (std::uint32_t bucket = 0; bucket < 4; ++bucket) {
      if (d.batches.unanswered(bucket) != nullptr) d.answer_as_first(bucket);
    }
  }
  CHECK(d.pending.size() == 0);
  CHECK(sealed == 36);
}

TEST_CASE("one transaction seals of every shard, as many pages of each as may be on their way") {
  Deciders d(two_shards({4, 600, 1U << 20U, 5000, 16}));
  for (std::uint32_t bucket = 0; bucket < 8; ++bucket) {
    for (std::uint32_t i = 0; i < 9; ++i) d.visit(d.memory.page_in(bucket, i));
  }
  static_cast<void>(d.batches.begin_flush());
  const Transaction first = d.commit(true);
  std::map<std::uint32_t, int> batches;
  for (const Batch& batch : first.sealed) ++batches[batch.bucket / 4];
  CHECK(batches[0] == 4);
  CHECK(batches[1] == 4);
  CHECK(pages_in(first) == 2 * 16);
}

TEST_CASE("two live copies of one flusher seal equal visits under marks that differ") {
  std::vector<Mark> marks;
  for (const std::uint64_t drawn : {0x1111U, 0x2222U}) {
    Deciders d;
    d.batches.use_salt([&] { return drawn; });
    d.visit(d.memory.page_in(any_bucket), 3);
    static_cast<void>(d.commit(false));
    static_cast<void>(d.batches.begin_flush());
    static_cast<void>(d.commit(true));
    marks.push_back(d.batches.unanswered(any_bucket)->mark);
  }
  CHECK(marks[0].incarnation == marks[1].incarnation);
  CHECK(marks[0].seq == marks[1].seq);
  CHECK(marks[0].digest != marks[1].digest);
}
