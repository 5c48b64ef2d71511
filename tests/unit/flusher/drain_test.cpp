#include "flusher/counting/drain.hpp"

#include <doctest/doctest.h>

#include <string>
#include <utility>
#include <vector>

#include "flusher/counting/batch.hpp"
#include "tests/unit/flusher/flusher_memory.hpp"

using namespace visitd;
using test::FlusherMemory;

namespace {

struct Draining {
  explicit Draining(std::uint64_t short_pages = 1000, std::uint64_t lane_bytes = FlusherMemory::lane_bytes)
      : memory({2, 16, 8, 64}, lane_bytes),
        view(cleared(memory)),
        drain(memory.memory(), view, pending,
              {8, 64, FlusherMemory::hash_seed, short_pages * PendingSeries::bytes_of(8)}, memory.statistics(),
              [this](std::uint32_t page) { opened.emplace_back(pending[page].name()); }) {}

  [[nodiscard]] std::uint64_t open(std::string_view page) const {
    const std::uint32_t number = pending.find(FlusherMemory::hash_of(page), page);
    return number == PendingSeries::none ? 0 : pending[number].open;
  }
  /// Up to here is durable.
  void free_applied() {
    for (std::uint32_t lane = 0; lane < 2; ++lane) memory.cache().head[lane].word.store(drain.positions()[lane]);
  }

  FlusherMemory memory;
  FlusherView view;
  PendingSeries pending;
  std::vector<std::string> opened;
  Drain drain;

 private:
  static FlusherView cleared(FlusherMemory& memory) {
    FlusherView view(memory.view(1));
    view.clear({});
    memory.cache().active.word.store(1);
    return view;
  }
};

}  // namespace

TEST_CASE("visits of all lanes are counted up to their tails") {
  Draining d;
  CHECK(d.drain.is_empty());
  CHECK_FALSE(d.drain.run());
  static_cast<void>(d.memory.publish(0, "home", 2));
  static_cast<void>(d.memory.publish(0, "about", 1));
  static_cast<void>(d.memory.publish(1, "home", 5));
  CHECK_FALSE(d.drain.is_empty());
  CHECK(d.drain.run());
  CHECK(d.open("home") == 7);
  CHECK(d.open("about") == 1);
  CHECK(d.drain.is_empty());
  CHECK(d.drain.positions() == std::vector{d.memory.tail(0).load(), d.memory.tail(1).load()});
  CHECK(d.memory.shown().applied(0).load() == d.memory.tail(0).load());
  CHECK(d.memory.shown().applied(1).load() == d.memory.tail(1).load());
  CHECK(d.pending.with_visits() == 2);
  CHECK(d.memory.statistic(FlusherStatistic::visits_applied) == 8);
  CHECK(d.memory.statistic(FlusherStatistic::pending_visits) == 8);
  CHECK(d.memory.statistic(FlusherStatistic::pending_pages) == 2);
  CHECK_FALSE(d.drain.run());
}

TEST_CASE("a page is told open once, however many visits it gets") {
  Draining d;
  for (int i = 0; i < 3; ++i) static_cast<void>(d.memory.publish(0, "home"));
  static_cast<void>(d.drain.run());
  static_cast<void>(d.memory.publish(1, "home"));
  static_cast<void>(d.drain.run());
  CHECK(d.opened == std::vector<std::string>{"home"});
}

TEST_CASE("a lane that wraps around is counted, its pads passed over") {
  Draining d(1000, 4096);
  std::uint64_t recorded = 0;
  std::uint64_t pads = 0;
  for (std::uint32_t i = 0; i < 2000; ++i) {
    const std::string page(1 + i % 40, 'x');
    const std::uint64_t before = d.memory.tail(0).load();
    REQUIRE(d.memory.publish(0, page, 1 + i % 3) == Published::published);
    pads += d.memory.tail(0).load() - before != record_bytes(page.size()) ? 1 : 0;
    recorded += 1 + i % 3;
    if (i % 7 != 0) continue;
    static_cast<void>(d.drain.run());
    d.free_applied();
  }
  static_cast<void>(d.drain.run());
  CHECK(pads > 10);
  CHECK(d.memory.statistic(FlusherStatistic::visits_applied) == recorded);
  CHECK(d.drain.take_damage().empty());
}

TEST_CASE("one run takes a burst of each lane, so that no lane waits for another one's backlog") {
  Draining d;
  while (d.memory.publish(0, "busy") == Published::published) {
  }
  static_cast<void>(d.memory.publish(1, "quiet"));
  CHECK(d.drain.run());
  CHECK(d.open("quiet") == 1);
  CHECK(d.open("busy") > 0);
  CHECK(d.drain.positions()[0] < d.memory.tail(0).load());
  CHECK_FALSE(d.drain.is_empty());
  for (int i = 0; i < 10 && !d.drain.is_empty(); ++i) CHECK(d.drain.run());
  CHECK(d.open("busy") == FlusherMemory::lane_bytes / record_bytes(4));
}

TEST_CASE("a full table of pending pages stops before the record that has no room, and goes on from there") {
  Draining d(2);
  for (const char* page : {"one", "two", "one", "three", "one"}) static_cast<void>(d.memory.publish(0, page));
  static_cast<void>(d.memory.publish(1, "two"));
  CHECK(d.drain.run());
  CHECK(d.open("one") == 2);
  CHECK(d.open("two") == 2);
  CHECK(d.open("three") == 0);
  CHECK(d.drain.positions()[0] == 3 * record_bytes(3));
  CHECK(d.memory.shown().applied(0).load() == d.drain.positions()[0]);
  CHECK_FALSE(d.drain.run());
  CHECK(d.drain.take_damage().empty());

  // Another lane's visits to pages that are there already need no room.
  static_cast<void>(d.memory.publish(1, "one"));
  CHECK(d.drain.run());
  CHECK(d.open("one") == 3);

  // One of them is sealed.
  d.pending.set_in_bucket(d.pending[d.pending.find(FlusherMemory::hash_of("two"), "two")], false);
  CHECK(d.drain.run());
  CHECK(d.open("three") == 1);
  CHECK(d.open("one") == 4);
  CHECK(d.drain.is_empty());
}

TEST_CASE("what is damaged costs the lane up to its tail, is told, and nothing more") {
  struct Damage {
    const char* what;
    void (*make)(Word* record);
  };
  static constexpr std::uint64_t size = record_bytes(4);
  static constexpr auto word = LaneProducer::first_word;
  const Damage damages[] = {
      {"zeros", [](Word* r) { r[0].store(0); }},
      {"no kind", [](Word* r) { r[0].store(word(size, static_cast<RecordKind>(9), 4)); }},
      {"a size that is no multiple of 8", [](Word* r) { r[0].store(word(size + 4, RecordKind::visit, 4)); }},
      {"a size beyond the tail", [](Word* r) { r[0].store(word(60000, RecordKind::visit, 4)); }},
      {"a size that is not its page's", [](Word* r) { r[0].store(word(size + 8, RecordKind::visit, 4)); }},
      {"no page", [](Word* r) { r[0].store(word(size, RecordKind::visit, 0)); }},
      {"no visits", [](Word* r) { r[1].store(0); }},
      {"a request", [](Word* r) { r[0].store(word(size, RecordKind::request, 4)); }},
      {"a pad beyond the tail", [](Word* r) { r[0].store(word(60000, RecordKind::pad, 0)); }},
  };
  for (const Damage& damage : damages) {
    CAPTURE(damage.what);
    Draining d;
    static_cast<void>(d.memory.publish(0, "good"));
    static_cast<void>(d.memory.publish(0, "evil"));
    static_cast<void>(d.memory.publish(0, "lost"));
    static_cast<void>(d.memory.publish(1, "other"));
    damage.make(&d.memory.records(0)[size / 8]);
    CHECK(d.drain.run());
    CHECK(d.open("good") == 1);
    CHECK(d.open("evil") == 0);
    CHECK(d.open("lost") == 0);
    CHECK(d.open("other") == 1);
    CHECK(d.drain.is_empty());
    const std::vector<Drain::Damage> told = d.drain.take_damage();
    REQUIRE(told.size() == 1);
    CHECK(told[0].lane == 0);
    CHECK(told[0].position == size);
    CHECK(told[0].bytes == 2 * size);
    CHECK(d.memory.statistic(FlusherStatistic::records_damaged) == 1);
    CHECK(d.drain.take_damage().empty());

    static_cast<void>(d.memory.publish(0, "next", 3));
    CHECK(d.drain.run());
    CHECK(d.open("next") == 3);
    CHECK(d.drain.take_damage().empty());
  }
}

TEST_CASE("a tail that cannot be is told, and reading goes on behind it") {
  for (const std::uint64_t beyond : {FlusherMemory::lane_bytes + 8, std::uint64_t{1} << 40U}) {
    Draining d;
    static_cast<void>(d.memory.publish(0, "home"));
    static_cast<void>(d.drain.run());
    const std::uint64_t position = d.drain.positions()[0];
    d.memory.tail(0).store(position + beyond);
    CHECK(d.drain.run());
    CHECK(d.open("home") == 1);
    const std::vector<Drain::Damage> told = d.drain.take_damage();
    REQUIRE(told.size() == 1);
    CHECK(told[0].position == position);
    CHECK(told[0].bytes == beyond);
    CHECK(d.drain.is_empty());
  }
}

TEST_CASE("a tail that went back is told, and nothing is counted twice") {
  for (const std::uint64_t back : {std::uint64_t{0}, record_bytes(4)}) {
    Draining d;
    for (int i = 0; i < 3; ++i) static_cast<void>(d.memory.publish(0, "home"));
    static_cast<void>(d.drain.run());
    const std::uint64_t position = d.drain.positions()[0];
    d.memory.tail(0).store(back);
    CHECK_FALSE(d.drain.run());
    CHECK(d.drain.take_damage().size() == 1);
    CHECK(d.drain.positions()[0] == position);
    CHECK(d.memory.shown().applied(0).load() == position);
    static_cast<void>(d.memory.publish(0, "home"));  // its producer knows where it was
    CHECK(d.drain.run());
    CHECK(d.open("home") == 4);
  }
}

TEST_CASE("an id that no frontend may record never becomes a page") {
  const std::string bad_ids[] = {std::string("\x01moved", 6), std::string("a\0b", 3), "line\nbreak", "\xc3(",
                                 std::string(65, 'x')};
  for (const std::string& id : bad_ids) {
    CAPTURE(id);
    Draining d;
    static_cast<void>(d.memory.publish(0, "good"));
    static_cast<void>(d.memory.publish(0, id));
    CHECK(d.drain.run());
    CHECK(d.open("good") == 1);
    CHECK(d.open(id) == 0);
    CHECK(d.pending.size() == 1);
    CHECK(d.opened == std::vector<std::string>{"good"});
    CHECK(d.drain.take_damage().size() == 1);
  }
  Draining d;
  const std::string longest(64, 'x');
  static_cast<void>(d.memory.publish(0, longest));
  CHECK(d.drain.run());
  CHECK(d.open(longest) == 1);
}

TEST_CASE("visits of a page with an entry move into it together with their lane's position") {
  Draining d;
  const std::uint32_t number = d.pending.insert(FlusherMemory::hash_of("home"), "home", 0);
  d.pending[number].node = d.view.link(FlusherMemory::hash_of("home"), "home", 100, 9, 0, 0);
  static_cast<void>(d.memory.publish(1, "home", 3));
  static_cast<void>(d.memory.publish(1, "unasked", 4));
  static_cast<void>(d.drain.run());
  CHECK(d.memory.entry("home") == FlusherMemory::Entry{true, 100, 9, 0, 3});
  CHECK_FALSE(d.memory.entry("unasked").there);
  const UndoNote& undo = d.memory.shown().undo();
  CHECK(undo.lane.load() == 1);
  CHECK(undo.applied.load() == 0);  // where the lane stood before
  CHECK(undo.open.load() == 0);
  CHECK(d.memory.shown().applied(1).load() == d.memory.tail(1).load());
}

TEST_CASE("what no transaction holds is taken once") {
  Draining d;
  static_cast<void>(d.memory.publish(0, "home", 2));
  static_cast<void>(d.memory.publish(0, "about", 1));
  static_cast<void>(d.memory.publish(0, "home", 3));
  static_cast<void>(d.drain.run());
  std::vector<Effect> taken;
  const auto take = [&] {
    taken.clear();
    d.pending.take_unspooled(
        [&](const SeriesVisits& page) { taken.push_back({std::string(page.name()), page.unspooled}); });
  };
  CHECK(d.pending.has_unspooled());
  take();
  CHECK(taken == std::vector<Effect>{{"home", 5}, {"about", 1}});
  CHECK_FALSE(d.pending.has_unspooled());
  take();
  CHECK(taken.empty());
  static_cast<void>(d.memory.publish(0, "home", 4));
  static_cast<void>(d.drain.run());
  take();
  CHECK(taken == std::vector<Effect>{{"home", 4}});
  CHECK(d.open("home") == 9);
}

TEST_CASE("the deepest lane is the one with the most bytes that are not durable") {
  Draining d;
  CHECK(d.drain.deepest({0, 0}) == 0);
  for (int i = 0; i < 3; ++i) static_cast<void>(d.memory.publish(1, "home"));
  static_cast<void>(d.memory.publish(0, "home"));
  static_cast<void>(d.drain.run());
  CHECK(d.drain.deepest({0, 0}) == 3 * record_bytes(4));
  CHECK(d.drain.deepest({0, 3 * record_bytes(4)}) == record_bytes(4));
}

TEST_CASE("a drain goes on from the positions of its view") {
  FlusherMemory memory;
  for (int i = 0; i < 3; ++i) static_cast<void>(memory.publish(0, "home"));
  FlusherView view(memory.view(0));
  view.clear(std::vector<std::uint64_t>{2 * record_bytes(4), 0});
  PendingSeries pending;
  Drain drain(memory.memory(), view, pending, {8, 64, FlusherMemory::hash_seed, 1000}, memory.statistics(),
              [](std::uint32_t) {});
  CHECK(drain.run());
  CHECK(pending[pending.find(FlusherMemory::hash_of("home"), "home")].open == 1);
}

TEST_CASE("a record whose hash is not its page's becomes no page and changes no other") {
  Draining d;
  static_cast<void>(d.memory.publish(1, "home", 1000));
  static_cast<void>(d.drain.run());
  const auto forge = [&](std::string_view page, std::uint64_t hash) {
    return d.memory.producer(0).publish(RecordKind::visit, page, 1, 1'700'000'000, hash);
  };
  const struct {
    const char* page;
    std::uint64_t hash;
  } forged[] = {
      {"home", FlusherMemory::hash_of("home") + 1},                   // a second page of the name
      {"home", FlusherMemory::hash_of("about")},                      // the same, at another page's place
      {"about", FlusherMemory::hash_of("home")},                      // at the place of a page that is there
      {"unseen", page_hash("unseen", FlusherMemory::hash_seed + 1)},  // with the seed of another ring
  };
  for (const auto& [page, hash] : forged) {
    CAPTURE(page);
    REQUIRE(forge(page, hash) == Published::published);
    CHECK(d.drain.run());
    CHECK(d.drain.take_damage().size() == 1);
    CHECK(d.pending.size() == 1);
    CHECK(d.pending.find(hash, page) == PendingSeries::none);
    CHECK(d.open("home") == 1000);
  }
  // Neither the lane nor the others are lost for it.
  static_cast<void>(d.memory.publish(0, "home", 2));
  static_cast<void>(d.memory.publish(1, "home", 3));
  CHECK(d.drain.run());
  CHECK(d.open("home") == 1005);
  CHECK(d.memory.statistic(FlusherStatistic::records_damaged) == 4);
}

TEST_CASE("a tail that went back is said once, and keeps no other lane waiting") {
  for (const std::uint64_t back : {std::uint64_t{0}, std::uint64_t{8}, std::uint64_t{3}}) {
    Draining d;
    for (int i = 0; i < 3; ++i) static_cast<void>(d.memory.publish(0, "home"));
    static_cast<void>(d.drain.run());
    d.memory.tail(0).store(back);
    static_cast<void>(d.memory.publish(1, "about"));
    CHECK(d.drain.run());
    CHECK(d.open("about") == 1);
    CHECK(d.drain.take_damage().size() == 1);
    CHECK(d.drain.is_empty());  // nobody has to look at it again
    CHECK(d.drain.has_applied(d.drain.tails()));
    for (int i = 0; i < 5; ++i) {
      static_cast<void>(d.memory.publish(1, "about"));
      CHECK(d.drain.run());
      CHECK_FALSE(d.drain.run());
      CHECK(d.drain.take_damage().empty());
    }
    CHECK(d.open("about") == 6);
    CHECK(d.open("home") == 3);
    CHECK(d.memory.statistic(FlusherStatistic::records_damaged) == 1);
  }
}

TEST_CASE("no more pages are applied than a transaction may hold, until it has taken them") {
  constexpr std::uint64_t most = 131'072;
  Draining d(1'000'000, 8U << 20U);
  for (std::uint64_t i = 0; i < most + 10; ++i) {
    REQUIRE(d.memory.publish(0, std::to_string(i)) == Published::published);
  }
  static_cast<void>(d.memory.publish(0, "0", 7));
  static_cast<void>(d.memory.publish(1, "0", 9));
  while (d.drain.run()) {
  }
  CHECK(d.pending.unspooled_is_full());
  CHECK(d.pending.size() == most);
  CHECK_FALSE(d.drain.is_empty());
  CHECK(d.open("0") == 10);  // of a page that it holds already, more has room
  std::uint64_t taken = 0;
  d.pending.take_unspooled([&](const SeriesVisits& page) { taken += page.unspooled; });
  CHECK(taken == most + 9);
  CHECK_FALSE(d.pending.unspooled_is_full());
  while (d.drain.run()) {
  }
  CHECK(d.drain.is_empty());
  CHECK(d.pending.size() == most + 10);
  CHECK(d.open("0") == 17);
  CHECK(d.drain.take_damage().empty());
}

TEST_CASE("the first page has room however small the limit is, and what is sealed takes none of it") {
  Draining d(0);
  static_cast<void>(d.memory.publish(0, "one"));
  static_cast<void>(d.memory.publish(0, "two"));
  CHECK(d.drain.run());
  CHECK(d.open("one") == 1);
  CHECK(d.open("two") == 0);
  CHECK_FALSE(d.drain.run());
  d.pending.set_in_bucket(d.pending[d.pending.find(FlusherMemory::hash_of("one"), "one")], false);
  CHECK(d.drain.run());
  CHECK(d.open("two") == 1);
}
