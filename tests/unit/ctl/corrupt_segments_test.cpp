#include <random>

#include "tests/unit/ctl/instance.hpp"

namespace visitd::test {
namespace {

/// Every report and its text. They may say anything but must come to an end.
void look_at_all(const Settings& settings) {
  const auto look = [](const Json& report, std::string (*text)(const Json&)) {
    CHECK(Json::accept(to_json_text(report)));
    static_cast<void>(text(report));
  };
  look(status_report(settings), status_text);
  look(lanes_report(settings), lanes_text);
  look(peek_report(settings, 100, {}), peek_text);
  look(page_report(settings, "home"), page_text);
  look(page_report(settings, std::string(64, 'x')), page_text);
}

/// Words that a corrupt segment might hold: anything, or nearly right.
class Noise {
 public:
  explicit Noise(std::uint64_t seed) : random_(seed) {}

  std::uint64_t word() {
    switch (random_() % 6) {
      case 0:
        return random_();
      case 1:
        return 0;
      case 2:
        return random_() % 20;
      case 3:
        return random_() % 1024 * 8;
      case 4:
        return UINT64_MAX - random_() % 64;
      default:
        return 32 | std::uint64_t{1} << 32U | (random_() % 20) << 48U;  // like a record
    }
  }
  void fill(std::byte* start, std::size_t from, std::size_t to) {
    for (std::size_t at = from; at + 8 <= to; at += 8) reinterpret_cast<Word*>(start + at)->store(word());
  }
  std::uint64_t operator()() { return random_(); }

 private:
  std::mt19937_64 random_;
};

}  // namespace

TEST_CASE("segments with random bytes behind a valid header are reported, never a crash") {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    CAPTURE(seed);
    Noise noise(seed);
    Instance instance;
    Ring& ring = instance.make_ring({2, 4096, 64});
    Cache& cache = instance.make_cache();
    instance.show_view();
    noise.fill(ring.segment().data(), sizeof(RingHeader), ring.segment().size());
    if (seed % 3 != 0) {
      // Behind the shape, so that the cache is still attached and belongs to the ring.
      noise.fill(cache.segment().data(), offsetof(CacheHeader, flusher), cache.segment().size());
      cache.header().retired.word.store(0);
      if (seed % 2 == 0) cache.header().active.word.store(1 + noise() % 2);
    }
    if (seed % 4 == 0) {
      // Positions that hold, so that the walks go through the random records.
      for (std::uint32_t lane = 0; lane < 2; ++lane) {
        const std::uint64_t base = noise() % 1000 * 8;
        cache.header().head[lane].word.store(base);
        for (const ViewMemory& view : cache.views()) view.applied(lane).store(base);
        ring.lane(lane).tail.word.store(base + 8 * (noise() % 513));
      }
    }
    look_at_all(instance.settings);
  }
}

TEST_CASE("a chain that goes in a circle is an error that comes to an end") {
  Instance instance;
  Ring& ring = instance.make_ring();
  Cache& cache = instance.make_cache();
  auto view = instance.show_view();
  const auto node = view.link(instance.hash_of("other"), "other", 1, 1, 0, 0);
  cache.view(1).node(node).next.store(node);
  for (std::uint64_t chain = 0; chain < cache.shape().chains(); ++chain) cache.view(1).first(chain).store(node);
  const std::uint64_t start = monotonic_ms();
  const Json report = page_report(instance.settings, "home");
  CHECK(report["error"].get<std::string>().find("corrupt") != std::string::npos);
  CHECK(monotonic_ms() - start < 60'000);
  CHECK(ring.lane(0).tail.word.load() == 0);
}

TEST_CASE("headers with any one word wrong are attached rightly or refused, never a crash") {
  Noise noise(7);
  for (std::size_t word = 0; word < sizeof(RingHeader) / 8; ++word) {
    for (int i = 0; i < 4; ++i) {
      CAPTURE(word);
      Instance instance;
      Ring& ring = instance.make_ring({2, 4096, 64});
      instance.make_cache();
      instance.show_view();
      reinterpret_cast<Word*>(ring.segment().data())[word].store(noise.word());
      look_at_all(instance.settings);
    }
  }
  for (std::size_t word = 0; word < offsetof(CacheHeader, heartbeat_ns) / 8; ++word) {
    for (int i = 0; i < 3; ++i) {
      CAPTURE(word);
      Instance instance;
      instance.make_ring({2, 4096, 64});
      Cache& cache = instance.make_cache();
      instance.show_view();
      reinterpret_cast<Word*>(cache.segment().data())[word].store(noise.word());
      look_at_all(instance.settings);
    }
  }
}

TEST_CASE("notes that are no notes are an error, never a crash") {
  Instance instance;
  instance.make_ring();
  instance.make_cache();
  for (const char* text : {"", "x", "1", "1 -1\n", "ffffffffffffffff 2147483647\n", "0 0\n1 1\n2 2\n",
                           "123456789012345678901234567890 1\n", "1 99999999999999\n"}) {
    for (const char* name : {"/rings", "/cache"}) {
      CAPTURE(text);
      const std::string path = instance.directory.path() + name;
      std::FILE* const file = std::fopen(path.c_str(), "w");
      REQUIRE(file != nullptr);
      std::fputs(text, file);
      std::fclose(file);
      look_at_all(instance.settings);
      CHECK(Json::accept(to_json_text(ipcs_report(instance.settings))));
    }
  }
}

}  // namespace visitd::test
