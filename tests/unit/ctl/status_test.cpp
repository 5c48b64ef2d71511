#include "ctl/attention.hpp"
#include "tests/unit/ctl/instance.hpp"

namespace visitd::test {

TEST_CASE("the status of a living instance") {
  Instance instance;
  instance.make_ring();
  const FileLease lane = instance.own_lane(0);
  for (int i = 0; i < 3; ++i) instance.publish(0, "home");
  const auto flusher = FileLease::try_take(instance.directory.flusher_lock());
  instance.make_cache();
  instance.show_view({32, 0});
  instance.set_statistic(FlusherStatistic::pending_visits, 5);
  instance.set_statistic(FlusherStatistic::unanswered_batches, 2);
  instance.set_statistic(FlusherStatistic::kept_batches, 3);
  instance.set_statistic(FlusherStatistic::last_commit_ns, monotonic_ns());
  CacheHeader& header = instance.cache().header();
  header.shard[0].buckets.store(5);
  header.shard[1].unanswered.store(2);

  const Json report = status_report(instance.settings);
  CHECK_FALSE(has_failed(report));
  CHECK(report["runtime_directory"] == instance.directory.path());
  REQUIRE(report["frontends"].size() == 1);
  CHECK(report["frontends"][0]["lane"] == 0);
  CHECK(report["frontends"][0]["process"] == "running");
  CHECK(report["frontends"][0]["unapplied_bytes"] == 64);
  CHECK(report["frontends"][0]["undurable_bytes"] == 96);
  CHECK(report["flusher"]["process"] == "running");
  CHECK(report["flusher"]["pid"] == getpid());
  CHECK(report["flusher"]["cache"]["view_shown"] == true);
  CHECK(report["flusher"]["statistics"].size() == static_cast<std::size_t>(FlusherStatistic::count));
  CHECK(report["spool"]["pending_visits"] == 5);
  CHECK(report["spool"]["unanswered_batches"] == 2);
  CHECK(report["spool"]["kept_batches"] == 3);
  CHECK(report["last_commit_age_ms"] < 5000);
  CHECK(report["last_flush_age_ms"].is_null());
  REQUIRE(report["shards"].size() == 2);
  CHECK(report["shards"][0]["name"] == "redis_7070");
  CHECK(report["shards"][0]["state"] == "up");
  CHECK(report["shards"][0]["buckets"] == 5);
  CHECK(report["shards"][0]["reason"].is_null());
  CHECK(report["shards"][1]["state"] == "down");
  CHECK(report["shards"][1]["reason"] == "connection refused");
  CHECK(report["shards"][1]["unanswered_batches"] == 2);

  CHECK_FALSE(report["version"].get<std::string>().empty());
  CHECK(report["frontends"][0]["uptime_ms"].is_number());
  CHECK(report["flusher"]["uptime_ms"].is_number());
  CHECK(report["look_at"] == Json::array({"shard redis_7071 is down: connection refused"}));
  const std::string text = status_text(report);
  CHECK(text.find("connection refused") != std::string::npos);
  CHECK(text.find("flush never") != std::string::npos);
  CHECK(text.find("as the flusher last saw them") == std::string::npos);
}

TEST_CASE("rates are measured between two looks") {
  Json first = {{"frontends", Json::array()}};
  first["frontends"].push_back(
      {{"ring", "a"}, {"lane", 0}, {"pid", 7}, {"statistics", {{"visits", 100}, {"reads", 5}, {"requests", 105}}}});
  Json second = first;
  second["frontends"][0]["statistics"] = {{"visits", 150}, {"reads", 5}, {"requests", 155}};
  second["frontends"].push_back(
      {{"ring", "a"}, {"lane", 1}, {"pid", 8}, {"statistics", {{"visits", 9}, {"reads", 9}, {"requests", 9}}}});
  const Json rates = rates_between(first, second, 500);
  CHECK(rates["visits_per_s"] == 100.0);
  CHECK(rates["reads_per_s"] == 0.0);
  CHECK(rates["requests_per_s"] == 100.0);
}

TEST_CASE("a full spool, damage and a stopped flusher are things to look at") {
  Instance instance;
  instance.make_ring();
  const FileLease lane = instance.own_lane(0);
  instance.publish(0, "home");
  instance.make_cache();
  instance.show_view({32, 0});
  set_shard_state(instance.cache().header().shard[1], ShardState::up, "");
  instance.cache().header().flusher.store(0x7fffffff);  // no process has this number
  instance.set_statistic(FlusherStatistic::commit_failures, 3);
  instance.set_statistic(FlusherStatistic::records_damaged, 1);
  instance.set_statistic(FlusherStatistic::pages_uncountable, 2);
  const Json found = status_report(instance.settings)["look_at"];
  REQUIRE_MESSAGE(found.size() == 4, found.dump());
  CHECK(found[0].get<std::string>().starts_with("the flusher is "));
  CHECK(found[1].get<std::string>().starts_with("the spool is full"));
  CHECK(found[2] == "1 records of the lanes were damaged");
  CHECK(found[3].get<std::string>().starts_with("2 pages cannot be counted"));
  instance.set_statistic(FlusherStatistic::last_commit_ns, monotonic_ns());
  CHECK(status_report(instance.settings)["look_at"].size() == 3);
}

TEST_CASE("a dead flusher has ended, and what it last said is still told") {
  Instance instance;
  instance.make_ring();
  instance.make_cache();
  instance.show_view();
  instance.cache().header().flusher.store(0x7fffffff);  // no process has this number
  instance.cache().header().heartbeat_ns.word.store(monotonic_ns() - 90'000'000'000);
  const Json report = status_report(instance.settings);
  CHECK_FALSE(has_failed(report));
  CHECK(report["flusher"]["process"] == "ended");
  CHECK(report["flusher"]["heartbeat_age_ms"] >= 90'000);
  const std::string text = status_text(report);
  CHECK(text.find("ended, last pid 2147483647, heartbeat 1 min 30 s ago") != std::string::npos);
  CHECK(text.find("as the flusher last saw them") != std::string::npos);
}

TEST_CASE("a flusher that holds its lock and shows no heartbeat is called halted") {
  Instance instance;
  instance.make_ring();
  instance.make_cache();
  const auto flusher = FileLease::try_take(instance.directory.flusher_lock());
  instance.cache().header().heartbeat_ns.word.store(monotonic_ns() - 10'000'000'000);
  CHECK(status_report(instance.settings)["flusher"]["process"] == "halted");
}

TEST_CASE("a flusher that waits for a ring is seen by its lock") {
  const Instance instance;
  const auto flusher = FileLease::try_take(instance.directory.flusher_lock());
  const Json report = status_report(instance.settings);
  CHECK(has_failed(report));
  CHECK(report["flusher"]["process"] == "halted");
  CHECK(report["flusher"]["pid"] == getpid());
}

TEST_CASE("segments of another version, or foreign ones, are a clear error") {
  Instance instance;
  instance.make_ring();
  instance.make_cache();
  instance.cache().header().layout_version.store(99);
  Json report = status_report(instance.settings);
  CHECK(report["error"].get<std::string>().find("another version of visitd") != std::string::npos);
  CHECK(report["flusher"]["error"].is_string());
  CHECK_FALSE(status_text(report).empty());
  instance.ring().header().magic.store(7);
  report = status_report(instance.settings);
  CHECK(report["error"].get<std::string>().find("somebody else's") != std::string::npos);
  instance.ring().header().magic.store(0);
  CHECK(status_report(instance.settings)["error"].get<std::string>().find("not finished") != std::string::npos);
}

TEST_CASE("lanes that nobody ever used are not listed as frontends") {
  Instance instance;
  instance.make_ring({8, 65536, 64});
  CHECK(status_report(instance.settings)["frontends"].empty());
}

}  // namespace visitd::test
