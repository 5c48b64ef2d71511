#include "flusher/counting/engine.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "common/os/errors.hpp"
#include "common/shm/cache.hpp"
#include "common/shm/shared_text.hpp"
#include "tests/simulation/simulated_shard.hpp"
#include "tests/simulation/simulated_spool.hpp"
#include "tests/unit/flusher/flusher_memory.hpp"
#include "tests/unit/flusher/spool_contents.hpp"

using namespace visitd;
using test::FlusherMemory;

namespace {

EngineSettings usual() {
  EngineSettings settings;
  settings.shards = {"one", "two"};
  settings.buckets = 8;
  settings.page_id_limit = 64;
  settings.memory_limit_bytes = 100'000;
  settings.flush_interval_ms = 30000;
  settings.commit_interval_ms = 1000;
  settings.batches = {1000, 600, 1U << 20U, 5000};
  return settings;
}

/// An engine, a spool and two shards in memory, a millisecond at a time.
class Host : public EnginePort {
 public:
  explicit Host(EngineSettings engine_settings = usual(), std::uint64_t lane_bytes = FlusherMemory::lane_bytes)
      : memory({2, 16, 8, 64}, lane_bytes), settings(std::move(engine_settings)) {
    start();
  }
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;
  ~Host() override = default;

  /// The engine begins a life; the one before is gone without a word.
  void start() {
    engine.reset();
    submitted.reset();
    std::mt19937_64 all_were_sent(1);
    for (SimulatedShard& shard : shards) shard.drop(0, all_were_sent);
    connecting = {};
    const std::uint64_t active = memory.cache().active.word.load();
    ShownUntilNow shown{memory.memory().ring_id, {head(0), head(1)}, {}};
    if (active != 0) shown.entries = carried_entries(memory.shown(), settings.buckets);
    SpoolState state = spool.load(7919);
    state.loaded_at = now.unix;
    engine = std::make_unique<Engine>(settings, memory.memory(), std::move(state), std::move(shown),
                                      std::vector<std::string>{"identity-1", "identity-2"}, *this);
    engine->free_space();
  }

  /// So many milliseconds pass; disk and shards answer within each, where they work.
  void run(std::uint64_t milliseconds) {
    for (std::uint64_t i = 0; i < milliseconds; ++i) {
      ++now.ms;
      static_cast<void>(engine->drain(now));
      engine->tick(now);
      if (disk_works) finish_commit();
      for (std::uint32_t n = 0; n < 2; ++n) {
        if (!reachable[n]) continue;
        if (std::exchange(connecting[n], false)) engine->on_connected(n);
        std::mt19937_64 unused(0);
        while (shards[n].execute(unused)) {
          while (auto received = shards[n].receive(0)) {
            engine->on_answer(n, received->done, std::move(received->answer), now);
          }
        }
      }
    }
  }
  void finish_commit() {
    if (!submitted) return;
    const SpoolResult result = spool.apply(*std::exchange(submitted, std::nullopt));
    engine->on_committed(result, now);
  }
  /// The connection to a shard breaks, and no other one succeeds until it is reachable again.
  void cut_off(std::uint32_t shard) {
    reachable[shard] = false;
    std::mt19937_64 random(1);
    for (const Completion& lost : shards[shard].drop(0, random)) lost(Lost{});
    engine->on_broken(shard, "cut off", now);
  }

  /// What the shards hold of a page, together.
  [[nodiscard]] std::uint64_t counted(const std::string& page) const {
    return shards[0].count(page, memory.bucket_of(page)) + shards[1].count(page, memory.bucket_of(page));
  }
  [[nodiscard]] std::uint64_t head(std::uint32_t lane) const { return memory.cache().head[lane].word.load(); }
  /// The nth page that is placed on a shard.
  [[nodiscard]] std::string page_on(std::uint32_t shard, std::uint32_t nth = 0) const {
    const std::vector<std::uint32_t>& placed = engine->placement().shard_of_bucket();
    for (std::uint32_t bucket = 0;; ++bucket) {
      if (placed.at(bucket) == shard) return memory.page_in(bucket, nth);
    }
  }

  /// Pages that are placed on a shard, of all its buckets.
  [[nodiscard]] std::vector<std::string> pages_on(std::uint32_t shard, std::size_t count) const {
    std::vector<std::string> pages;
    for (std::uint32_t i = 0; pages.size() < count; ++i) {
      std::string page = "page-" + std::to_string(i);
      if (engine->placement().shard_of(memory.bucket_of(page)) == shard) pages.push_back(std::move(page));
    }
    return pages;
  }

  /// A change that nobody waits for.
  void correct(PageChange change) {
    engine->correct({"root", {std::move(change)}, now.ms + 10'000}, [](const std::vector<ChangedPage>&) {}, now);
  }
  /// A page of the first shard gives its three visits to one of the second shard; until the first shard has answered.
  std::pair<std::string, std::string> give_three_visits() {
    const std::pair pages(page_on(0), page_on(1));
    for (int i = 0; i < 3; ++i) static_cast<void>(memory.publish(0, pages.first));
    correct({PageChange::Kind::take, pages.first, 0, pages.second});
    while (corrected_pages.empty()) run(1);
    return pages;
  }

  // EnginePort
  void submit(Transaction transaction) override {
    REQUIRE_FALSE(submitted);
    ++submits;
    recalls += transaction.recalled.size();
    submitted = std::move(transaction);
  }
  void connect(std::uint32_t shard) override {
    ++connects;
    if (reachable[shard]) shards[shard].connect(0);
    connecting[shard] = reachable[shard];
  }
  void close(std::uint32_t shard) override {
    std::mt19937_64 random(1);
    for (const Completion& lost : shards[shard].drop(0, random)) lost(Lost{});
    connecting[shard] = false;
  }
  void send(std::uint32_t shard, const ShardCommand& command, Completion done) override {
    shards[shard].send(0, spool.writer(), command, std::move(done), now.ms);
  }
  void shard_changed(std::uint32_t, ShardState, const std::string&) override {}
  void shard_unfit(std::uint32_t, const std::string& why) override { FAIL("unfit: " << why); }
  void shard_warned(std::uint32_t, const std::string& what) override { FAIL("warned: " << what); }
  void corrected(const CorrectedPage& page) override { corrected_pages.push_back(page); }
  void given(const std::string& page, std::uint64_t visits) override { given_pages.push_back({page, visits}); }
  void wake_lanes(std::uint64_t lanes) override { woken |= lanes; }
  void bucket_moved(std::uint32_t, std::uint32_t) override {}
  void layout_changed(const std::string& layout) override { layouts.push_back(layout); }
  void node_unknown(const std::string& node) override { FAIL("no node: " << node); }

  FlusherMemory memory;
  EngineSettings settings;
  SimulatedSpool spool{"simulated"};
  std::vector<std::string> layouts;
  std::vector<SimulatedShard> shards{SimulatedShard(1), SimulatedShard(1)};
  std::unique_ptr<Engine> engine;
  Now now{1'000'000, 1'700'000'000};
  std::optional<Transaction> submitted;
  bool disk_works = true;
  std::array<bool, 2> reachable{true, true};
  std::array<bool, 2> connecting{};
  std::vector<CorrectedPage> corrected_pages;
  std::vector<Effect> given_pages;
  std::uint64_t submits = 0;
  std::uint64_t recalls = 0;  ///< buckets
  std::uint64_t connects = 0;
  std::uint64_t woken = 0;
};

}  // namespace

// ---- another layout

TEST_CASE("a running engine takes a layout where the shards keep their numbers") {
  Host host;
  host.run(1000);
  const Layout made = host.engine->layout();
  const auto step = [&](const Layout& layout) { return host.engine->look_at_layout(layout); };
  const Layout grows = begin_move(made, {{"one"}, {"two"}, {"new", "redis://new"}});
  CHECK(step(grows) == LayoutStep::take);
  CHECK(step(begin_move(made, {{"one"}})) == LayoutStep::take);
  CHECK(step(begin_move(made, {{"two"}})) == LayoutStep::take);
  // Others than in order.
  Layout other = grows;
  other.version = 3;
  CHECK(step(other) == LayoutStep::next_life);
  // An address that was changed, and a cluster.
  other = made;
  other.shards[0].url = "redis://elsewhere";
  other.version = 2;
  CHECK(step(other) == LayoutStep::next_life);
  CHECK(step(begin_move(made, {{cluster_name, "cluster://a:1"}})) == LayoutStep::next_life);

  const auto take = [&](const Layout& layout) {
    EngineSettings settings = host.settings;
    settings.changed = layout;
    settings.shards = shards_of_life(layout, std::nullopt);
    host.engine->take_layout(settings, host.now);
  };
  const Layout shrinks = begin_move(made, {{"one"}});
  take(shrinks);
  CHECK(host.engine->layout() == shrinks);
  CHECK(host.engine->move_progress()->buckets == host.engine->placement().buckets_on(1).size());
  CHECK(step(shrinks) == LayoutStep::next_life);
  CHECK(step(end_move(shrinks)) == LayoutStep::take);
  CHECK(host.engine->placement().buckets_on(1).empty());
  take(end_move(shrinks));
  CHECK(host.engine->placement().shards() == 1);
  CHECK_FALSE(host.engine->move_progress());
  CHECK_THROWS_AS(static_cast<void>(host.engine->offer("two")), Error);
  CHECK(host.engine->identity() == "identity-1");
}

TEST_CASE("where a shard goes that is not the last one, the next life begins without it") {
  Host host;
  host.run(1000);
  const Layout shrinks = begin_move(host.engine->layout(), {{"two"}});
  EngineSettings settings = host.settings;
  settings.changed = shrinks;
  host.engine->take_layout(settings, host.now);
  CHECK(host.engine->look_at_layout(end_move(shrinks)) == LayoutStep::next_life);
}

// ---- other settings

TEST_CASE("other intervals count from the moment on, a flush that is due later comes sooner") {
  EngineSettings settings = usual();
  settings.flush_interval_ms = 3'600'000;
  settings.commit_interval_ms = 60'000;
  Host host(settings);
  host.run(10);
  const std::string page = host.page_on(0);
  static_cast<void>(host.memory.publish(0, page));
  host.run(1000);
  CHECK(host.counted(page) == 0);
  CHECK_FALSE(host.engine->is_durable());
  settings.commit_interval_ms = 100;
  host.engine->use(settings, host.now);
  host.run(100);
  CHECK(host.engine->is_durable());
  CHECK(host.counted(page) == 0);
  settings.flush_interval_ms = 200;
  host.engine->use(settings, host.now);
  host.run(300);
  CHECK(host.counted(page) == 1);
}

// ---- corrections

TEST_CASE("a count is set to a number once what was recorded before is in Redis, and the next read has it") {
  Host host;
  host.run(10);
  const std::string page = host.page_on(0);
  static_cast<void>(host.memory.publish(0, page));
  host.run(1);
  static_cast<void>(host.memory.publish(0, page));
  std::vector<ChangedPage> told;
  host.engine->correct(
      {"root", {{PageChange::Kind::set, page, 1}}, host.now.ms + 10'000},
      [&](const std::vector<ChangedPage>& changed) { told = changed; }, host.now);
  host.run(2000);
  REQUIRE(told.size() == 1);
  CHECK(told[0].problem == "");
  CHECK(told[0].before == 2);
  CHECK(told[0].after == 1);
  CHECK(host.counted(page) == 1);
  REQUIRE(host.corrected_pages.size() == 1);
  CHECK(host.corrected_pages[0].difference == -1);
  CHECK(host.engine->corrected().size() == 1);
  CHECK_FALSE(host.engine->is_correcting());
}

TEST_CASE("what a page loses another page is given once, also where the life ends before that is durable") {
  Host host;
  host.run(10);
  const auto [from, into] = host.give_three_visits();
  CHECK(host.given_pages.empty());
  host.disk_works = false;
  host.start();  // the answer is forgotten, and comes again
  host.disk_works = true;
  host.run(10'000);
  CHECK(host.corrected_pages.size() == 2);
  CHECK(host.given_pages == std::vector<Effect>{{into, 3}});
  CHECK(host.counted(from) == 0);
  static_cast<void>(host.engine->begin_flush(host.now));
  host.run(2000);
  CHECK(host.counted(into) == 3);
}

TEST_CASE("a change is told once the spool has its answer, and no sooner") {
  Host host;
  host.run(10);
  bool told = false;
  host.engine->correct(
      {"root", {{PageChange::Kind::set, host.page_on(0), 9}}, host.now.ms + 100'000},
      [&](const std::vector<ChangedPage>&) { told = true; }, host.now);
  while (host.corrected_pages.empty()) host.run(1);
  host.disk_works = false;
  host.run(5000);
  CHECK_FALSE(told);
  CHECK(host.engine->corrected().empty());
  host.disk_works = true;
  host.run(2);
  CHECK(told);
  CHECK(host.engine->corrected().size() == 1);
}

TEST_CASE("a correction without an answer still fits where the shard has lost it together with the one before") {
  Host host;
  host.run(10);
  const std::string first = host.page_on(0);
  const std::string second = host.memory.page_in(host.memory.bucket_of(first), 1);
  for (std::uint64_t i = 0; i < 5; ++i) static_cast<void>(host.memory.publish(i % 2, i < 3 ? first : second));
  host.run(1);
  static_cast<void>(host.engine->begin_flush(host.now));
  host.run(2000);
  host.shards[0].sync();
  const auto set = [&](const std::string& page, std::uint64_t count) {
    host.engine->correct(
        {"root", {{PageChange::Kind::set, page, count}}, host.now.ms + 100'000}, [](const std::vector<ChangedPage>&) {},
        host.now);
  };
  set(first, 1);
  host.run(2000);
  set(second, 9);
  while (host.corrected_pages.size() < 2) host.run(1);
  CHECK(host.counted(first) == 1);
  CHECK(host.counted(second) == 9);
  host.shards[0].lose_tail();
  CHECK(host.counted(first) == 3);
  host.start();  // the second one's answer is forgotten too
  host.run(2000);
  CHECK(host.counted(first) == 1);
  CHECK(host.counted(second) == 9);
  CHECK(host.memory.statistic(FlusherStatistic::batches_sent_again) == 1);
}

TEST_CASE("where a shard is away nothing is changed, and that is said in time") {
  Host host;
  host.run(10);
  const std::string page = host.page_on(0);
  host.cut_off(0);
  std::vector<ChangedPage> told;
  host.engine->correct(
      {"root", {{PageChange::Kind::set, page, 9}}, host.now.ms + 100},
      [&](const std::vector<ChangedPage>& changed) { told = changed; }, host.now);
  host.run(50);
  CHECK(told.empty());
  host.run(60);
  REQUIRE(told.size() == 1);
  CHECK(told[0].problem.find("nothing was changed") != std::string::npos);
  CHECK_FALSE(host.engine->is_correcting());
}

TEST_CASE(
    "who adds to a page is told once that is durable, also where a correction of an earlier life gives it as much") {
  Host host;
  host.run(10);
  const auto [from, into] = host.give_three_visits();
  host.start();
  while (host.corrected_pages.size() < 2) host.run(1);
  host.disk_works = false;
  host.run(2000);
  REQUIRE(host.submitted);
  bool told = false;
  host.engine->correct(
      {"root", {{PageChange::Kind::add, into, 3}}, host.now.ms + 10'000},
      [&](const std::vector<ChangedPage>&) { told = true; }, host.now);
  host.finish_commit();
  CHECK(host.given_pages == std::vector<Effect>{{into, 3}});
  CHECK_FALSE(told);
  host.disk_works = true;
  host.run(2000);
  CHECK(told);
}

TEST_CASE("a correction is numbered by the time in milliseconds") {
  EngineSettings settings = usual();
  settings.unix_ahead_ms = 1'699'999'000'000;
  Host host(settings);
  host.run(10);
  const std::string page = host.page_on(0);
  host.correct({PageChange::Kind::set, page, 9});
  const std::uint64_t asked_ms = settings.unix_ahead_ms + host.now.ms;
  while (host.corrected_pages.empty()) host.run(1);
  const std::uint64_t number = host.shards[0].fix_of(host.memory.bucket_of(page));
  CHECK(number >= asked_ms);
  CHECK(number <= settings.unix_ahead_ms + host.now.ms);
}

TEST_CASE("a correction follows its bucket to the next shard, though the former one has forgotten that it left") {
  Host host;
  host.run(1000);
  const std::vector<std::uint32_t> buckets = host.engine->placement().buckets_on(1);
  const std::uint32_t bucket = buckets.back();
  const std::string page = host.memory.page_in(bucket, 0);
  for (int i = 0; i < 3; ++i) static_cast<void>(host.memory.publish(0, page));
  host.run(1);
  static_cast<void>(host.engine->begin_flush(host.now));
  host.run(2000);
  host.shards[1].sync();
  Layout shrinks = begin_move(host.engine->layout(), {{"one"}});
  shrinks.rate = 1;
  host.settings.changed = shrinks;
  host.engine->take_layout(host.settings, host.now);
  host.run(1000 * buckets.size() + 1000);
  CHECK(host.engine->placement().shard_of(bucket) == 0);
  host.shards[1].lose_tail();
  CHECK(host.shards[1].has_bucket(bucket));

  host.start();
  host.run(100);
  CHECK(host.engine->placement().shard_of(bucket) == 1);
  host.correct({PageChange::Kind::set, page, 1});
  while (host.corrected_pages.empty()) host.run(1);
  CHECK(host.engine->placement().shard_of(bucket) == 0);
  CHECK(host.shards[0].count(page, bucket) == 1);
  CHECK_FALSE(host.shards[1].has_bucket(bucket));
}

TEST_CASE("an order that names a page twice, or a page as its own other one, changes nothing") {
  Host host;
  const auto ask = [&](std::vector<PageChange> changes) {
    host.engine->correct(
        {"root", std::move(changes), host.now.ms + 100}, [](const std::vector<ChangedPage>&) {}, host.now);
  };
  CHECK_THROWS_AS(ask({}), Error);
  CHECK_THROWS_AS(ask({{PageChange::Kind::set, "home", 1}, {PageChange::Kind::add, "home", 1}}), Error);
  CHECK_THROWS_AS(ask({{PageChange::Kind::take, "home", 0, "home"}}), Error);
  CHECK_THROWS_AS(ask({{PageChange::Kind::set, "home", count_limit + 1}}), Error);
  CHECK_FALSE(host.engine->is_correcting());
}

// ---- commits

TEST_CASE("visits become durable at the commit interval, and only then is their space free") {
  Host host;
  static_cast<void>(host.memory.publish(0, "home"));
  host.run(1);  // long after the last commit, of which there was none
  const std::uint64_t first = host.memory.tail(0).load();
  CHECK(host.head(0) == first);
  host.run(20);
  const std::uint64_t submits = host.submits;
  static_cast<void>(host.memory.publish(0, "home"));
  host.run(900);
  CHECK(host.head(0) == first);
  CHECK(host.submits == submits);
  CHECK_FALSE(host.engine->is_durable());
  CHECK(host.engine->is_idle());  // applied, but not durable
  host.run(110);
  CHECK(host.head(0) == host.memory.tail(0).load());
  CHECK(host.engine->is_durable());
  CHECK(test::open_in(host.spool.load(7919), 8) == std::vector<Effect>{{"home", 2}});
  CHECK(host.memory.statistic(FlusherStatistic::last_commit_ns) > (host.now.ms - 200) * 1'000'000);
}

TEST_CASE("space is not free while its transaction is on its way to the disk") {
  Host host;
  host.disk_works = false;
  static_cast<void>(host.memory.publish(0, "home"));
  host.run(3000);
  REQUIRE(host.submitted);
  CHECK(host.head(0) == 0);
  CHECK_FALSE(host.engine->lanes_are_durable());
  static_cast<void>(host.memory.publish(0, "about"));
  const std::uint64_t committing = host.submitted->ring->positions.at(0);
  host.run(5);
  CHECK(host.submits == 1);  // one at a time
  host.finish_commit();
  CHECK(host.head(0) == committing);
  CHECK_FALSE(host.engine->lanes_are_durable());
  host.disk_works = true;
  host.run(1000);
  CHECK(host.engine->lanes_are_durable());
}

TEST_CASE("nothing is committed where nothing has happened") {
  Host host;
  host.run(3000);
  const std::uint64_t submits = host.submits;
  host.run(3000);
  CHECK(host.submits == submits);
  CHECK(host.engine->is_durable());
}

TEST_CASE("a lane that is a quarter full is committed early") {
  Host host(usual(), 4096);
  host.run(2000);
  static_cast<void>(host.memory.publish(0, "home"));
  host.run(20);
  const std::uint64_t head = host.head(0);
  while (host.memory.tail(0).load() - head <= 1024 - 32) static_cast<void>(host.memory.publish(0, "home"));
  host.run(5);
  CHECK(host.head(0) == head);  // just a quarter
  static_cast<void>(host.memory.publish(0, "home"));
  host.run(2);
  CHECK(host.head(0) == host.memory.tail(0).load());
}

TEST_CASE("a commit can be asked for") {
  Host host;
  host.run(2500);
  static_cast<void>(host.memory.publish(0, "home"));
  host.run(1);
  static_cast<void>(host.memory.publish(0, "home"));
  host.run(5);
  CHECK(host.head(0) < host.memory.tail(0).load());
  host.engine->commit_soon();
  host.run(1);
  CHECK(host.engine->is_durable());
}

TEST_CASE("a full disk costs no visit: the same transaction is tried again, and full lanes refuse meanwhile") {
  Host host(usual(), 4096);
  host.disk_works = false;
  static_cast<void>(host.memory.publish(0, "home", 2));
  host.run(1);
  REQUIRE(host.submitted);
  std::uint64_t recorded = 2;
  for (int tries = 1; tries <= 3; ++tries) {
    REQUIRE(host.submitted);
    host.engine->on_spool_full(std::move(*std::exchange(host.submitted, std::nullopt)), host.now);
    host.run(999);
    CHECK_FALSE(host.submitted);
    host.run(1);
    REQUIRE(host.submitted);
    CHECK(decode_effects(host.submitted->deltas) == std::vector<Effect>{{"home", 2}});
    CHECK(host.head(0) == 0);
    while (host.memory.publish(0, "home") == Published::published) ++recorded;
  }
  CHECK(host.memory.statistic(FlusherStatistic::commit_failures) == 3);
  host.disk_works = true;
  host.run(2000);
  CHECK(host.memory.publish(0, "home") == Published::published);
  ++recorded;
  host.run(2000);
  CHECK(test::open_in(host.spool.load(7919), 8) == std::vector<Effect>{{"home", recorded}});
}

// ---- flushes

TEST_CASE("visits reach their shards at the flush interval, each page's where it is placed") {
  Host host;
  const std::string first = host.page_on(0);
  const std::string second = host.page_on(1);
  static_cast<void>(host.memory.publish(0, first, 3));
  static_cast<void>(host.memory.publish(1, second, 4));
  host.run(14'900);
  CHECK(host.counted(first) == 0);
  CHECK(host.memory.statistic(FlusherStatistic::flushes) == 0);
  host.run(30'200);
  CHECK(host.shards[0].count(first, host.memory.bucket_of(first)) == 3);
  CHECK(host.shards[1].count(second, host.memory.bucket_of(second)) == 4);
  CHECK(host.memory.statistic(FlusherStatistic::flushes) == 1);
  CHECK(host.memory.statistic(FlusherStatistic::last_flush_ns) > 0);
  CHECK(host.memory.statistic(FlusherStatistic::pending_visits) == 0);
  static_cast<void>(host.memory.publish(0, first, 1));
  host.run(30'000);
  CHECK(host.counted(first) == 4);
  CHECK(host.memory.statistic(FlusherStatistic::flushes) == 2);
}

TEST_CASE("a flush that is asked for carries what is applied, in as many batches as it needs") {
  EngineSettings settings = usual();
  settings.batches.batch_pages = 2;
  Host host(settings);
  host.run(10);
  for (std::uint32_t i = 0; i < 7; ++i) static_cast<void>(host.memory.publish(0, host.page_on(0, i), i + 1));
  static_cast<void>(host.engine->drain(host.now));
  const std::uint64_t flush = host.engine->begin_flush(host.now);
  CHECK_FALSE(host.engine->flush_is_done(flush));
  host.run(1);
  CHECK_FALSE(host.engine->flush_is_done(flush));
  host.run(400);
  CHECK(host.engine->flush_is_done(flush));
  for (std::uint32_t i = 0; i < 7; ++i) CHECK(host.counted(host.page_on(0, i)) == i + 1);
  CHECK(host.memory.statistic(FlusherStatistic::batches_sent) == 4);
}

TEST_CASE("pages that crowd the memory are flushed early, and the lanes go on") {
  EngineSettings settings = usual();
  settings.memory_limit_bytes = 8 * PendingSeries::bytes_of(8);
  Host host(settings);
  host.run(10);
  for (std::uint32_t i = 0; i < 30; ++i) static_cast<void>(host.memory.publish(0, "page-" + std::to_string(i)));
  host.run(500);
  CHECK(host.engine->is_idle());
  std::uint64_t there = 0;
  for (std::uint32_t i = 0; i < 30; ++i) there += host.counted("page-" + std::to_string(i));
  CHECK(there >= 30 - 8);
  CHECK(host.memory.statistic(FlusherStatistic::flushes) >= 3);
  CHECK(host.memory.statistic(FlusherStatistic::spilled_visits) == 0);
}

TEST_CASE("a few pages do not hurry a flush") {
  EngineSettings settings = usual();
  settings.memory_limit_bytes = 8 * PendingSeries::bytes_of(8);
  Host host(settings);
  for (std::uint32_t i = 0; i < 6; ++i) static_cast<void>(host.memory.publish(0, "page-" + std::to_string(i)));
  host.run(5000);
  CHECK(host.memory.statistic(FlusherStatistic::batches_sent) == 0);
}

// ---- shards

TEST_CASE("a shard that is away holds up no other, and is caught up when it returns") {
  Host host;
  host.run(10);
  const std::string here = host.page_on(0);
  const std::string away = host.page_on(1);
  host.cut_off(1);
  CHECK(host.engine->shard_state(1) == ShardState::down);
  CHECK(host.memory.cache().shard[1].state.load() == static_cast<std::uint64_t>(ShardState::down));
  CHECK(shard_reason(host.memory.cache().shard[1]) == "cut off");
  CHECK(host.memory.cache().shard[0].state.load() == static_cast<std::uint64_t>(ShardState::up));
  for (int round = 0; round < 3; ++round) {
    static_cast<void>(host.memory.publish(0, here, 2));
    static_cast<void>(host.memory.publish(0, away, 5));
    host.run(1);
    static_cast<void>(host.engine->begin_flush(host.now));
    host.run(200);
  }
  CHECK(host.counted(here) == 6);
  CHECK(host.counted(away) == 0);
  CHECK(host.engine->page_state(away).inflight == 0);  // a shard that takes no batches gets none
  CHECK(host.engine->page_state(away).open == 15);
  CHECK(host.engine->page_state(away).shard == 1);
  host.reachable[1] = true;
  host.engine->on_broken(1, "still", host.now);
  host.run(1000);
  CHECK(host.engine->shard_state(1) == ShardState::up);
  static_cast<void>(host.engine->begin_flush(host.now));
  host.run(300);
  CHECK(host.counted(away) == 15);
  CHECK(host.counted(here) == 6);
  CHECK(host.engine->page_state(away).inflight == 0);
}

TEST_CASE("a shard's report says what its server is, and how long visits wait for it") {
  EngineSettings settings = usual();
  settings.servers = {{"10.0.0.1:6379", 0}, {"10.0.0.2:6379", 0}};
  Host host(settings);
  host.reachable[1] = false;
  host.run(10);
  Engine::ShardReport report = host.engine->shard_report(0, host.now);
  CHECK(report.address == "10.0.0.1:6379");
  REQUIRE(report.server);
  CHECK(report.server->role == "master");
  CHECK_FALSE(report.oldest_wait_ms);
  CHECK_FALSE(host.engine->shard_report(1, host.now).server);
  // Without visits nothing waits, however long no flush reaches the shard.
  host.run(60'000);
  CHECK_FALSE(host.engine->shard_report(1, host.now).oldest_wait_ms);
  static_cast<void>(host.memory.publish(0, host.page_on(1)));
  host.run(60'000);
  const auto wait_ms = host.engine->shard_report(1, host.now).oldest_wait_ms;
  REQUIRE(wait_ms);
  CHECK(*wait_ms >= 60'000);
  CHECK_FALSE(host.engine->shard_report(0, host.now).oldest_wait_ms);
  host.reachable[1] = true;
  host.engine->on_broken(1, "still", host.now);
  host.run(31'000);
  CHECK_FALSE(host.engine->shard_report(1, host.now).oldest_wait_ms);
}

TEST_CASE("a batch without an answer waits since its flush began, also in the next life") {
  Host host;
  host.run(10);
  static_cast<void>(host.memory.publish(0, host.page_on(1)));
  host.run(1);
  host.reachable[1] = false;  // what is sent has no answer
  static_cast<void>(host.engine->begin_flush(host.now));
  host.run(2'500);
  const auto wait_ms = host.engine->shard_report(1, host.now).oldest_wait_ms;
  REQUIRE(wait_ms);
  CHECK(*wait_ms == 2'500);
  host.start();
  host.run(700);
  CHECK(host.engine->shard_report(1, host.now).oldest_wait_ms == 699U);
}

TEST_CASE("a shard that comes or goes wakes every frontend") {
  Host host;
  host.run(10);
  host.woken = 0;
  host.cut_off(0);
  CHECK(host.woken == 3);
}

TEST_CASE("an emptied shard is held, and taken as it is when that is asked for by its name") {
  Host host;
  const std::string page = host.page_on(0);
  static_cast<void>(host.memory.publish(0, page, 3));
  host.run(1);
  static_cast<void>(host.engine->begin_flush(host.now));
  host.run(1200);
  REQUIRE(host.counted(page) == 3);
  host.shards[0].empty();
  host.engine->on_broken(0, "restarted", host.now);
  host.run(600);
  CHECK(host.engine->shard_state(0) == ShardState::held);
  static_cast<void>(host.memory.publish(0, page, 4));
  host.run(1000);
  CHECK_THROWS_AS(static_cast<void>(host.engine->offer("three")), Error);
  CHECK_THROWS_AS(host.engine->accept("two", 0, host.now), Error);  // it is up
  host.engine->accept("one", host.engine->offer("one").token, host.now);
  host.run(1200);
  CHECK(host.engine->shard_state(0) == ShardState::up);
  static_cast<void>(host.engine->begin_flush(host.now));
  host.run(300);
  CHECK(host.counted(page) == 7);  // the batch that was kept, and the new one
}

// ---- reads

TEST_CASE("a request brings a page's count into the view, and wakes who asked") {
  Host host;
  host.run(10);
  const std::string page = host.page_on(1);
  static_cast<void>(host.memory.publish(0, page, 3));
  host.run(1);
  static_cast<void>(host.engine->begin_flush(host.now));
  host.run(100);
  static_cast<void>(host.memory.publish(0, page, 2));
  host.woken = 0;
  CHECK_FALSE(host.memory.entry(page).there);
  static_cast<void>(host.memory.ask(1, page));
  CHECK_FALSE(host.engine->is_idle());
  host.run(2);
  CHECK(host.woken == 2);
  const FlusherMemory::Entry entry = host.memory.entry(page);
  CHECK(entry.base == 3);
  CHECK(entry.open == 2);
  CHECK(entry.expires > host.now.ms + 4000);
}

TEST_CASE("an inspection says what the shard holds, or that it cannot be asked") {
  Host host;
  const std::string page = host.page_on(0);
  std::optional<std::optional<Count>> told;
  host.engine->inspect(page, [&](auto count) { told = count; });
  REQUIRE(told);
  CHECK_FALSE(*told);
  static_cast<void>(host.memory.publish(0, page, 3));
  host.run(10);
  static_cast<void>(host.engine->begin_flush(host.now));
  host.run(100);
  told.reset();
  host.engine->inspect(page, [&](auto count) { told = count; });
  CHECK_FALSE(told);
  host.run(1);
  REQUIRE(told);
  REQUIRE(*told);
  CHECK((*told)->count == 3);
  CHECK((*told)->field == host.engine->page_state(page).field);
}

// ---- leaving a ring

TEST_CASE("a ring is finished once all of it is durable, and one transaction is under way at a time, however slow") {
  Host host;
  host.run(2000);
  host.disk_works = false;
  static_cast<void>(host.memory.publish(0, "home", 3));
  host.run(1);
  static_cast<void>(host.memory.publish(0, "home", 4));
  host.run(1200);
  REQUIRE(host.submitted);
  const std::uint64_t submits = host.submits;
  host.engine->finish_ring();
  host.engine->commit_soon();
  host.run(5000);  // submit() of the host refuses a second one
  CHECK(host.submits == submits);
  CHECK_FALSE(host.engine->ring_is_finished());
  const auto is_finishing = [&] { return host.submitted && host.submitted->ring->finished; };
  for (int commits = 0; commits < 5 && !is_finishing(); ++commits) {
    REQUIRE(host.submitted);
    host.finish_commit();
    CHECK_FALSE(host.engine->ring_is_finished());
    host.run(2000);
  }
  REQUIRE(is_finishing());
  CHECK(host.submitted->ring->positions[0] == host.memory.tail(0).load());
  CHECK_FALSE(host.engine->ring_is_finished());  // not before it is durable
  host.run(5000);
  CHECK(is_finishing());
  // A full disk does not make it forgotten.
  host.engine->on_spool_full(std::move(*std::exchange(host.submitted, std::nullopt)), host.now);
  host.run(500);
  CHECK_FALSE(host.submitted);
  host.run(1000);
  REQUIRE(is_finishing());
  host.finish_commit();
  CHECK(host.engine->ring_is_finished());
  const SpoolState state = host.spool.load(7919);
  REQUIRE(state.rings.size() == 1);
  CHECK(state.rings[0].finished);
  CHECK(test::open_in(state, 8) == std::vector<Effect>{{"home", 7}});
}

// ---- memory

namespace {

/// Memory for fewer pages than are visited, and short intervals.
EngineSettings little_memory() {
  EngineSettings settings = usual();
  settings.memory_limit_bytes = 100 * PendingSeries::bytes_of(8);
  settings.flush_interval_ms = 500;
  settings.commit_interval_ms = 20;
  return settings;
}

}  // namespace

TEST_CASE("what waits for a shard that is away fills no other shard's room, and comes back exact") {
  Host host(little_memory(), 1U << 20U);
  host.run(10);
  host.cut_off(1);
  const std::vector<std::string> here = host.pages_on(0, 20);
  const std::vector<std::string> away = host.pages_on(1, 200);
  for (std::uint32_t round = 1; round <= 5; ++round) {
    for (std::size_t i = 0; i < away.size(); ++i) {
      static_cast<void>(host.memory.publish(0, away[i]));
      if (i % 10 == 0) static_cast<void>(host.memory.publish(1, here[i / 10]));
    }
    for (int step = 0; step < 1500; ++step) {
      host.run(1);
      REQUIRE(host.memory.statistic(FlusherStatistic::pending_bytes) <= host.settings.memory_limit_bytes);
    }
    CHECK(host.engine->is_idle());  // no lane waits
    // The shard that is there has had its flush all the while.
    for (const std::string& page : here) REQUIRE(host.counted(page) == round);
  }
  CHECK(host.memory.statistic(FlusherStatistic::spilled_visits) > 5 * 150);
  CHECK(host.memory.statistic(FlusherStatistic::pending_visits) == 5 * 200);
  CHECK(host.memory.cache().shard[1].unanswered.load() == 0);
  for (const std::string& page : away) REQUIRE(host.counted(page) == 0);

  host.reachable[1] = true;
  host.engine->on_broken(1, "still", host.now);
  for (int step = 0; step < 20'000 && host.memory.statistic(FlusherStatistic::pending_visits) != 0; ++step) {
    host.run(1);
    REQUIRE(host.memory.statistic(FlusherStatistic::pending_bytes) <= host.settings.memory_limit_bytes);
  }
  for (const std::string& page : away) REQUIRE(host.counted(page) == 5);
  CHECK(host.memory.statistic(FlusherStatistic::spilled_visits) == 0);
  host.run(100);
  CHECK(test::open_in(host.spool.load(7919), 8).empty());
}

TEST_CASE("a flusher that starts while a shard is away goes on with what is spilled") {
  Host host(little_memory(), 1U << 20U);
  host.run(10);
  host.cut_off(1);
  const std::vector<std::string> away = host.pages_on(1, 200);
  for (const std::string& page : away) static_cast<void>(host.memory.publish(0, page, 2));
  host.run(1000);
  REQUIRE(host.memory.statistic(FlusherStatistic::spilled_visits) > 100);
  host.start();
  CHECK(host.memory.statistic(FlusherStatistic::pending_visits) == 400);
  for (const std::string& page : away) static_cast<void>(host.memory.publish(0, page, 3));
  host.run(1000);
  CHECK(host.engine->is_idle());
  host.reachable[1] = true;
  host.engine->on_broken(1, "still", host.now);
  host.run(10'000);
  for (const std::string& page : away) REQUIRE(host.counted(page) == 5);
  CHECK(host.memory.statistic(FlusherStatistic::pending_visits) == 0);
}

TEST_CASE("a page of a spilled bucket is not answered before its bucket is recalled, and then with all its visits") {
  EngineSettings settings = little_memory();
  settings.flush_interval_ms = 3'600'000;
  Host host(settings, 1U << 20U);
  host.run(10);
  const std::string page = host.page_on(1);
  static_cast<void>(host.memory.publish(0, page, 100));
  host.run(1);
  static_cast<void>(host.engine->begin_flush(host.now));
  host.run(200);
  REQUIRE(host.counted(page) == 100);
  host.cut_off(1);
  for (std::uint32_t i = 0; i < 100; ++i) static_cast<void>(host.memory.publish(0, host.page_on(1, i), 3));
  host.run(200);
  REQUIRE(host.engine->page_state(page).open == 0);
  REQUIRE(host.memory.statistic(FlusherStatistic::spilled_visits) > 100);

  // The shard cannot be asked: who asks is woken, and nothing is fetched for it.
  const std::uint64_t spilled = host.memory.statistic(FlusherStatistic::spilled_visits);
  host.woken = 0;
  static_cast<void>(host.memory.ask(1, page));
  host.run(200);
  CHECK(host.woken == 2);
  CHECK_FALSE(host.memory.entry(page).there);
  CHECK(host.memory.statistic(FlusherStatistic::spilled_visits) == spilled);
  CHECK(host.recalls == 0);

  host.reachable[1] = true;
  host.engine->on_broken(1, "still", host.now);
  host.run(1000);
  REQUIRE(host.engine->shard_state(1) == ShardState::up);
  // The bucket is not due; a read brings it, and waits for it.
  host.woken = 0;
  static_cast<void>(host.memory.ask(1, page));
  static_cast<void>(host.engine->drain(host.now));
  CHECK(host.woken == 0);
  CHECK_FALSE(host.memory.entry(page).there);
  host.run(50);
  CHECK(host.woken == 2);
  const FlusherMemory::Entry entry = host.memory.entry(page);
  REQUIRE(entry.there);
  CHECK(entry.base + entry.inflight + entry.open == 103);
  CHECK(host.recalls == 1);
}

TEST_CASE("a page of a spilled bucket is read while its shard refuses writes, however crowded the memory is") {
  EngineSettings settings = little_memory();
  settings.flush_interval_ms = 50;
  Host host(settings, 1U << 20U);
  host.run(100);
  const std::vector<std::string> pages = host.pages_on(1, 200);
  for (const std::string& page : pages) static_cast<void>(host.memory.publish(0, page, 5));
  host.run(2000);
  for (const std::string& page : pages) REQUIRE(host.counted(page) == 5);
  host.shards[1].refuse(SimulatedShard::Refusing::writes);
  for (int round = 0; round < 3; ++round) {
    for (const std::string& page : pages) static_cast<void>(host.memory.publish(0, page));
    host.run(500);
  }
  REQUIRE(host.engine->shard_state(1) == ShardState::refuses_writes);
  REQUIRE(host.memory.statistic(FlusherStatistic::spilled_visits) > 150);
  for (std::size_t i = 0; i < pages.size(); i += 7) {
    const std::string& page = pages[i];
    static_cast<void>(host.memory.ask(1, page));
    for (int step = 0; step < 500 && !host.memory.entry(page).there; ++step) {
      // Visits go on, so that the memory stays crowded and what was recalled is spilled again.
      static_cast<void>(host.memory.publish(0, pages[static_cast<std::size_t>(step) % pages.size()]));
      host.run(1);
    }
    REQUIRE(host.memory.entry(page).there);
  }
  host.shards[1].refuse(SimulatedShard::Refusing::nothing);
  for (int step = 0; step < 60 && host.memory.statistic(FlusherStatistic::pending_visits) != 0; ++step) host.run(1000);
  CHECK(host.memory.statistic(FlusherStatistic::pending_visits) == 0);
  std::uint64_t counted = 0;
  for (const std::string& page : pages) counted += host.counted(page);
  CHECK(counted == host.memory.statistic(FlusherStatistic::visits_applied));
}

TEST_CASE("a lookup that waits for its bucket ends when its shard goes away") {
  EngineSettings settings = little_memory();
  settings.flush_interval_ms = 3'600'000;
  Host host(settings, 1U << 20U);
  host.run(10);
  host.shards[1].refuse(SimulatedShard::Refusing::writes);
  for (std::uint32_t i = 0; i < 100; ++i) static_cast<void>(host.memory.publish(0, host.page_on(1, i), 3));
  host.run(100);
  static_cast<void>(host.engine->begin_flush(host.now));
  host.run(200);
  for (std::uint32_t i = 0; i < 100; ++i) static_cast<void>(host.memory.publish(0, host.page_on(1, i), 3));
  host.run(200);
  REQUIRE(host.engine->shard_state(1) == ShardState::refuses_writes);
  REQUIRE(host.memory.statistic(FlusherStatistic::spilled_visits) > 0);
  host.disk_works = false;  // nothing is recalled
  host.run(10);
  std::string page;
  for (std::uint32_t i = 0; i < 100 && page.empty(); ++i) {
    if (host.engine->page_state(host.page_on(1, i)).open == 0) page = host.page_on(1, i);
  }
  REQUIRE_FALSE(page.empty());
  host.woken = 0;
  static_cast<void>(host.memory.ask(1, page));
  host.run(5);
  CHECK(host.woken == 0);
  host.cut_off(1);
  host.woken = 0;
  host.run(5);
  CHECK((host.woken & 2U) == 2);
  CHECK_FALSE(host.memory.entry(page).there);
}

// ---- lives

TEST_CASE("a start shows another view with everything that is pending, and reads go on in the old one until then") {
  Host host;
  const std::string page = host.page_on(0);
  static_cast<void>(host.memory.publish(0, page, 3));
  host.run(10);
  static_cast<void>(host.engine->begin_flush(host.now));
  host.run(100);
  static_cast<void>(host.memory.ask(0, page));
  static_cast<void>(host.memory.publish(0, page, 2));
  host.run(1500);
  static_cast<void>(host.memory.publish(0, page, 10));
  static_cast<void>(host.engine->drain(host.now));  // applied, and not durable
  CHECK(host.memory.entry(page).open == 12);
  const std::uint64_t active = host.memory.cache().active.word.load();
  host.start();
  CHECK(host.memory.cache().active.word.load() == active + 1);
  CHECK(host.engine->recovered_pages() == 1);
  // What the spool does not hold stands in the lane still.
  CHECK(host.memory.entry(page).base == 3);
  CHECK(host.memory.entry(page).open == 2);
  CHECK(host.memory.shown().applied(0).load() == host.head(0));
  host.run(1);
  CHECK(host.memory.entry(page).open == 12);
  static_cast<void>(host.engine->begin_flush(host.now));
  host.run(1000);
  CHECK(host.counted(page) == 15);
}

TEST_CASE("a batch that was executed when the flusher died is counted once") {
  Host host;
  const std::string page = host.page_on(0);
  static_cast<void>(host.memory.publish(0, page, 3));
  host.run(10);
  static_cast<void>(host.engine->begin_flush(host.now));
  for (int i = 0; i < 200 && host.counted(page) == 0; ++i) {
    host.engine->tick(host.now);
    host.finish_commit();
    std::mt19937_64 unused(0);
    while (host.shards[0].execute(unused)) {
    }
    ++host.now.ms;
  }
  REQUIRE(host.counted(page) == 3);  // and no answer was taken
  host.start();
  CHECK(host.engine->page_state(page).inflight == 3);
  host.run(2000);
  CHECK(host.counted(page) == 3);
  CHECK(host.engine->page_state(page).inflight == 0);
  CHECK(host.memory.statistic(FlusherStatistic::batches_duplicate) == 1);
}

TEST_CASE("an old copy of the spool is refused before anything is shown") {
  Host host;
  host.run(10);
  const SimulatedSpool copy = host.spool;
  static_cast<void>(host.memory.publish(0, "home", 3));
  host.run(1100);
  host.spool = copy;
  const std::uint64_t active = host.memory.cache().active.word.load();
  // A first commit without any visit has noted the ring at its beginning.
  Transaction noted;
  noted.ring = RingNote{FlusherMemory::ring_id, 1, false, {0, 0}};
  host.spool.apply(noted);
  CHECK_THROWS_WITH_AS(host.start(), doctest::Contains("the spool is older than the ring"), Error);
  CHECK(host.memory.cache().active.word.load() == active);
}

TEST_CASE("the layout that shards are marked with does not depend on the order of their names") {
  EngineSettings settings = usual();
  const std::string layout = to_text(layout_of(settings));
  CHECK(layout == "8 100 one,two");
  std::ranges::reverse(settings.shards);
  CHECK(to_text(layout_of(settings)) == layout);
  settings.buckets = 16;
  CHECK(to_text(layout_of(settings)) != layout);
}
