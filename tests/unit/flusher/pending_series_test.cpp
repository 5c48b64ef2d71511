#include "flusher/counting/pending_series.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

using namespace visitd;

namespace {

/// Of a part of the index; all these hashes are of one part.
constexpr std::uint64_t first_slots = 16;

}  // namespace

TEST_CASE("a page is found by hash and name together") {
  PendingSeries pending;
  const std::uint32_t home = pending.insert(17, "home", 3);
  CHECK(pending.find(17, "home") == home);
  CHECK(pending.find(17, "about") == PendingSeries::none);
  CHECK(pending.find(18, "home") == PendingSeries::none);
  CHECK(pending[home].name() == "home");
  CHECK(pending[home].hash == 17);
  CHECK(pending[home].bucket == 3);
  CHECK(pending[home].idle());
  CHECK(pending.size() == 1);
}

TEST_CASE("pages of one hash are told apart, whichever of them goes first") {
  const std::vector<std::string> names = {"a", "b", "c", "d"};
  for (std::size_t gone = 0; gone < names.size(); ++gone) {
    PendingSeries pending;
    std::vector<std::uint32_t> numbers;
    for (const std::string& name : names) numbers.push_back(pending.insert(99, name, 0));
    pending.erase(numbers[gone]);
    for (std::size_t i = 0; i < names.size(); ++i) {
      CHECK(pending.find(99, names[i]) == (i == gone ? PendingSeries::none : numbers[i]));
    }
  }
}

TEST_CASE("places at the end of the table go on at its beginning") {
  PendingSeries pending;
  // All of them want the last slot or the one before it.
  std::vector<std::pair<std::uint64_t, std::uint32_t>> there;
  for (std::uint64_t i = 0; i < 10; ++i) {
    const std::uint64_t hash = (i << 32U) | (first_slots - 1 - i % 2);
    there.emplace_back(hash, pending.insert(hash, "p" + std::to_string(i), 0));
  }
  const std::uint32_t at_its_own = pending.insert(3, "three", 0);  // pushed on by the others
  for (std::size_t i = 0; i < there.size(); i += 3) {
    pending.erase(there[i].second);
    there[i].second = PendingSeries::none;
  }
  for (std::size_t i = 0; i < there.size(); ++i)
    CHECK(pending.find(there[i].first, "p" + std::to_string(i)) == there[i].second);
  CHECK(pending.find(3, "three") == at_its_own);
}

TEST_CASE("what stands behind a hole moves up only where its own place allows it") {
  PendingSeries pending;
  const std::uint32_t first = pending.insert(10, "ten", 0);
  const std::uint32_t own = pending.insert(11, "eleven", 0);                    // where it belongs: must stay
  const std::uint32_t pushed = pending.insert((1ULL << 40U) | 10, "tenth", 0);  // behind both
  pending.erase(first);
  CHECK(pending.find(11, "eleven") == own);
  CHECK(pending.find((1ULL << 40U) | 10, "tenth") == pushed);
  pending.erase(own);
  CHECK(pending.find((1ULL << 40U) | 10, "tenth") == pushed);
}

TEST_CASE("growth keeps every page's number and what it holds") {
  PendingSeries pending;
  std::vector<std::uint32_t> numbers;
  for (std::uint64_t i = 0; i < 5000; ++i) {
    numbers.push_back(pending.insert(i * 0x9E3779B97F4A7C15U, std::to_string(i), 1));
    pending[numbers.back()].open = i + 1;
  }
  CHECK(pending.size() == 5000);
  for (std::uint64_t i = 0; i < 5000; ++i) {
    REQUIRE(pending.find(i * 0x9E3779B97F4A7C15U, std::to_string(i)) == numbers[i]);
    REQUIRE(pending[numbers[i]].open == i + 1);
  }
}

TEST_CASE("a page is forgotten only when nothing is known of it") {
  PendingSeries pending;
  const std::uint32_t number = pending.insert(5, "five", 0);
  const auto stays = [&](auto set, auto unset) {
    set(pending[number]);
    pending.erase_if_idle(number);
    const bool there = pending.find(5, "five") == number;
    unset(pending[number]);
    return there;
  };
  CHECK(stays([](SeriesVisits& p) { p.open = 1; }, [](SeriesVisits& p) { p.open = 0; }));
  CHECK(stays([](SeriesVisits& p) { p.inflight = 1; }, [](SeriesVisits& p) { p.inflight = 0; }));
  CHECK(stays([](SeriesVisits& p) { p.unspooled = 1; }, [](SeriesVisits& p) { p.unspooled = 0; }));
  CHECK(stays([](SeriesVisits& p) { p.node = 1; }, [](SeriesVisits& p) { p.node = 0; }));
  CHECK(stays([](SeriesVisits& p) { p.in_bucket = true; }, [](SeriesVisits& p) { p.in_bucket = false; }));
  CHECK(stays([](SeriesVisits& p) { p.looked_up = true; }, [](SeriesVisits& p) { p.looked_up = false; }));
  pending.erase_if_idle(number);
  CHECK(pending.find(5, "five") == PendingSeries::none);
  CHECK(pending.size() == 0);
}

TEST_CASE("a number is used again with nothing left of its former page") {
  PendingSeries pending;
  const std::uint32_t former = pending.insert(1, "former", 7);
  pending[former].open = 3;
  pending[former].in_bucket = true;
  pending.erase(former);
  const std::uint32_t next = pending.insert(2, "next", 0);
  CHECK(next == former);
  CHECK(pending[next].idle());
  CHECK(pending[next].bucket == 0);
  CHECK(pending[next].name() == "next");
  CHECK(pending.size() == 1);
}

TEST_CASE("pages come and go at random as in a map") {
  const std::uint64_t seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  PendingSeries pending;
  std::map<std::pair<std::uint64_t, std::string>, std::uint32_t> model;
  // Few hashes, close together and at the table's end, so that runs are long and wrap around.
  const auto any_key = [&] {
    const std::uint64_t end = std::uint64_t{16} << random() % 8;  // of any size of the index
    const std::uint64_t low = random() % 2 == 0 ? end - 8 + random() % 16 : random() % 600;
    const std::uint64_t hash = ((random() % 3) << 32U) | low;
    return std::pair(hash, std::string(1 + random() % 40 / 10 * 10, 'p'));
  };
  for (int step = 0; step < 60000; ++step) {
    const auto key = any_key();
    const auto known = model.find(key);
    REQUIRE(pending.find(key.first, key.second) == (known == model.end() ? PendingSeries::none : known->second));
    // Grows for a while, then shrinks, and again.
    const bool filling = step / 10000 % 2 == 0;
    if (known == model.end()) {
      if (filling || random() % 4 == 0) {
        const std::uint32_t number = pending.insert(key.first, key.second, 0);
        if (step % 500 == 0) {
          for (const auto& [other, taken] : model) REQUIRE(taken != number);
        }
        model[key] = number;
      }
    } else if (!filling || random() % 4 == 0) {
      pending.erase(known->second);
      model.erase(known);
    }
    REQUIRE(pending.size() == model.size());
  }
  for (const auto& [key, number] : model) {
    REQUIRE(pending.find(key.first, key.second) == number);
    REQUIRE(pending[number].name() == key.second);
  }
}

// ---- memory

TEST_CASE("a page with an id of 32 bytes takes at most 112 bytes, at every size from 100,000 pages on") {
  PendingSeries pending;
  constexpr std::uint64_t most = 1'000'000;
  std::vector<std::uint32_t> numbers;
  numbers.reserve(most);
  std::string name(32, 'x');
  std::size_t largest = 0;
  for (std::uint64_t i = 0; i < most; ++i) {
    const std::string digits = std::to_string(i);
    name.replace(name.size() - digits.size(), digits.size(), digits);
    numbers.push_back(pending.insert(i * 0x9E37'79B9'7F4A'7C15U, name, 1));
    if (pending.size() < 100'000) continue;
    // Besides the table: the page's place in its bucket's list and in the list of what is not durable.
    largest = std::max(largest, pending.table_bytes() * 1000 / pending.size() + 8000);
  }
  MESSAGE("thousandths of a byte a page, at most: " << largest);
  CHECK(largest <= PendingSeries::bytes_of(32) * 1000);
  CHECK(PendingSeries::bytes_of(32) <= 160);

  // What came first goes first: the memory of half of them comes back, and of all of them all of it.
  const std::size_t full = pending.table_bytes();
  for (std::uint64_t i = 0; i < most / 2; ++i) pending.erase(numbers[i]);
  CHECK(pending.table_bytes() < full * 6 / 10);
  CHECK(pending.size() == most / 2);
  std::mt19937_64 random(1);
  std::shuffle(numbers.begin() + most / 2, numbers.end(), random);
  for (std::uint64_t i = most / 2; i < most; ++i) pending.erase(numbers[i]);
  CHECK(pending.size() == 0);
  CHECK(pending.table_bytes() < 512U << 10U);
}

TEST_CASE("pages of all lengths keep their ids, and blocks that are empty serve other lengths") {
  PendingSeries pending;
  std::size_t largest = 0;
  for (const std::size_t length : {1U, 7U, 8U, 9U, 64U, 255U, 256U, 1000U, 4095U}) {
    // Some 4 MiB of each.
    const std::uint64_t count = (4U << 20U) / PendingSeries::bytes_of(length);
    std::vector<std::pair<std::uint32_t, std::string>> there;
    for (std::uint64_t i = 0; i < count; ++i) {
      std::string name = std::to_string(i);
      name.resize(length, '.');
      there.emplace_back(pending.insert(i * 0x9E37'79B9'7F4A'7C15U, name, 2), name);
    }
    bool same = true;
    for (std::uint64_t i = 0; i < count; ++i) {
      const auto& [number, name] = there[i];
      same = same && pending[number].name() == name && pending[number].bucket == 2;
      // Names of one digit are one name with many hashes.
      same = same && pending.find(i * 0x9E37'79B9'7F4A'7C15U, name) == number;
    }
    CHECK(same);
    CHECK(pending.size() == count);
    largest = std::max(largest, pending.table_bytes());
    for (const auto& [number, name] : there) pending.erase(number);
  }
  CHECK(largest < 6U << 20U);  // each length had the memory of the others
  CHECK(pending.table_bytes() < 1U << 20U);
}

TEST_CASE("what is pending is counted by pages and bytes of those that have visits, once each") {
  PendingSeries pending;
  pending.insert(1, "read", 0);  // nobody visited it
  const std::uint32_t visited = pending.insert(2, "visited by many", 0);
  CHECK(pending.with_visits() == 0);
  CHECK(pending.pending_bytes() == 0);
  pending.apply(visited, 1);
  pending.apply(visited, 2);
  CHECK(pending.visits() == 3);
  CHECK(pending.with_visits() == 1);
  CHECK(pending.pending_bytes() == PendingSeries::bytes_of(15));
  CHECK(pending[visited].unspooled == 3);
  pending.take_unspooled([](const SeriesVisits&) {});
  pending.seal(visited, 3);
  CHECK(pending[visited].inflight == 3);
  CHECK(pending.with_visits() == 1);
  pending.settle(visited, 3);
  CHECK(pending.visits() == 0);
  CHECK(pending.with_visits() == 0);
  CHECK(pending.pending_bytes() == 0);
  CHECK(pending.find(2, "visited by many") == PendingSeries::none);
}

TEST_CASE("visits that only the spool holds are pending, wherever they were before") {
  PendingSeries pending;
  pending.recover_spilled(5);
  const std::uint32_t page = pending.insert(1, "page", 0);
  pending.recover_open(page, 2);
  pending.recover_inflight(page, 4);
  CHECK(pending.visits() == 11);
  CHECK_FALSE(pending.has_unspooled());
  pending.spill(page, 2);
  pending.settle(page, 4);
  CHECK(pending.visits() == 7);
  CHECK(pending.with_visits() == 0);
  const std::uint32_t again = pending.insert(1, "page", 0);
  pending.recall(again, 7);
  CHECK(pending.visits() == 7);
  CHECK(pending.with_visits() == 1);
}
