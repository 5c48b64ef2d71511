#include "flusher/counting/page_scan.hpp"

#include <doctest/doctest.h>

#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/control/control_protocol.hpp"
#include "common/control/page_lines.hpp"
#include "tests/unit/flusher/deciders.hpp"

namespace visitd {

namespace {

using LineKind = PageLinesReader::Kind;

/// Shards that hold nothing but what a test answers.
struct ScannedShards : ScanPort {
  [[nodiscard]] ShardState state(std::uint32_t /*shard*/) const override { return state_now; }
  [[nodiscard]] const std::string& name(std::uint32_t /*shard*/) const override { return shard_name; }
  [[nodiscard]] std::uint64_t source(std::uint32_t /*shard*/) const override { return source_now; }
  bool list_pages(const AskPages& asked, std::function<void(ShardSession::SomePages)> done) override {
    if (!takes || state_now != ShardState::up) return false;
    waiting.emplace_back(asked, std::move(done));
    return true;
  }
  bool ask_sums(std::uint32_t /*shard*/, AskSums /*asked*/, ShardSession::TellSums /*told*/) override { return false; }
  void ask_writers(std::function<void(std::vector<std::string>)> /*done*/) override {}
  [[nodiscard]] std::uint64_t now_us() const override { return us; }

  std::string shard_name = "redis_7070";
  ShardState state_now = ShardState::up;
  std::uint64_t source_now = 1;
  std::uint64_t us = 1000;
  bool takes = true;
  std::deque<std::pair<AskPages, std::function<void(ShardSession::SomePages)>>> waiting;
};

/// One list, and what is known of it.
struct Listing {
  explicit Listing(std::uint32_t pages_per_s = 100'000'000)
      : askable(1, pages_per_s, shards),
        scan({deciders.placement, deciders.pending, deciders.open, deciders.batches, deciders.lookups.uncountable(),
              test::FlusherMemory::hash_seed},
             askable, shards) {}

  void begin(const std::string& place = "0", std::uint64_t until_ms = 1000) {
    told.reset();
    shards.us += 1000;  // no shard rests from the list before
    scan.begin(parse_scan_place(place), until_ms, control_answer_bytes,
               [this](PageScan::Told said) { told = std::move(said); });
    scan.tick(0);
  }
  /// Answers the oldest question.
  void answer(std::uint64_t cursor, std::vector<Pages::Page> pages) {
    REQUIRE_FALSE(shards.waiting.empty());
    auto [asked, done] = std::move(shards.waiting.front());
    shards.waiting.pop_front();
    done({Pages{cursor, std::move(pages), "", "", ""}});
  }
  /// All that is asked: buckets other than `bucket` are empty.
  void answer_rest_empty() {
    for (int turn = 0; turn < 50 && !told; ++turn) {
      while (!shards.waiting.empty()) answer(0, {});
      shards.us += 1000;
      scan.tick(0);
    }
  }
  /// The pages of what was told.
  std::multimap<std::string, std::optional<std::uint64_t>> pages() const {
    std::multimap<std::string, std::optional<std::uint64_t>> pages;
    for (PageLinesReader reader(told->lines); reader.next();) {
      if (reader.kind() == LineKind::page || reader.kind() == LineKind::pending_page) {
        pages.emplace(reader.text(), reader.number());
      } else if (reader.kind() == LineKind::unknown_page) {
        pages.emplace(reader.text(), std::nullopt);
      }
    }
    return pages;
  }
  [[nodiscard]] std::uint32_t bucket_of(const std::string& page) const {
    return page_bucket(page, deciders.placement.buckets());
  }

  test::Deciders deciders;
  ScannedShards shards;
  AskableShards askable;
  PageScan scan;
  std::optional<PageScan::Told> told;
};

using FoundPages = std::multimap<std::string, std::optional<std::uint64_t>>;

}  // namespace

TEST_CASE("A list has what the shard holds and what is pending, each page once") {
  Listing list;
  list.deciders.visit("held", 2);
  list.deciders.visit("new", 3);
  const std::uint32_t held = list.bucket_of("held");
  list.begin();
  CHECK(list.shards.waiting.size() == list.deciders.placement.buckets());
  list.deciders.visit("held");  // while the answer is on its way
  for (std::uint32_t bucket = 0; bucket < list.deciders.placement.buckets(); ++bucket) {
    CHECK(list.shards.waiting.front().first.bucket == bucket);
    list.answer(0, bucket == held ? std::vector<Pages::Page>{{"held", 10}, {"odd", std::nullopt}, {"a\nb", 1}}
                                  : std::vector<Pages::Page>());
  }
  list.scan.tick(0);
  REQUIRE(list.told);
  CHECK(list.told->next.empty());
  CHECK(list.told->finished == list.told->buckets);
  CHECK(list.pages() == FoundPages{{"held", 13}, {"new", 3}, {"odd", std::nullopt}});
}

TEST_CASE("A page that is acknowledged while its bucket is listed is not missed, and its count is no guess") {
  Listing list;
  list.deciders.visit("page", 5);
  const std::uint32_t bucket = list.bucket_of("page");
  list.begin(std::to_string(bucket));
  list.answer(7, {{"other", 1}});
  list.scan.tick(0);
  list.deciders.batches.begin_flush();
  list.deciders.commit(true);
  list.deciders.answer(bucket, {5});
  // HSCAN has passed its place, or has not: both may be.
  list.answer(0, {{"page", 5}});
  list.scan.tick(0);
  list.answer_rest_empty();
  REQUIRE(list.told);
  CHECK(list.pages() == FoundPages{{"other", 1}, {"page", 5}, {"page", 5}});
  PageLinesReader reader(list.told->lines);
  std::vector<LineKind> kinds;
  while (reader.next()) kinds.push_back(reader.kind());
  CHECK(kinds[0] == LineKind::bucket);
  CHECK(std::ranges::count(kinds, LineKind::pending_page) == 1);
}

TEST_CASE("A list that goes on over another connection begins its bucket anew") {
  Listing list;
  list.begin(to_text(ScanPlace{3, ScanPlace::In::shard, 99, 1}));
  CHECK(list.shards.waiting.front().first.cursor == 99);
  list.answer_rest_empty();
  CHECK(list.told->lines.starts_with("+3\n"));
  list.shards.source_now = 2;
  list.begin(to_text(ScanPlace{3, ScanPlace::In::shard, 99, 1}));
  CHECK(list.shards.waiting.front().first.cursor == 0);
  list.answer_rest_empty();
  CHECK(list.told->lines.starts_with("#3\n"));
}

TEST_CASE("A bucket whose shard is away is unknown, and not empty") {
  Listing list;
  list.shards.state_now = ShardState::held;
  list.begin();
  list.scan.tick(0);
  REQUIRE(list.told);
  CHECK(list.told->lines.starts_with("!0 shard redis_7070 is held\n"));
  CHECK(list.told->finished == list.told->buckets);

  // One that connects again is waited for, for a while.
  list.shards.state_now = ShardState::down;
  list.begin("0", 60000);
  list.scan.tick(1000);
  CHECK_FALSE(list.told);
  list.scan.tick(2500);
  REQUIRE(list.told);
  CHECK(list.told->lines.starts_with("!0 shard redis_7070 is down\n"));
}

TEST_CASE("A bucket that cannot be asked in time is unknown, and the next piece goes on behind it") {
  Listing list;
  list.shards.takes = false;
  list.begin("2", 500);
  list.scan.tick(499);
  CHECK_FALSE(list.told);
  list.scan.tick(500);
  REQUIRE(list.told);
  CHECK(list.told->lines.starts_with("!2 "));
  CHECK(list.told->next == "3");
}

TEST_CASE("A shard lists no more pages a second than it may, and rests as long as it took to answer") {
  Listing list(1000);
  list.begin("7");
  list.shards.us += 100;
  list.answer(1, std::vector<Pages::Page>(40, {"page", 1}));  // HSCAN goes on
  list.shards.us += 39'899;
  list.scan.tick(0);
  CHECK(list.shards.waiting.empty());
  list.shards.us += 1;
  list.scan.tick(0);
  REQUIRE(list.shards.waiting.size() == 1);
  list.shards.us += 70'000;
  list.answer(1, {});
  list.shards.us += 69'999;
  list.scan.tick(0);
  CHECK(list.shards.waiting.empty());
  list.shards.us += 1;
  list.scan.tick(0);
  CHECK(list.shards.waiting.size() == 1);
}

TEST_CASE("Thousands of pending pages of a bucket are listed each, and before the shard's") {
  Listing list;
  std::set<std::string> pages;
  for (int n = 0; pages.size() < 1200; ++n) {
    const std::string page = "page-" + std::to_string(n);
    if (list.bucket_of(page) != 7) continue;
    list.deciders.visit(page);
    pages.insert(page);
  }
  list.begin("7");
  for (int turn = 0; turn < 10 && list.shards.waiting.empty(); ++turn) list.scan.tick(0);
  list.answer_rest_empty();
  REQUIRE(list.told);
  std::set<std::string> listed;
  for (const auto& [page, count] : list.pages()) listed.insert(page);
  CHECK(listed == pages);
}

TEST_CASE("A place reads as it was written, and nothing else does") {
  for (const ScanPlace& place : {ScanPlace{17}, ScanPlace{0, ScanPlace::In::pending, ~std::uint64_t{0}, 5},
                                 ScanPlace{8191, ScanPlace::In::shard, 12, ~std::uint64_t{0}}}) {
    CHECK(parse_scan_place(to_text(place)) == place);
  }
  for (const char* text : {"", "x", "1 s", "1 s 2", "1 q 2 3", "1 s 2 3 4", "-1", "1 s 2 99999999999999999999"}) {
    CHECK_THROWS_AS(static_cast<void>(parse_scan_place(text)), Error);
  }
  Listing list;
  CHECK_THROWS_AS(list.begin("8"), Error);
}

}  // namespace visitd
