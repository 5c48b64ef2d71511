#include "flusher/counting/bucket_sums.hpp"

#include <doctest/doctest.h>

#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/unit/flusher/deciders.hpp"

namespace visitd {

namespace {

using Burst = AskableShards::Burst;

/// One shard, whose buckets hold what a test puts there, and which answers when the test says so.
struct SummedShard : ScanPort {
  struct Bucket {
    std::map<std::string, std::uint64_t> pages;
    bool keeps_sum = true;
    std::uint64_t odd = 0;
    std::string refuses = {};
  };

  [[nodiscard]] ShardState state(std::uint32_t /*shard*/) const override { return state_now; }
  [[nodiscard]] const std::string& name(std::uint32_t /*shard*/) const override { return shard_name; }
  [[nodiscard]] std::uint64_t source(std::uint32_t /*shard*/) const override { return 1; }
  bool list_pages(const AskPages& asked, std::function<void(ShardSession::SomePages)> done) override {
    lists.emplace_back(asked, std::move(done));
    return true;
  }
  bool ask_sums(std::uint32_t /*shard*/, AskSums asked, ShardSession::TellSums told) override {
    if (!takes || state_now != ShardState::up) return false;
    sums.emplace_back(std::move(asked), std::move(told));
    return true;
  }
  void ask_writers(std::function<void(std::vector<std::string>)> done) override { done({"other"}); }
  [[nodiscard]] std::uint64_t now_us() const override { return us; }

  [[nodiscard]] ShardSession::SomeSum sum_of(std::uint32_t bucket, std::uint64_t& room) {
    Bucket& held = buckets[bucket];
    if (!held.refuses.empty()) return {bucket, std::nullopt, held.refuses};
    Sums::Held said;
    const std::uint64_t reads = std::exchange(held.keeps_sum, true) ? 0 : held.pages.size();
    said.known = reads <= room;
    if (!said.known) {
      held.keeps_sum = false;
      return {bucket, said};
    }
    room -= reads;
    said.read = reads;
    said.odd = held.odd;
    WideSum sum;
    for (const auto& [page, count] : held.pages) {
      sum.add(count);
      said.largest = std::max(said.largest, count);
    }
    said.sum = sum.text();
    return {bucket, said};
  }
  /// Answers the oldest question for sums.
  void answer_sums() {
    REQUIRE_FALSE(sums.empty());
    auto [asked, told] = std::move(sums.front());
    sums.pop_front();
    ++commands;
    std::uint64_t room = asked.pages;
    std::vector<ShardSession::SomeSum> said;
    for (const std::uint32_t bucket : asked.buckets) said.push_back(sum_of(bucket, room));
    told(said, true);
  }
  void answer_list() {
    auto [asked, done] = std::move(lists.front());
    lists.pop_front();
    ++lists_answered;
    Pages pages;
    for (const auto& [page, count] : buckets[asked.bucket].pages) pages.pages.push_back({page, count});
    done({pages, {}});
  }

  std::string shard_name = "redis_7070";
  ShardState state_now = ShardState::up;
  std::uint64_t us = 1000;
  bool takes = true;
  std::map<std::uint32_t, Bucket> buckets;
  std::deque<std::pair<AskSums, ShardSession::TellSums>> sums;
  std::deque<std::pair<AskPages, std::function<void(ShardSession::SomePages)>>> lists;
  std::size_t commands = 0;
  std::size_t lists_answered = 0;
};

struct Summing {
  explicit Summing(std::uint32_t pages_per_s = 100'000'000)
      : askable(1, pages_per_s, shard),
        sums({deciders.placement, deciders.pending, deciders.open, deciders.batches, deciders.lookups.uncountable(),
              test::FlusherMemory::hash_seed},
             askable, shard) {}

  void hold(const std::string& page, std::uint64_t count) { shard.buckets[bucket_of(page)].pages[page] = count; }
  [[nodiscard]] std::uint32_t bucket_of(const std::string& page) const {
    return page_bucket(page, deciders.placement.buckets());
  }
  void ask_total(std::uint64_t until_ms = 100'000) {
    told.reset();
    sums.total(until_ms, [this](BucketSums::Told said) { told = std::move(said); });
  }
  void ask_top(std::size_t limit, std::uint64_t until_ms = 100'000) {
    told.reset();
    sums.top(limit, until_ms, [this](BucketSums::Told said) { told = std::move(said); });
  }
  /// Turns, and answers, until it is told; at most for so many turns.
  void run(int turns = 2000) {
    for (int turn = 0; turn < turns && !told; ++turn) {
      shard.us += 1000;
      sums.tick(++now_ms);
      if (!shard.sums.empty()) shard.answer_sums();
      while (!shard.lists.empty()) shard.answer_list();
    }
  }
  std::string total() {
    ask_total();
    run();
    REQUIRE(told);
    CHECK(told->unknown_buckets == 0);
    return told->total.text();
  }
  CountedPages top(std::size_t limit) {
    ask_top(limit);
    run();
    REQUIRE(told);
    CHECK(told->unknown_buckets == 0);
    return told->pages;
  }

  test::Deciders deciders;
  SummedShard shard;
  AskableShards askable;
  BucketSums sums;
  std::optional<BucketSums::Told> told;
  std::uint64_t now_ms = 0;
};

}  // namespace

TEST_CASE("a total is what buckets say, and what is pending, wherever that is") {
  Summing all;
  CHECK(all.total() == "0");
  all.hold("home", 10);
  all.hold("about", 20);
  all.deciders.visit("home", 3);
  all.deciders.visit("new", 4);
  CHECK(all.total() == "37");
  all.deciders.batches.begin_flush();
  const Transaction sealing = all.deciders.capture(true);
  all.deciders.visit("home", 1);
  CHECK(all.total() == "38");
  all.deciders.finish(sealing);
  CHECK(all.total() == "38");
  all.hold("home", 13);
  all.deciders.answer(all.bucket_of("home"), {13});
  CHECK(all.total() == "38");
  CHECK(all.told->buckets == all.deciders.placement.buckets());
}

TEST_CASE("a total passes 64 bits") {
  Summing all;
  for (const char* page : {"a", "b", "c"}) all.hold(page, 0x7fff'ffff'ffff'ffffU);
  all.deciders.visit("d", 5);
  CHECK(all.total() == "27670116110564327426");
}

TEST_CASE("the best pages are found among those that are held and those that are pending") {
  Summing all;
  all.hold("home", 10);
  all.hold("about", 20);
  all.hold("blog", 20);
  all.deciders.visit("home", 30);
  all.deciders.visit("new", 15);
  // Of the two with 20 either may be left out.
  CHECK(all.top(2).front() == std::pair(std::string("home"), std::uint64_t{40}));
  CHECK(all.told->pages.at(1).second == 20);
  CHECK(all.told->pages.size() == 2);
  CHECK(all.top(10) == CountedPages{{"home", 40}, {"about", 20}, {"blog", 20}, {"new", 15}});
  CHECK(all.top(1) == CountedPages{{"home", 40}});
}

TEST_CASE("no more buckets are read than may have one of the best pages") {
  Summing all;
  std::map<std::uint32_t, std::uint64_t> largest;
  for (std::uint64_t n = 1; n <= 400; ++n) {
    const std::string page = "page-" + std::to_string(n);
    all.hold(page, n);
    largest[all.bucket_of(page)] = n;
  }
  CHECK(all.top(1) == CountedPages{{"page-400", 400}});
  CHECK(all.shard.lists_answered == 1);
  const std::size_t before = all.shard.lists_answered;
  CHECK(all.top(3).back().second == 398);
  CHECK(all.shard.lists_answered - before <= 5);  // the three that are read at once, and those that follow them
}

TEST_CASE("who asks while others are answered is answered with what was recorded by then") {
  Summing all;
  all.hold("home", 1);
  all.ask_total();
  all.sums.tick(++all.now_ms);
  all.sums.tick(++all.now_ms);
  std::optional<BucketSums::Told> first;
  std::swap(first, all.told);
  all.deciders.visit("home", 5);
  std::optional<BucketSums::Told> second;
  all.sums.total(100'000, [&](BucketSums::Told said) { second = std::move(said); });
  for (int turn = 0; turn < 100 && !second; ++turn) {
    all.shard.us += 1'000'000;
    all.sums.tick(++all.now_ms);
    if (!all.shard.sums.empty()) all.shard.answer_sums();
  }
  REQUIRE(all.told);
  REQUIRE(second);
  CHECK(second->total.text() == "6");
  CHECK(all.shard.commands == 2);
  CHECK(all.sums.is_idle());
}

TEST_CASE("buckets that keep no sum are read a few at a time, and the shard rests in between") {
  Summing all(10'000);
  for (int n = 0; n < 9000; ++n) {
    const std::string page = "page-" + std::to_string(n);
    all.hold(page, 1);
    all.shard.buckets[all.bucket_of(page)].keeps_sum = false;
  }
  const std::uint64_t begun_us = all.shard.us;
  CHECK(all.total() == "9000");
  // 9,000 pages at 10,000 a second, but for the rest after the last command.
  CHECK(all.shard.us - begun_us >= 700'000);
  CHECK(all.shard.commands >= 8);
  const std::uint64_t rests_us = all.shard.us;
  CHECK(all.total() == "9000");
  // They keep it from now on; but what was read is rested for.
  CHECK(all.shard.us - rests_us <= 300'000);
}

TEST_CASE("what is not known is said") {
  Summing all;
  all.hold("home", 7);
  all.hold("about", 1);
  all.shard.buckets[all.bucket_of("about")].odd = 2;
  all.shard.buckets[(all.bucket_of("home") + 1) % 8].refuses = "NOPERM";
  all.ask_total();
  all.run();
  REQUIRE(all.told);
  CHECK(all.told->unknown_buckets == 1);
  CHECK(all.told->why.find("shard redis_7070 answers: NOPERM") != std::string::npos);
  CHECK(all.told->unknown_pages == (all.bucket_of("about") == (all.bucket_of("home") + 1) % 8 ? 0 : 2));

  all.shard.state_now = ShardState::held;
  all.ask_top(3);
  all.run();
  REQUIRE(all.told);
  CHECK(all.told->unknown_buckets == 8);
  CHECK(all.told->pages.empty());
  CHECK(all.told->why == "bucket 0: shard redis_7070 is held");

  all.shard.state_now = ShardState::up;
  all.shard.takes = false;
  all.ask_total(all.now_ms + 500);
  all.run(499);
  CHECK_FALSE(all.told);
  std::optional<BucketSums::Told> behind;
  all.sums.total(all.now_ms + 1, [&](BucketSums::Told said) { behind = std::move(said); });
  all.run(10);
  REQUIRE(all.told);
  REQUIRE(behind);
  CHECK(all.told->unknown_buckets == 8);
  CHECK(all.told->why == "8 buckets: its shard did not answer in time");
  CHECK(all.sums.is_idle());
}

TEST_CASE("a shard that goes away for a moment is waited for") {
  Summing all;
  all.now_ms = 10'000;
  all.hold("home", 7);
  CHECK(all.total() == "7");
  all.shard.state_now = ShardState::down;
  all.ask_total();
  all.run(1500);
  CHECK_FALSE(all.told);
  all.shard.state_now = ShardState::up;
  all.run();
  REQUIRE(all.told);
  CHECK(all.told->total.text() == "7");
  all.shard.state_now = ShardState::down;
  all.ask_total();
  all.run(2500);
  REQUIRE(all.told);
  CHECK(all.told->why == "bucket 0: shard redis_7070 is down");
}

TEST_CASE("a burst that goes on ends where it is long") {
  SummedShard shard;
  AskableShards askable(1, 1'000'000, shard);
  askable.asked(0);
  askable.answered(0, 1000, Burst::goes_on);
  CHECK(askable.may_ask(0));
  askable.end(0);
  CHECK_FALSE(askable.may_ask(0));
  shard.us += 1000;
  CHECK(askable.may_ask(0));
  askable.asked(0);
  askable.answered(0, 450'000, Burst::goes_on);
  CHECK_FALSE(askable.may_ask(0));
  shard.us += 450'000;
  CHECK(askable.may_ask(0));
  askable.asked(0);
  askable.not_sent(0);
  askable.end(0);
  CHECK(askable.may_ask(0));
}

TEST_CASE("what a shard has not read for a while it may read at once, up to two seconds of it") {
  SummedShard shard;
  AskableShards askable(1, 1'000'000, shard);
  const auto read = [&](std::size_t pages) {
    askable.asked(0);
    askable.answered(0, pages);
  };
  const auto rests_us = [&] {
    const std::uint64_t begun_us = shard.us;
    while (!askable.may_ask(0)) shard.us += 1000;
    return shard.us - begun_us;
  };
  read(1000);
  CHECK(rests_us() == 1000);
  shard.us += 60'000'000;
  read(1'500'000);
  CHECK(rests_us() == 0);
  read(1'500'000);
  CHECK(rests_us() == 1'000'000);
  read(1000);
  CHECK(rests_us() == 1000);
}

TEST_CASE("a wide sum takes numbers and digits, and no other text") {
  WideSum sum;
  CHECK(sum.text() == "0");
  sum.add(~std::uint64_t{0});
  CHECK(sum.number() == ~std::uint64_t{0});
  CHECK(sum.add("1"));
  CHECK(sum.text() == "18446744073709551616");
  CHECK_FALSE(sum.number());
  CHECK(sum.add("999999999999999999999999999999999999"));
  CHECK(sum.text() == "1000000000000000018446744073709551615");
  for (const char* none : {"", "x", "-1", "1 ", "1234567890123456789012345678901234567", "x00000000000000000001"}) {
    CHECK_FALSE(sum.add(none));
  }
  CHECK(sum.text() == "1000000000000000018446744073709551615");
}

}  // namespace visitd
