#include "common/shm/page_id.hpp"
#include "tests/unit/ctl/instance.hpp"

namespace visitd::test {

TEST_CASE("without a flusher the shards are listed as it last showed them") {
  Instance instance;
  instance.make_ring();
  instance.make_cache();
  CacheHeader& header = instance.cache().header();
  header.shard[0].buckets.store(6);
  header.shard[1].buckets.store(2);
  header.shard[1].unanswered.store(7);
  const Json report = shards_report(instance.settings);
  CHECK_FALSE(has_failed(report));
  REQUIRE(report["shards"].size() == 2);
  const Json& first = report["shards"][0];
  CHECK(first["name"] == "redis_7070");
  CHECK(first["state"] == "up");
  CHECK(first["buckets"] == 6);
  CHECK(first["share"] == 0.75);
  for (const char* name : {"address", "role", "version", "memory_bytes", "memory_limit_bytes", "oldest_wait_ms",
                           "latency_us", "replicas", "replicas_wanted", "replicas_behind_ms"}) {
    CHECK(first[name].is_null());
  }
  CHECK(report["shards"][1]["unanswered_batches"] == 7);
  CHECK(report["flusher_error"].get<std::string>().starts_with("the flusher is away"));
  const std::string text = shards_text(report);
  CHECK(text.find("75.0 %") != std::string::npos);
  CHECK(text.find("connection refused") != std::string::npos);
  CHECK(text.find("as the flusher last saw them") != std::string::npos);
}

TEST_CASE("a page is located in its bucket, key and shard") {
  Instance instance;
  instance.make_ring();
  instance.make_cache();
  const Json report = locate_report(instance.settings, "home");
  CHECK_FALSE(has_failed(report));
  const std::uint32_t bucket = page_bucket("home", 8);
  CHECK(report["bucket"] == bucket);
  CHECK(report["key"] == "visits:{" + std::to_string(bucket) + "}");
  CHECK(report["shard"] == (bucket % 2 == 0 ? "redis_7070" : "redis_7071"));
  CHECK(report["address"].is_null());
  CHECK(locate_text(report).find("the flusher is away") != std::string::npos);
  const Json refused = locate_report(instance.settings, std::string(65, 'x'));
  CHECK(has_failed(refused));
  CHECK(locate_text(refused).empty());
  // A number of a shard that there is not is corrupt.
  instance.cache().shard_of_bucket(bucket).store(99);
  CHECK(locate_report(instance.settings, "home")["shard"].is_null());
}

TEST_CASE("without a flusher nobody knows the writers, and none is forgotten") {
  Instance instance;
  const Json report = writers_report(instance.settings);
  CHECK(report["error"].get<std::string>().starts_with("the flusher is away"));
  CHECK(writers_text(report).empty());
  const Json forgotten = forget_report(instance.settings, "0123456789abcdef", true, "visitctl");
  CHECK(forgotten["forgotten"] == false);
  CHECK(has_failed(forgotten));
  CHECK(forget_text(forgotten).empty());
}

TEST_CASE("a list of writers says who is seen, who is ours and who is forgotten") {
  const std::uint64_t now_s = unix_seconds();
  Json report = {{"writers", Json::array()}, {"unasked", "redis_7071"}};
  report["writers"].push_back({{"writer", "a"},
                               {"ours", true},
                               {"host", "web-1"},
                               {"version", "1.0"},
                               {"incarnation", 3},
                               {"seen_at", now_s + 5},
                               {"wrote_at", now_s - 3600},
                               {"batches", 7},
                               {"buckets", 2},
                               {"forgotten_at", nullptr},
                               {"forgotten_by", nullptr}});
  report["writers"].push_back({{"writer", "b"},
                               {"ours", false},
                               {"host", nullptr},
                               {"version", nullptr},
                               {"incarnation", nullptr},
                               {"seen_at", nullptr},
                               {"wrote_at", 0},
                               {"batches", nullptr},
                               {"buckets", nullptr},
                               {"forgotten_at", now_s - 120},
                               {"forgotten_by", "web-1\x1b"}});
  const std::string text = writers_text(report);
  for (const char* words : {"this host", "0 ms ago", "never", "forgotten 2 min", "shard redis_7071 cannot be asked"}) {
    CAPTURE(text);
    CHECK(text.find(words) != std::string::npos);
  }
  CHECK(text.find('\x1b') == std::string::npos);
}

TEST_CASE("without a cache neither shards nor places are known") {
  Instance instance;
  CHECK(has_failed(shards_report(instance.settings)));
  CHECK(shards_text(shards_report(instance.settings)).empty());
  CHECK(has_failed(locate_report(instance.settings, "home")));
}

}  // namespace visitd::test
