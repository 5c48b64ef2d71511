// A flusher that is killed and restarted, two frontends that publish, two that read pages and one that reads lists,
// each on a thread of its own over one mapping, so that ThreadSanitizer can follow every access.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "common/os/errors.hpp"
#include "tests/unit/common/view_world.hpp"

using namespace visitd;
using namespace visitd::test;

namespace {

constexpr std::uint64_t lane_bytes = 16384;

struct Outcome {
  std::string fault;
  std::uint64_t reads = 0;
  std::uint64_t known = 0;
  std::uint64_t tries = 0;
  std::uint64_t most_tries = 0;
  std::uint64_t gathered = 0;  ///< lists whose pages were read together
  std::uint64_t visits = 0;
  std::uint64_t kills = 0;
  std::uint64_t evictions = 0;
};

class Threads {
 public:
  Threads(std::uint64_t seed, Broken broken) : seed_(seed), world_(seed, broken, lane_bytes) { world_.publish_apart(); }

  Outcome run(std::chrono::milliseconds time) {
    std::vector<std::thread> threads;
    threads.emplace_back([this] { guarded([this] { flush(); }); });
    for (std::uint32_t n = 0; n < 2; ++n) {
      threads.emplace_back([this, n] { guarded([this, n] { publish(n); }); });
      threads.emplace_back([this, n] { guarded([this, n] { read(n); }); });
    }
    threads.emplace_back([this] { guarded([this] { read_lists(); }); });
    const auto end = std::chrono::steady_clock::now() + time;
    while (!over_.load() && std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    over_.store(true);
    for (std::thread& thread : threads) thread.join();
    outcome_.kills = world_.kills();
    outcome_.evictions = world_.evictions();
    for (std::size_t p = 0; p < ViewWorld::pages; ++p) outcome_.visits += world_.published(p);
    return outcome_;
  }

 private:
  template <typename Body>
  void guarded(Body body) {
    try {
      body();
    } catch (const std::exception& failure) {
      wrong(failure.what());
    }
  }
  void wrong(const std::string& what) {
    const std::lock_guard lock(mutex_);
    if (outcome_.fault.empty()) outcome_.fault = what;
    over_.store(true);
  }

  void flush() {
    while (!over_.load()) world_.live(2000, world_.pick(8) == 0, 1 + world_.pick(30'000));
  }

  void publish(std::uint32_t n) {
    std::mt19937_64 random(seed_ + 1 + n);
    while (!over_.load()) {
      world_.publish_some(random, n, n == 0 ? 0 : ViewWorld::lanes - 1);
      if (random() % 64 == 0) std::this_thread::yield();
    }
  }

  void read(std::uint32_t n) {
    std::mt19937_64 random(seed_ + 11 + n);
    Outcome own;
    // One scans the lanes, the other one keeps an index of them.
    CountReader reader = world_.reader(4096, n == 0 ? Backlog::usual_short_bytes : 0);
    while (!over_.load()) {
      const std::size_t p = random() % ViewWorld::pages;
      const std::uint64_t least = std::max(world_.published(p), highest_[p].load());
      const ViewWorld::Read answer = world_.read(reader, p);
      ++own.reads;
      own.tries += answer.tries;
      own.most_tries = std::max<std::uint64_t>(own.most_tries, answer.tries);
      if (!answer.known) continue;
      ++own.known;
      check(p, answer.count, least);
    }
    const std::lock_guard lock(mutex_);
    outcome_.reads += own.reads;
    outcome_.known += own.known;
    outcome_.tries += own.tries;
    outcome_.most_tries = std::max(outcome_.most_tries, own.most_tries);
  }

  /// `least`: what the page's count was known to be before it was read.
  void check(std::size_t p, std::uint64_t count, std::uint64_t least) {
    const std::uint64_t most = world_.attempted(p);
    if (count < least || count > most) wrong(fmt::format("page {} read {}, not from {} to {}", p, count, least, most));
    std::uint64_t before = highest_[p].load();
    while (before < count && !highest_[p].compare_exchange_weak(before, count)) {
    }
  }

  /// All pages, again and again, as a frontend reads a list: one scan for all of them while the backlog is long.
  void read_lists() {
    constexpr std::size_t index_limit = 2;
    constexpr std::uint64_t short_bytes = 64;
    CountReader reader = world_.reader(index_limit, short_bytes);
    std::array<CountReader::Page, ViewWorld::pages> pages;
    for (std::size_t p = 0; p < pages.size(); ++p) pages[p] = {world_.hash(p), world_.id(p)};
    std::uint64_t gathered = 0;
    while (!over_.load()) {
      std::array<std::uint64_t, ViewWorld::pages> least{};
      for (std::size_t p = 0; p < pages.size(); ++p) least[p] = std::max(world_.published(p), highest_[p].load());
      gathered += reader.gathers() ? 1 : 0;
      reader.gather(pages);
      for (std::size_t p = 0; p < pages.size(); ++p) {
        const ViewWorld::Read answer = world_.read(reader, p);
        if (answer.known) check(p, answer.count, least[p]);
      }
      reader.forget();
    }
    const std::lock_guard lock(mutex_);
    outcome_.gathered = gathered;
  }

  std::uint64_t seed_;
  ViewWorld world_;
  std::atomic<bool> over_{false};
  std::array<std::atomic<std::uint64_t>, ViewWorld::pages> highest_{};
  std::mutex mutex_;
  Outcome outcome_;
};

std::uint64_t new_seed() {
  return std::random_device()();
}

}  // namespace

TEST_CASE(
    "reads beside a flusher and frontends are never below what was acknowledged, above what was tried, or falling") {
  const std::uint64_t seed = new_seed();
  INFO("seed ", seed);
  const Outcome outcome = Threads(seed, Broken::none).run(std::chrono::seconds(5));
  CHECK(outcome.fault == "");
  CHECK(outcome.known > 1000);
  CHECK(outcome.visits > 1000);
  CHECK(outcome.kills > 10);
  CHECK(outcome.gathered > 10);
  MESSAGE("seed ", seed, ": ", outcome.reads, " reads (", outcome.known, " of pages with an entry), ", outcome.tries,
          " tries, at most ", outcome.most_tries, "; ", outcome.gathered, " lists; ", outcome.visits, " visits, ",
          outcome.kills, " kills, ", outcome.evictions, " entries evicted");
}

TEST_CASE("a visit that is applied outside of a change is found") {
  const std::uint64_t seed = new_seed();
  INFO("seed ", seed);
  CHECK(Threads(seed, Broken::apply_open_first).run(std::chrono::seconds(20)).fault != "");
  CHECK(Threads(seed, Broken::apply_position_first).run(std::chrono::seconds(20)).fault != "");
}

TEST_CASE("who goes to sleep and who looks whether he sleeps do not miss each other") {
  // The flusher's flag and its look at tail, the producer's tail and its look at the flag.
  constexpr int most_rounds = 1'000'000;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  std::vector<Word> records(4096 / 8);
  Word tail{0};
  Word sleeping{0};
  Word head{0};
  std::atomic<int> flusher_round{0};
  std::atomic<int> producer_round{0};
  std::atomic<int> rounds{most_rounds};
  std::array<std::atomic<bool>, 2> saw{};
  int missed = 0;
  const auto together = [](std::atomic<int>& own, const std::atomic<int>& other, int round) {
    own.store(round);
    for (int spins = 1; other.load() < round; ++spins) {
      if (spins % 1000 == 0) std::this_thread::yield();  // the other may need this core
    }
  };
  std::thread flusher([&] {
    std::uint64_t position = 0;
    for (int round = 1; round <= rounds.load(); ++round) {
      if (std::chrono::steady_clock::now() > end) rounds.store(round);
      together(flusher_round, producer_round, 2 * round);
      sleeping.store(1, std::memory_order_seq_cst);
      saw[0].store(tail.load(std::memory_order_seq_cst) != position);
      together(flusher_round, producer_round, 2 * round + 1);
      if (!saw[0].load() && !saw[1].load()) ++missed;
      position = tail.load();
      head.store(position);
      sleeping.store(0);
    }
  });
  std::thread producer([&] {
    LaneProducer lane(tail, records, &head);
    for (int round = 1; round <= rounds.load(); ++round) {
      together(producer_round, flusher_round, 2 * round);
      if (lane.publish(RecordKind::visit, "page", 1, 0, 1) == Published::published) lane.confirm();
      saw[1].store(sleeping.load(std::memory_order_seq_cst) != 0);
      together(producer_round, flusher_round, 2 * round + 1);
    }
  });
  flusher.join();
  producer.join();
  CHECK(missed == 0);
}
