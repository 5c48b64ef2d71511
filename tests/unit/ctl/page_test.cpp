#include <atomic>
#include <thread>

#include "tests/unit/ctl/instance.hpp"

namespace visitd::test {

TEST_CASE("a page with an entry: its parts, and their sum") {
  Instance instance;
  instance.make_ring();
  instance.publish(0, "home");
  instance.publish(0, "home", 2);
  instance.publish(0, "about");
  instance.publish(1, "home", 5);
  instance.make_cache();
  auto view = instance.show_view({32, 0});
  view.link(instance.hash_of("home"), "home", 100, monotonic_ms() + 4000, 20, 7);
  const Json report = page_report(instance.settings, "home");
  CHECK_FALSE(has_failed(report));
  CHECK(report["view"] == "shown");
  CHECK(report["entry"] == true);
  CHECK(report["base"] == 100);
  CHECK(report["inflight"] == 20);
  CHECK(report["open"] == 7);
  CHECK(report["unapplied"] == 7);
  CHECK(report["unapplied_lanes"] == Json{{{"lane", 0}, {"visits", 2}}, {{"lane", 1}, {"visits", 5}}});
  CHECK(report["count"] == 134);
  CHECK(report["expires_in_ms"] > 0);
  CHECK(report["expires_in_ms"] <= 4000);
  const std::uint32_t bucket = page_bucket("home", 8);
  CHECK(report["bucket"] == bucket);
  CHECK(report["shard"] == (bucket % 2 == 0 ? "redis_7070" : "redis_7071"));
  CHECK(report["shard_state"] == (bucket % 2 == 0 ? "up" : "down"));
  CHECK(report["redis"]["error"] == "the flusher is away");
  const std::string text = page_text(report);
  CHECK(report["sum"] == 134);
  CHECK(text.find("home has 134 visits:\n") != std::string::npos);
  CHECK(text.find("100  in Redis, as last seen; asked again in ") != std::string::npos);
  CHECK(text.find(" 20  sent to Redis, and not acknowledged yet") != std::string::npos);
  CHECK(text.find("  7  counted by the flusher, and not sent yet") != std::string::npos);
  CHECK(text.find("  7  recorded, and not counted by the flusher yet (lane 0: 2, lane 1: 5)") != std::string::npos);
}

TEST_CASE("an entry past its time says since when") {
  Instance instance;
  instance.make_ring();
  instance.make_cache();
  auto view = instance.show_view();
  view.link(instance.hash_of("home"), "home", 1, monotonic_ms() - 90'000, 0, 0);
  const Json report = page_report(instance.settings, "home");
  CHECK(report["expires_in_ms"] <= -90'000);
  CHECK(page_text(report).find("asked again since 1 min 30 s") != std::string::npos);
}

TEST_CASE("a page that nobody asked for has no count, only what is not applied") {
  Instance instance;
  instance.make_ring();
  instance.publish(0, "home");
  instance.make_cache();
  instance.show_view();
  const Json report = page_report(instance.settings, "home");
  CHECK(report["entry"] == false);
  CHECK(report["count"].is_null());
  CHECK(report["unapplied"] == 1);
  CHECK(page_text(report).find("nobody read it lately, and the flusher is away") != std::string::npos);
}

TEST_CASE("of a page that was never read, sum and parts come from the flusher, and marks stay in the report") {
  Json report = {{"page", "home"}, {"view", "shown"}, {"entry", false}, {"sum", 18}, {"unapplied", 1}};
  report["unapplied_lanes"] = Json{{{"lane", 0}, {"visits", 1}}};
  report["bucket"] = 3;
  report["shard"] = "redis_7070";
  report["shard_state"] = "up";
  report["redis"] = {{"count", 10}, {"inflight", 2}, {"open", 5}, {"known_field", "1.2 3 4"}, {"field", "1.2 3 4"}};
  report["faults"] = Json::array();
  std::string text = page_text(report);
  CHECK(text.starts_with("home has 18 visits:\n          10  in Redis\n           2  sent"));
  CHECK(text.find("5  counted by the flusher") != std::string::npos);
  CHECK(text.find("1.2 3 4") == std::string::npos);
  report["sum"] = nullptr;
  report["redis"]["spilled"] = "open visits of its bucket wait in the spool alone";
  text = page_text(report);
  CHECK(text.starts_with("home: its count is not known: nobody read it lately, and open visits of its bucket wait"));
}

TEST_CASE("an entry in the middle of a change that never ends is read as it was before") {
  struct Killed {};
  struct KillAt {
    int* left;
    void operator()() const {
      if (--*left == 0) throw Killed();
    }
  };
  for (int store = 1; store <= 11; ++store) {
    Instance instance;
    instance.make_ring();
    instance.publish(0, "home", 3);
    instance.make_cache();
    int left = 1'000'000;
    ViewWriter<KillAt> view(instance.cache().view(1), KillAt{&left});
    view.clear({});
    instance.cache().header().active.word.store(1);
    const auto node = view.link(instance.hash_of("home"), "home", 10, monotonic_ms() + 1000, 0, 0);
    left = store;
    CHECK_THROWS_AS(view.apply(node, 3, 0, 32), Killed);
    const Json report = page_report(instance.settings, "home");
    CHECK_MESSAGE(report["count"] == 13, "killed before store " << store << ": " << report.dump());
  }
}

TEST_CASE("without a flusher ever every visit is unapplied, and without a view nothing is known") {
  Instance instance;
  instance.make_ring();
  instance.publish(0, "home");
  Json report = page_report(instance.settings, "home");
  CHECK_FALSE(has_failed(report));
  CHECK(report["view"] == "no flusher has run with this runtime directory yet");
  CHECK(report["unapplied"] == 1);
  CHECK(report["count"].is_null());
  CHECK(report["bucket"].is_null());
  instance.make_cache();
  report = page_report(instance.settings, "home");
  CHECK(report["view"] == "the flusher has not shown a view yet");
  CHECK(report["unapplied"].is_null());
  CHECK(page_text(report).find("not known: the flusher has not shown a view yet") != std::string::npos);
}

TEST_CASE("what is no page id is refused with the rule") {
  Instance instance;
  instance.make_ring();
  for (const std::string& page : {std::string(), std::string(65, 'x'), std::string("a\n"), std::string("\xff")}) {
    const Json report = page_report(instance.settings, page);
    CHECK(has_failed(report));
    CHECK_FALSE(report["error"].get<std::string>().empty());
    CHECK(Json::accept(to_json_text(report)));
  }
}

TEST_CASE("a damaged record behind the page's is a fault, and no count is given") {
  Instance instance;
  instance.make_ring();
  instance.publish(0, "home");
  instance.publish(0, "home");
  instance.ring().records(0)[4].store(UINT64_MAX);
  instance.make_cache();
  auto view = instance.show_view();
  view.link(instance.hash_of("home"), "home", 1, monotonic_ms() + 1000, 0, 0);
  const Json report = page_report(instance.settings, "home");
  CHECK(report["unapplied"] == 1);
  CHECK(report["count"].is_null());
  REQUIRE(report["faults"].size() == 1);
  CHECK(page_text(report).find("the record at 32 is damaged") != std::string::npos);
}

TEST_CASE("a page that Redis cannot count has no count, and it is said that it has none") {
  Instance instance;
  instance.make_ring();
  instance.make_cache();
  auto view = instance.show_view();
  const auto node = view.link(instance.hash_of("home"), "home", 10, monotonic_ms() + 1000, 0, 0);
  CHECK(page_report(instance.settings, "home")["count"] == 10);
  view.damage(node, monotonic_ms() + 1000);
  const Json damaged = page_report(instance.settings, "home");
  CHECK(damaged["count"].is_null());
  CHECK(damaged["faults"].size() == 1);
  view.refresh(node, count_limit, monotonic_ms() + 1000);
  CHECK(page_report(instance.settings, "home")["count"] == count_limit);
  instance.publish(0, "home");
  CHECK(page_report(instance.settings, "home")["count"].is_null());
}

TEST_CASE("while it is counted, no look at a page misses a visit or sees one twice") {
  Instance instance;
  instance.make_ring({2, 4096, 64});
  instance.make_cache();
  auto view = instance.show_view();
  const std::uint64_t hash = instance.hash_of("home");
  const auto node = view.link(hash, "home", 0, monotonic_ms() + 100'000, 0, 0);
  std::atomic<std::uint64_t> attempted{0};
  std::atomic<std::uint64_t> acknowledged{0};
  std::atomic<bool> stop{false};
  const Ring& ring = instance.ring();
  CacheHeader& header = instance.cache().header();
  std::thread frontend([&] {
    LaneProducer producer(ring.lane(0).tail.word, ring.records(0), &header.head[0].word);
    while (!stop) {
      attempted.fetch_add(1);
      if (producer.publish(RecordKind::visit, "home", 1, 0, hash) == Published::published) {
        acknowledged.fetch_add(1);
      } else {
        attempted.fetch_sub(1);
        std::this_thread::yield();
      }
    }
  });
  std::thread flusher([&] {
    const LaneRecords records{std::span<const Word>(ring.records(0))};
    std::uint64_t position = 0;
    while (!stop) {
      const std::uint64_t tail = ring.lane(0).tail.word.load(std::memory_order_acquire);
      Record record;
      for (; position < tail; position += record.size) {
        if (records.read(position, tail, record) == RecordCheck::damaged) return;
        if (record.kind == RecordKind::visit) view.apply(node, 1, 0, position + record.size);
      }
      header.head[0].word.store(view.applied(0), std::memory_order_release);
      std::this_thread::yield();
    }
  });
  const std::uint64_t until = monotonic_ms() + 700;
  std::uint64_t looks = 0;
  std::uint64_t last = 0;
  while (monotonic_ms() < until) {
    const std::uint64_t before = acknowledged.load();
    const Json report = page_report(instance.settings, "home");
    const std::uint64_t after = attempted.load();
    if (has_failed(report)) continue;  // overtaken all the time
    REQUIRE(report["count"].is_number());
    const auto count = report["count"].get<std::uint64_t>();
    CHECK(count >= before);
    CHECK(count <= after);
    CHECK(count >= last);
    last = count;
    ++looks;
  }
  stop = true;
  frontend.join();
  flusher.join();
  CHECK(looks > 0);
  CHECK(acknowledged.load() > 0);
}

}  // namespace visitd::test
