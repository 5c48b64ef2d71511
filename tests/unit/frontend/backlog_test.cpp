#include "common/counter/backlog.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

using namespace visitd;

namespace {

/// Lanes in plain memory, and a list of what was recorded in them.
struct Lanes {
  struct Recorded {
    std::uint64_t position;  ///< behind it
    std::size_t page;
    std::uint32_t visits;
  };
  struct Lane {
    explicit Lane(std::uint64_t bytes) : words(bytes / 8) {}
    Word tail{0};
    std::vector<Word> words;
    std::deque<Recorded> recorded;
    std::unique_ptr<LaneProducer> producer;
  };

  explicit Lanes(std::size_t count, std::uint64_t bytes = 4096) : heads(count), applied(count) {
    for (std::size_t n = 0; n < count; ++n) {
      Lane& lane = lanes.emplace_back(bytes);
      lane.producer = std::make_unique<LaneProducer>(lane.tail, lane.words, &heads[n].word);
    }
  }

  [[nodiscard]] Backlog backlog(std::uint64_t short_bytes, std::size_t index_limit = 100'000) {
    std::vector<Backlog::Lane> seen;
    for (Lane& lane : lanes) seen.push_back({&lane.tail, LaneRecords(std::span<const Word>(lane.words))});
    return {std::move(seen), index_limit, short_bytes};
  }
  static std::string name(std::size_t page) { return "p" + std::to_string(page) + std::string(page % 5 * 3, 'x'); }
  /// Pages 0 and 1 share a hash, and 2 and 3, and so on.
  static std::uint64_t shared_hash(std::size_t page) { return (page / 2 + 1) * 0x9E3779B97F4A7C15U; }
  static std::uint64_t own_hash(std::size_t page) { return (page + 1) * 0x9E3779B97F4A7C15U; }

  bool publish(std::size_t lane, std::size_t page, std::uint32_t visits, std::uint64_t hash) {
    Lane& to = lanes[lane];
    if (to.producer->publish(RecordKind::visit, name(page), visits, 0, hash) == Published::full) return false;
    to.recorded.push_back({to.producer->tail(), page, visits});
    return true;
  }
  /// What is recorded of the page and not applied.
  [[nodiscard]] std::uint64_t visits_of(std::size_t page) const {
    std::uint64_t visits = 0;
    for (std::size_t n = 0; n < lanes.size(); ++n) {
      for (const Recorded& record : lanes[n].recorded)
        visits += record.page == page && record.position > applied[n] ? record.visits : 0;
    }
    return visits;
  }

  std::deque<Lane> lanes;
  std::vector<LonelyWord> heads;
  std::vector<std::uint64_t> applied;
};

}  // namespace

TEST_CASE("a page's visits are summed over all lanes, from applied to tail") {
  for (const std::uint64_t short_bytes : {Backlog::usual_short_bytes, std::uint64_t{0}}) {
    Lanes l(3);
    Backlog backlog = l.backlog(short_bytes);
    const std::uint64_t hash = Lanes::own_hash(7);
    const auto read = [&] { return backlog.visits_since(l.applied, l.heads.data(), hash, Lanes::name(7)); };
    CHECK(read() == 0);
    l.publish(0, 7, 2, hash);
    l.publish(0, 8, 5, Lanes::own_hash(8));
    l.publish(2, 7, 3, hash);
    CHECK(read() == 5);
    l.applied[0] = l.lanes[0].tail.load();
    CHECK(read() == 3);
    l.publish(0, 7, 4, hash);
    CHECK(read() == 7);
    CHECK(backlog.visits_since(l.applied, nullptr, hash, Lanes::name(7)) == 7);
    CHECK(backlog.visits_since(l.applied, l.heads.data(), hash, "another page") == 0);
    CHECK(backlog.visits_since(l.applied, l.heads.data(), Lanes::own_hash(9), Lanes::name(9)) == 0);
  }
}

TEST_CASE("bytes that were freed while they were read are no answer") {
  for (const std::uint64_t short_bytes : {Backlog::usual_short_bytes, std::uint64_t{0}}) {
    Lanes l(2);
    Backlog backlog = l.backlog(short_bytes);
    const std::uint64_t hash = Lanes::own_hash(1);
    l.publish(0, 1, 2, hash);
    l.publish(0, 1, 3, hash);
    l.heads[0].word.store(l.lanes[0].recorded.front().position);
    CHECK_FALSE(backlog.visits_since(l.applied, l.heads.data(), hash, Lanes::name(1)));
    l.applied[0] = l.heads[0].word.load();
    CHECK(backlog.visits_since(l.applied, l.heads.data(), hash, Lanes::name(1)) == 3);
  }
}

TEST_CASE("scan and index agree with what was recorded, however applied and head move") {
  const std::uint64_t seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  for (const bool hashes_are_shared : {false, true}) {
    constexpr std::size_t pages = 12;
    Lanes l(3);
    Backlog scanning = l.backlog(~std::uint64_t{0} / 4);
    Backlog indexing = l.backlog(0);
    Backlog changing = l.backlog(1500);  // now one, now the other
    const auto hash_of = [&](std::size_t page) {
      return hashes_are_shared ? Lanes::shared_hash(page) : Lanes::own_hash(page);
    };
    std::uint64_t refused = 0;
    for (int step = 0; step < 20000; ++step) {
      const std::size_t n = random() % l.lanes.size();
      Lanes::Lane& lane = l.lanes[n];
      const std::uint64_t head = l.heads[n].word.load();
      // Of the positions between head and tail at which a record ends, any may be where the lane is applied: a flusher
      // that starts anew goes back to what is durable.
      std::vector<std::uint64_t> ends{head};
      for (const Lanes::Recorded& record : lane.recorded) {
        if (record.position > head) ends.push_back(record.position);
      }
      switch (random() % 8) {
        case 0:
          l.applied[n] = ends[random() % ends.size()];
          break;
        case 1:
          l.applied[n] = std::max(l.applied[n], ends[random() % ends.size()]);
          break;
        case 2:
          if (random() % 8 == 0) l.heads[n].word.store(std::max(head, l.applied[n]));
          break;
        default: {
          const std::size_t page = random() % pages;
          refused += l.publish(n, page, static_cast<std::uint32_t>(1 + random() % 3), hash_of(page)) ? 0 : 1;
          break;
        }
      }
      while (!lane.recorded.empty() && lane.recorded.front().position <= l.heads[n].word.load())
        lane.recorded.pop_front();
      if (random() % 3 != 0) continue;
      const std::size_t page = random() % pages;
      const std::uint64_t visits = l.visits_of(page);
      REQUIRE(scanning.visits_since(l.applied, l.heads.data(), hash_of(page), Lanes::name(page)) == visits);
      REQUIRE(indexing.visits_since(l.applied, l.heads.data(), hash_of(page), Lanes::name(page)) == visits);
      REQUIRE(changing.visits_since(l.applied, l.heads.data(), hash_of(page), Lanes::name(page)) == visits);
    }
    CHECK(refused > 0);  // lanes were full, and went round
    CHECK(l.lanes[0].tail.load() > 10 * 4096);
    CHECK(scanning.direct_scans() == 0);
    CHECK(indexing.indexed_pages() > 0);
  }
}

TEST_CASE("pages that are read together are read with one scan, each from where its own snapshot says") {
  const std::uint64_t seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  constexpr std::size_t pages = 300;
  Lanes l(3, 1U << 16U);
  Backlog backlog = l.backlog(0, 10);
  for (int record = 0; record < 2000; ++record) {
    const std::size_t page = random() % pages;
    static_cast<void>(
        l.publish(random() % 3, page, static_cast<std::uint32_t>(1 + random() % 3), Lanes::own_hash(page)));
  }
  // Each with a snapshot of its own, taken while the flusher went on.
  std::vector<std::vector<std::uint64_t>> applied;
  std::vector<std::uint64_t> expected;
  for (std::size_t page = 0; page < pages; ++page) {
    if (page % 7 == 0) l.applied[page % 3] = l.lanes[page % 3].recorded[page].position;
    applied.push_back(l.applied);
    expected.push_back(l.visits_of(page));
  }
  CHECK(backlog.visits_since(l.applied, l.heads.data(), Lanes::own_hash(0), Lanes::name(0)));
  REQUIRE(backlog.is_scanned());
  std::vector<std::string> names;
  for (std::size_t page = 0; page < pages; ++page) names.push_back(Lanes::name(page));
  std::vector<Backlog::Wanted> wanted;
  for (std::size_t page = 0; page < pages; ++page)
    wanted.push_back({Lanes::own_hash(page), names[page], applied[page]});
  const std::uint64_t scans = backlog.direct_scans();
  backlog.visits_since(wanted, l.heads.data());
  CHECK(backlog.direct_scans() == scans + 1);
  for (std::size_t page = 0; page < pages; ++page) {
    CAPTURE(page);
    CHECK(wanted[page].valid);
    CHECK(wanted[page].visits == expected[page]);
  }

  // Freed meanwhile: over bytes that are another's now the scan may have lost where the records begin, so that what it
  // found behind them is no answer either.
  l.heads[0].word.store(l.lanes[0].recorded[3].position);
  backlog.visits_since(wanted, l.heads.data());
  for (const Backlog::Wanted& page : wanted) CHECK_FALSE(page.valid);
}

TEST_CASE("of pages that are read together, those of one hash and those behind a damaged record are told apart") {
  Lanes l(1);
  Backlog backlog = l.backlog(0, 0);
  for (std::size_t page = 0; page < 4; ++page) REQUIRE(l.publish(0, page, 2, Lanes::shared_hash(page)));
  std::vector<std::string> names;
  for (std::size_t page = 0; page < 4; ++page) names.push_back(Lanes::name(page));
  const std::vector<std::uint64_t> later{l.lanes[0].recorded[2].position};
  std::vector<Backlog::Wanted> wanted{{Lanes::shared_hash(0), names[0], l.applied},
                                      {Lanes::shared_hash(1), names[1], l.applied},
                                      {Lanes::shared_hash(3), names[3], later}};
  backlog.visits_since(wanted, l.heads.data());
  CHECK(wanted[0].valid);
  CHECK(wanted[0].visits == 2);
  CHECK_FALSE(wanted[1].valid);
  CHECK(wanted[2].valid);
  CHECK(wanted[2].visits == 2);
  l.lanes[0].words[l.lanes[0].recorded[0].position / 8].store(0);  // the record of page 1
  backlog.visits_since(wanted, l.heads.data());
  CHECK(wanted[0].valid);
  CHECK(wanted[0].visits == 2);
  CHECK_FALSE(wanted[2].valid);
}

TEST_CASE("an index over bytes that were written over since is made anew") {
  Lanes l(1);
  Backlog backlog = l.backlog(0);
  const auto read = [&](std::size_t page) {
    return backlog.visits_since(l.applied, l.heads.data(), Lanes::own_hash(page), Lanes::name(page));
  };
  std::uint64_t published = 0;
  while (l.publish(0, 1, 1, Lanes::own_hash(1))) ++published;
  CHECK(read(1) == published);
  // Nobody looks while half of it is applied and freed, and other records take its place.
  l.applied[0] = l.lanes[0].recorded[published / 2 - 1].position;
  l.heads[0].word.store(l.applied[0]);
  std::uint64_t others = 0;
  while (l.publish(0, 2, 1, Lanes::own_hash(2))) ++others;
  CHECK(others > 50);
  CHECK(read(1) == published - published / 2);
  CHECK(read(2) == others);
  CHECK(backlog.direct_scans() == 0);
}

TEST_CASE("two pages of one hash are told apart by a scan") {
  Lanes l(1);
  Backlog backlog = l.backlog(0);
  const std::uint64_t hash = 77;
  l.publish(0, 1, 2, hash);
  CHECK(backlog.visits_since(l.applied, l.heads.data(), hash, Lanes::name(1)) == 2);
  CHECK(backlog.direct_scans() == 0);
  CHECK(backlog.visits_since(l.applied, l.heads.data(), hash, Lanes::name(2)) == 0);
  l.publish(0, 2, 5, hash);
  CHECK(backlog.visits_since(l.applied, l.heads.data(), hash, Lanes::name(1)) == 2);
  CHECK(backlog.visits_since(l.applied, l.heads.data(), hash, Lanes::name(2)) == 5);
  CHECK(backlog.direct_scans() >= 2);
}

TEST_CASE("a backlog of more pages than the index may hold is scanned, and indexed again when it has become short") {
  Lanes l(1, 1U << 20U);
  Backlog backlog = l.backlog(1024, 1000);
  constexpr std::size_t pages = 5000;
  for (std::size_t page = 0; page < pages; ++page) REQUIRE(l.publish(0, page, 2, Lanes::own_hash(page)));
  const auto read = [&](std::size_t page) {
    return backlog.visits_since(l.applied, l.heads.data(), Lanes::own_hash(page), Lanes::name(page));
  };
  CHECK(read(17) == 2);
  CHECK(read(4999) == 2);
  CHECK(read(pages) == 0);
  CHECK(backlog.direct_scans() == 3);
  CHECK(backlog.indexed_pages() == 0);

  l.applied[0] = l.lanes[0].tail.load();
  CHECK(read(17) == 0);
  for (std::size_t page = 0; page < 100; ++page) REQUIRE(l.publish(0, page, 3, Lanes::own_hash(page)));
  CHECK(read(17) == 3);
  CHECK(backlog.direct_scans() == 3);
  CHECK(backlog.indexed_pages() == 100);
}

TEST_CASE("the index grows with the backlog and makes room of what nobody counts any more") {
  Lanes l(1, 1U << 20U);
  Backlog backlog = l.backlog(0, 3000);
  const auto read = [&](std::size_t page) {
    return backlog.visits_since(l.applied, l.heads.data(), Lanes::own_hash(page), Lanes::name(page));
  };
  // 10,000 pages in all, never more than 2,500 of them at once.
  for (std::size_t page = 0; page < 10000; ++page) {
    REQUIRE(l.publish(0, page, 1, Lanes::own_hash(page)));
    if (page >= 2500) l.applied[0] = l.lanes[0].recorded[page - 2500].position;
    l.heads[0].word.store(l.applied[0]);
    if (page % 100 == 99) {
      REQUIRE(read(page) == 1);
      REQUIRE(read(page >= 2500 ? page - 2400 : 0) == 1);
      if (page > 2500) REQUIRE(read(page - 2500) == 0);
    }
  }
  CHECK(backlog.direct_scans() == 0);
}

TEST_CASE("the index goes when the backlog is short, and its memory with it") {
  Lanes l(1, 1U << 20U);
  Backlog backlog = l.backlog(4096);
  for (std::size_t page = 0; page < 200; ++page) REQUIRE(l.publish(0, page, 1, Lanes::own_hash(page)));
  const auto read = [&](std::size_t page) {
    return backlog.visits_since(l.applied, l.heads.data(), Lanes::own_hash(page), Lanes::name(page));
  };
  CHECK(read(5) == 1);
  CHECK(backlog.indexed_pages() == 200);
  l.applied[0] = l.lanes[0].recorded[199 - 60].position;  // below the length at which it was made, yet not far below
  CHECK(read(190) == 1);
  CHECK(backlog.indexed_pages() > 0);
  l.applied[0] = l.lanes[0].recorded[199 - 10].position;
  CHECK(read(190) == 1);
  CHECK(backlog.indexed_pages() == 0);
  CHECK(backlog.direct_scans() == 0);
}

TEST_CASE("what is behind a damaged record is counted by nobody, and reading it ends") {
  for (const std::uint64_t short_bytes : {Backlog::usual_short_bytes, std::uint64_t{0}}) {
    Lanes l(1);
    Backlog backlog = l.backlog(short_bytes);
    for (int i = 0; i < 3; ++i) l.publish(0, 0, 2, Lanes::own_hash(0));
    l.lanes[0].words[l.lanes[0].recorded[0].position / 8].store(0);
    CHECK(backlog.visits_since(l.applied, l.heads.data(), Lanes::own_hash(0), Lanes::name(0)) == 2);
  }
}
