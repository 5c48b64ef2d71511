#include "common/shm/view.hpp"

#include <doctest/doctest.h>

#include <array>
#include <map>
#include <random>
#include <string>

#include "tests/unit/common/view_memory.hpp"

using namespace visitd;
using visitd::test::TestView;

namespace {

constexpr CacheShape small_shape{2, 8, 4, 64};

/// A cache's two views and active, with one writer on the view shown.
struct Views {
  explicit Views(const CacheShape& shape = small_shape)
      : both{TestView(shape), TestView(shape)}, writer(both[1].memory) {
    writer.clear(std::array<std::uint64_t, 2>{0, 0});
    active.store(1);
  }

  SnapshotOutcome look(std::uint64_t hash, std::string_view page) {
    const std::array<ViewMemory, 2> views{both[0].memory, both[1].memory};
    return take_snapshot(active, views, hash, page, snapshot);
  }
  [[nodiscard]] std::uint64_t count() const { return snapshot.base + snapshot.inflight + snapshot.open; }

  std::array<TestView, 2> both;
  Word active{0};
  ViewWriter<> writer;
  Snapshot snapshot;
};

}  // namespace

TEST_CASE("no view shown is no entry, and every position is 0") {
  Views views;
  views.writer.link(1, "page", 10, 0, 0, 0);
  views.writer.set_applied(0, 800);
  views.active.store(0);
  views.snapshot.applied[0] = 99;
  CHECK(views.look(1, "page") == SnapshotOutcome::absent);
  CHECK(views.snapshot.applied[0] == 0);
}

TEST_CASE("an entry is found by its hash and every byte of its page") {
  Views views;
  views.writer.link(16, "page/with a longer id", 10, 77, 2, 1);
  CHECK(views.look(16, "page/with a longer id") == SnapshotOutcome::entry);
  CHECK(views.snapshot.base == 10);
  CHECK(views.snapshot.expires == 77);
  CHECK(views.snapshot.inflight == 2);
  CHECK(views.snapshot.open == 1);
  CHECK(views.look(32, "page/with a longer id") == SnapshotOutcome::absent);  // the same chain
  CHECK(views.look(16, "page/with a longer iD") == SnapshotOutcome::absent);
  CHECK(views.look(16, "page/with a longer i") == SnapshotOutcome::absent);
  CHECK(views.look(16, "page/with a longer id ") == SnapshotOutcome::absent);
  CHECK(views.look(16, "Page/with a longer id") == SnapshotOutcome::absent);
}

TEST_CASE("pages of one hash are told apart") {
  Views views;
  views.writer.link(5, "one", 1, 0, 0, 0);
  views.writer.link(5, "two", 2, 0, 0, 0);
  CHECK(views.look(5, "one") == SnapshotOutcome::entry);
  CHECK(views.snapshot.base == 1);
  CHECK(views.look(5, "two") == SnapshotOutcome::entry);
  CHECK(views.snapshot.base == 2);
}

TEST_CASE("a visit moves from open to inflight to base, and the count stays") {
  Views views;
  const auto n = views.writer.link(3, "page", 100, 1, 0, 0);
  views.writer.apply(n, 5, 1, 480);
  CHECK(views.look(3, "page") == SnapshotOutcome::entry);
  CHECK(views.count() == 105);
  CHECK(views.snapshot.open == 5);
  CHECK(views.snapshot.applied[1] == 480);
  CHECK(views.snapshot.applied[0] == 0);

  views.writer.seal(n, 5);
  CHECK(views.look(3, "page") == SnapshotOutcome::entry);
  CHECK(views.count() == 105);
  CHECK(views.snapshot.inflight == 5);
  CHECK(views.snapshot.open == 0);

  views.writer.apply(n, 1, 1, 520);
  views.writer.acknowledge(n, 5, 105, 9);
  CHECK(views.look(3, "page") == SnapshotOutcome::entry);
  CHECK(views.count() == 106);
  CHECK(views.snapshot.base == 105);
  CHECK(views.snapshot.inflight == 0);
  CHECK(views.snapshot.expires == 9);

  views.writer.refresh(n, 205, 11);
  CHECK(views.look(3, "page") == SnapshotOutcome::entry);
  CHECK(views.count() == 206);
  CHECK(views.snapshot.expires == 11);

  views.writer.seal(n, 1);
  views.writer.set_aside(n, 1);
  CHECK(views.look(3, "page") == SnapshotOutcome::entry);
  CHECK(views.count() == 205);
  CHECK(views.snapshot.is_damaged());
  CHECK(views.snapshot.expires == 0);
}

TEST_CASE("a damaged count stays damaged until Redis says a count") {
  Views views;
  const auto n = views.writer.link(3, "page", 100, 7, 5, 0);
  CHECK(views.look(3, "page") == SnapshotOutcome::entry);
  CHECK_FALSE(views.snapshot.is_damaged());
  views.writer.damage(n, 20);
  CHECK(views.look(3, "page") == SnapshotOutcome::entry);
  CHECK(views.snapshot.is_damaged());
  CHECK(views.snapshot.expires == 20);
  // The answer to a batch neither mends it nor puts off the next look at Redis.
  views.writer.acknowledge(n, 5, 105, 99);
  CHECK(views.look(3, "page") == SnapshotOutcome::entry);
  CHECK(views.snapshot.is_damaged());
  CHECK(views.snapshot.expires == 20);
  views.writer.refresh(n, 8, 30);
  CHECK(views.look(3, "page") == SnapshotOutcome::entry);
  CHECK_FALSE(views.snapshot.is_damaged());
  CHECK(views.count() == 8);
  // A node that is used again for another page tells nothing of the former one.
  views.writer.damage(n, 40);
  views.writer.unlink(n);
  CHECK(views.writer.link(3, "other", 1, 1, 0, 0) == n);
  CHECK(views.look(3, "other") == SnapshotOutcome::entry);
  CHECK_FALSE(views.snapshot.is_damaged());
}

TEST_CASE("a life that takes over a change at any store finds no number that Redis did not say") {
  Views views;
  const ViewMemory& memory = views.both[1].memory;
  std::size_t looks = 0;
  const auto step = [&] {
    if (memory.first(3).load() == 0) return;
    ++looks;
    const NodeHead& node = memory.node(memory.first(3).load());
    CHECK((node.state.load() != 0 || node.base.load() == 8));
  };
  ViewWriter<decltype(step)> writer(memory, step);
  writer.clear({});
  const auto n = writer.link(3, "page", 0, 7, 0, 0, CountState::damaged);
  writer.refresh(n, 8, 30);
  CHECK(looks > 8);
}

TEST_CASE("a reader amid a change sees the state that the count had before it") {
  Views views;
  const auto n = views.writer.link(3, "page", 100, 7, 0, 0);
  Word& version = views.both[1].memory.version(3);
  views.writer.damage(n, 20);
  version.store(version.load() - 1);  // the writer died before its last store
  CHECK(views.look(3, "page") == SnapshotOutcome::entry);
  CHECK_FALSE(views.snapshot.is_damaged());
  CHECK(views.snapshot.expires == 7);
  version.store(version.load() + 1);
  views.writer.refresh(n, 8, 30);
  version.store(version.load() - 1);
  CHECK(views.look(3, "page") == SnapshotOutcome::entry);
  CHECK(views.snapshot.is_damaged());
}

TEST_CASE("a chain stays whole whichever of its entries goes") {
  for (std::size_t first = 0; first < 5; ++first) {
    for (std::size_t second = 0; second < 5; ++second) {
      if (first == second) continue;
      Views views;
      std::array<ViewWriter<>::Node, 5> nodes{};
      const auto page = [](std::size_t i) { return "page " + std::to_string(i); };
      for (std::size_t i = 0; i < 5; ++i) nodes[i] = views.writer.link(7 + 16 * i, page(i), i + 1, 0, 0, 0);
      views.writer.unlink(nodes[first]);
      views.writer.unlink(nodes[second]);
      for (std::size_t i = 0; i < 5; ++i) {
        const bool is_left = i != first && i != second;
        CHECK(views.look(7 + 16 * i, page(i)) == (is_left ? SnapshotOutcome::entry : SnapshotOutcome::absent));
        if (is_left) CHECK(views.snapshot.base == i + 1);
        CHECK(views.writer.find(7 + 16 * i, page(i)) == (is_left ? nodes[i] : 0));
      }
    }
  }
}

TEST_CASE("a view has as many entries as it says, and what is unlinked can be linked again") {
  Views views;
  std::map<std::uint64_t, ViewWriter<>::Node> linked;
  const auto page = [](std::uint64_t i) { return std::to_string(i) + "p"; };
  for (std::uint64_t i = 0; i < small_shape.entries; ++i) {
    CHECK(views.writer.has_room(64));
    CHECK(views.writer.entries() == i);
    linked[i] = views.writer.link(i, page(i), i, 0, 0, 0);
  }
  CHECK_FALSE(views.writer.has_room(1));
  std::mt19937_64 random(3);
  for (std::uint64_t i = small_shape.entries; i < 5000; ++i) {
    auto victim = linked.begin();
    std::advance(victim, random() % linked.size());
    views.writer.unlink(victim->second);
    REQUIRE(views.writer.has_room(64));
    REQUIRE(views.look(victim->first, page(victim->first)) == SnapshotOutcome::absent);
    linked.erase(victim);
    linked[i] = views.writer.link(i, page(i), i, 0, 0, 0);
    REQUIRE_FALSE(views.writer.has_room(1));
    for (const auto& [other, node] : linked) {
      REQUIRE(views.look(other, page(other)) == SnapshotOutcome::entry);
      REQUIRE(views.snapshot.base == other);
      REQUIRE(views.writer.find(other, page(other)) == node);
    }
  }
}

TEST_CASE("a view built anew is empty, stands where it is told, and is seen only when it is shown") {
  Views views;
  views.writer.link(3, "page", 100, 1, 0, 4);
  views.writer.apply(views.writer.find(3, "page"), 1, 0, 80);
  views.writer.note_answered(2, 41);
  CHECK(views.both[1].memory.answered(2).load() == 41);

  ViewWriter<> next(views.both[0].memory);
  next.clear(std::array<std::uint64_t, 2>{40, 160});
  CHECK(next.entries() == 0);
  next.link(3, "page", 100, 1, 3, 1);
  CHECK(views.look(3, "page") == SnapshotOutcome::entry);
  CHECK(views.snapshot.inflight == 0);
  CHECK(views.snapshot.applied[0] == 80);

  views.active.store(2);
  CHECK(views.look(3, "page") == SnapshotOutcome::entry);
  CHECK(views.snapshot.inflight == 3);
  CHECK(views.snapshot.applied[0] == 40);
  CHECK(views.snapshot.applied[1] == 160);

  // The first one's life is over: its entries do not come back with its memory.
  ViewWriter<> third(views.both[1].memory);
  third.clear(std::array<std::uint64_t, 2>{48, 160});
  CHECK(views.both[1].memory.answered(2).load() == 0);
  views.active.store(3);
  CHECK(views.look(3, "page") == SnapshotOutcome::absent);
  CHECK(views.snapshot.applied[0] == 48);
}

TEST_CASE("a chain that leads in a circle or out of the view is tried again, not followed for ever") {
  Views views;
  const auto a = views.writer.link(1, "a", 1, 0, 0, 0);
  const auto b = views.writer.link(17, "b", 1, 0, 0, 0);
  const ViewMemory& memory = views.both[1].memory;
  memory.node(a).next.store(b);
  CHECK(views.look(33, "c") == SnapshotOutcome::again);
  CHECK(views.look(1, "a") == SnapshotOutcome::entry);
  memory.node(a).next.store(small_shape.entries + 1);
  CHECK(views.look(33, "c") == SnapshotOutcome::again);
  memory.node(a).next.store(~std::uint64_t{0});
  CHECK(views.look(33, "c") == SnapshotOutcome::again);
}

TEST_CASE("a note that names no node of the view is tried again") {
  Views views;
  views.writer.link(1, "a", 1, 0, 0, 0);
  const ViewMemory& memory = views.both[1].memory;
  memory.version(1).store(3);
  for (const std::uint64_t node : {std::uint64_t{0}, std::uint64_t{small_shape.entries + 1}, ~std::uint64_t{0}}) {
    memory.undo().node.store(node);
    CHECK(views.look(1, "a") == SnapshotOutcome::again);
  }
}

TEST_CASE("pages of the longest id have room, each in cells of its own") {
  for (const std::uint32_t limit : {1U, 8U, 63U, 64U, 65U, 255U, 256U, 257U, 560U, 1024U}) {
    CacheShape shape{2, 0, 1, limit};
    shape.entries = 4 * shape.cells_for(limit);
    Views views(shape);
    std::array<std::string, 4> pages;
    for (std::size_t i = 0; i < 4; ++i) {
      pages[i] = std::string(limit, static_cast<char>('a' + i));
      views.writer.link(5, pages[i], i, 0, 0, 0);
    }
    for (std::size_t i = 0; i < 4; ++i) {
      CHECK(views.look(5, pages[i]) == SnapshotOutcome::entry);
      CHECK(views.snapshot.base == i);
    }
  }
}

TEST_CASE("an id of every length is found by every byte of it, and its cells can be used again") {
  constexpr CacheShape shape{2, 8, 1, 1024};
  Views views(shape);
  for (std::size_t length = 1; length <= 1024; ++length) {
    CAPTURE(length);
    std::string page(length, 'x');
    for (std::size_t i = 0; i < length; ++i) page[i] = static_cast<char>('a' + i / 8 % 26);
    const std::string other(length, 'y');
    const auto n = views.writer.link(5, page, length, 0, 0, 0);
    const auto m = views.writer.link(5, other, 0, 0, 0, 0);
    REQUIRE(views.look(5, page) == SnapshotOutcome::entry);
    REQUIRE(views.snapshot.base == length);
    REQUIRE(views.look(5, other) == SnapshotOutcome::entry);
    for (std::size_t i = 0; i < length; i += 1 + length / 64) {
      std::string wrong = page;
      wrong[i] = '!';
      REQUIRE(views.look(5, wrong) == SnapshotOutcome::absent);
    }
    REQUIRE(views.look(5, page + "x") == SnapshotOutcome::absent);
    views.writer.unlink(n);
    REQUIRE(views.look(5, page) == SnapshotOutcome::absent);
    REQUIRE(views.look(5, other) == SnapshotOutcome::entry);
    views.writer.unlink(m);
    REQUIRE(views.writer.entries() == 0);
    REQUIRE(views.writer.has_room(1024));
  }
}

TEST_CASE("a short id takes one cell, as large as where no id may be long, and a long one as many as it needs") {
  constexpr CacheShape shape{8, 65536, 8192, 1024};
  constexpr CacheShape short_ids{8, 65536, 8192, 255};
  CHECK(shape.cell_bytes() == short_ids.cell_bytes());
  CHECK(shape.bytes() == short_ids.bytes());
  CHECK(shape.cells_for(1) == 1);
  CHECK(shape.cells_for(one_cell_page_bytes) == 1);
  CHECK(shape.cells_for(one_cell_page_bytes + 1) == 2);
  CHECK(shape.cells_for(1024) == 4);
  Views views({2, 8, 1, 1024});
  views.writer.link(1, std::string(1024, 'a'), 0, 0, 0, 0);
  CHECK(views.writer.has_room(1024));
  views.writer.link(2, "b", 0, 0, 0, 0);
  CHECK(views.writer.entries() == 2);
  CHECK_FALSE(views.writer.has_room(1024));
  CHECK(views.writer.has_room(700));
  for (std::uint64_t i = 0; i < 3; ++i) {
    CHECK(views.writer.has_room(one_cell_page_bytes));
    views.writer.link(3 + i, std::string(one_cell_page_bytes, 'c'), 0, 0, 0, 0);
  }
  CHECK_FALSE(views.writer.has_room(1));
}

TEST_CASE("a long id whose cells lead out of the view is another page, not followed") {
  Views views({2, 8, 1, 1024});
  const std::string page(1024, 'a');
  const auto n = views.writer.link(1, page, 1, 0, 0, 0);
  const ViewMemory& memory = views.both[1].memory;
  Word& further = memory.page_room(n).back();
  const std::uint64_t right = further.load();
  for (const std::uint64_t wrong : {std::uint64_t{0}, std::uint64_t{9}, ~std::uint64_t{0}, std::uint64_t{n}}) {
    further.store(wrong);
    CHECK(views.look(1, page) == SnapshotOutcome::absent);
  }
  further.store(right);
  CHECK(views.look(1, page) == SnapshotOutcome::entry);
}

TEST_CASE("the parts of a cache lie apart, each on its boundary, and within its bytes") {
  for (const std::uint32_t entries : {1U, 16U, 17U, 1000U, 65536U}) {
    for (const std::uint32_t buckets : {1U, 8192U, 65536U}) {
      const CacheShape shape{8, entries, buckets, 255};
      CHECK(shape.chains() >= entries);
      CHECK((shape.chains() & (shape.chains() - 1)) == 0);
      CHECK(shape.buckets_offset() >= sizeof(CacheHeader));
      CHECK(shape.view_offset(0) >= shape.buckets_offset() + 8 * std::size_t{buckets});
      CHECK(shape.view_offset(0) % page_bytes == 0);
      CHECK(shape.view_offset(1) == shape.view_offset(0) + shape.view_bytes());
      CHECK(shape.answer_offset(0) == shape.view_offset(1) + shape.view_bytes());
      CHECK(shape.bytes() == shape.answer_offset(0) + 8 * answer_slot_bytes);
      CHECK(shape.undo_offset() % cache_line_bytes == 0);
      CHECK(shape.versions_offset() >= shape.undo_offset() + sizeof(UndoNote));
      CHECK(shape.firsts_offset() == shape.versions_offset() + 8 * std::size_t{shape.chains()});
      CHECK(shape.cells_offset() >= shape.answered_offset() + 8 * std::size_t{buckets});
      CHECK(shape.cell_bytes() % cache_line_bytes == 0);
      CHECK(shape.cell_bytes() >= sizeof(NodeHead) + 255);
      CHECK(shape.view_bytes() >= shape.cells_offset() + (std::size_t{entries} + 1) * shape.cell_bytes());
    }
  }
}
