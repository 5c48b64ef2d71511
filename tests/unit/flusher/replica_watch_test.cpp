#include "flusher/counting/replica_watch.hpp"

#include <doctest/doctest.h>

#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/unit/flusher/deciders.hpp"

using namespace visitd;
using test::Deciders;

namespace {

struct Port final : SessionPort {
  void connect() override {}
  void close() override {}
  void send(const ShardCommand& command, Completion done) override {
    if (const auto* const ask = std::get_if<AskReplicas>(&command)) asked.emplace_back(*ask, std::move(done));
  }
  void state_changed(ShardState, const std::string&) override {}
  void unfit(const std::string&) override {}
  void moved(std::uint32_t, const std::string&) override {}
  void redirected(std::uint32_t, const std::string&) override {}
  void look_at_next(std::uint32_t, std::function<void(bool)>) override {}
  void ask_node(const std::string&, const ShardCommand&, Completion) override {}
  void layout_changed(const std::string&) override {}
  void arrived(std::uint32_t) override {}
  void warn(const std::string& what) override { warnings.push_back(what); }

  std::deque<std::pair<AskReplicas, Completion>> asked;
  std::vector<std::string> warnings;
};

struct Parts final : SessionLink::Parts {
  void on_hold(bool) override {}
  void on_leave() override {}
};

SessionSettings waits_for(std::uint32_t replicas, bool disks) {
  SessionSettings settings;
  settings.shard = "redis_7070";
  settings.batches_in_flight = 8;
  settings.check_ms = 5000;
  settings.wait_replicas = replicas;
  settings.wait_aof = disks;
  return settings;
}

/// A watch of a shard that is up. A kept batch goes at once, unless it waits for replicas.
struct Watched {
  explicit Watched(std::uint32_t replicas, bool disks = false) : link(waits_for(replicas, disks), port, parts) {
    link.set_time(now_ms, 1000);
    link.come_up();
  }

  void tick(std::uint64_t after_ms = 0) {
    now_ms += after_ms;
    link.set_time(now_ms, 1000);
    watch.tick(server);
  }
  /// Whether a question waits for its answer; with what it asks.
  [[nodiscard]] std::optional<AskReplicas> question() const {
    return port.asked.empty() ? std::nullopt : std::optional(port.asked.front().first);
  }
  void answer(ShardAnswer said) {
    REQUIRE_FALSE(port.asked.empty());
    const Completion done = std::move(port.asked.front().second);
    port.asked.pop_front();
    done(std::move(said));
  }
  [[nodiscard]] std::uint64_t kept() {
    static_cast<void>(d.commit(false, 5000));
    return d.memory.statistic(FlusherStatistic::kept_batches);
  }

  Deciders d{{.batches = {1000, 0, 1U << 20U, 5000}}};
  Port port;
  Parts parts;
  std::uint64_t now_ms = 100'000;
  std::optional<Facts> server = Facts{.run_id = "run-1"};
  SessionLink link;
  Deployment deployment{{"redis_7070"}, 8, "known"};
  BatchesInFlight in_flight{ShardBuckets(d.placement, 0), deployment, d.batches, d.memory.statistics(), link};
  ReplicaWatch watch{ShardBuckets(d.placement, 0), d.batches, link, in_flight};
};

}  // namespace

TEST_CASE("nobody asks where nobody wants to know") {
  Watched shard(0);
  shard.d.count_one("home");
  shard.tick();
  CHECK_FALSE(shard.question());
  CHECK_FALSE(shard.watch.report());
  CHECK(shard.kept() == 0);
}

TEST_CASE("one question covers all that was answered before it") {
  Watched shard(2);
  shard.tick();
  CHECK_FALSE(shard.question());
  shard.d.count_one("home");
  shard.d.count_one("about");
  shard.tick();
  REQUIRE(shard.question());
  CHECK(shard.question()->replicas == 2);
  CHECK_FALSE(shard.question()->on_disk);
  CHECK(shard.question()->run_id == "run-1");
  CHECK(shard.question()->timeout_ms == 3000);
  shard.d.count_one("later");
  shard.tick(5000);
  CHECK(shard.port.asked.size() == 1);
  CHECK(shard.kept() == 3);
  shard.answer(Replicas{2, false});
  CHECK(shard.kept() == 1);
  CHECK(shard.watch.report()->have == 2U);
  CHECK(shard.watch.report()->behind_ms == 5000);
  shard.tick(5000);
  shard.answer(Replicas{3, false});
  CHECK(shard.kept() == 0);
  CHECK(shard.watch.report()->behind_ms == 0);
  CHECK(shard.port.warnings.empty());
}

TEST_CASE("too few replicas confirm nothing: it is told once, and asked again after a while") {
  Watched shard(2);
  shard.d.count_one("home");
  shard.tick();
  shard.tick(3000);
  shard.answer(Replicas{1, false});
  REQUIRE(shard.port.warnings.size() == 1);
  CHECK(shard.port.warnings[0].find("1 of the 2 replicas that redis.wait_replicas wants") != std::string::npos);
  CHECK(shard.port.warnings[0].find("for 3 s") != std::string::npos);
  CHECK(shard.kept() == 1);
  CHECK(shard.d.memory.statistic(FlusherStatistic::kept_overdue_batches) == 1);
  shard.tick(1000);
  CHECK_FALSE(shard.question());
  shard.tick(1000);
  shard.answer(Lost{});
  CHECK(shard.watch.report()->have == std::nullopt);
  shard.tick(5000);
  shard.answer(Replicas{2, false});
  CHECK(shard.d.memory.statistic(FlusherStatistic::kept_overdue_batches) == 0);
  CHECK(shard.kept() == 0);
  REQUIRE(shard.port.warnings.size() == 2);
  CHECK(shard.port.warnings[1].find("again") != std::string::npos);
}

TEST_CASE("an answer of before another connection, or another bucket, confirms nothing") {
  Watched shard(1);
  shard.d.count_one("home");
  shard.tick();
  shard.watch.begin_anew();
  shard.answer(Replicas{1, false});
  CHECK(shard.kept() == 1);
  shard.tick(5000);
  shard.answer(Replicas{1, false});
  CHECK(shard.kept() == 0);
}

TEST_CASE("what a shard lost is sent again before its replicas are asked") {
  Watched shard(1);
  shard.d.count_one("home");
  const std::uint32_t bucket = shard.d.memory.bucket_of("home");
  shard.in_flight.repair(bucket, *shard.d.batches.lost_since(bucket, ""));
  shard.tick();
  CHECK_FALSE(shard.question());
  shard.in_flight.forget_repairs();
  shard.tick();
  CHECK(shard.question());
}

TEST_CASE("what fewer replicas have is not confirmed by more of them") {
  Watched shard(1);
  shard.d.count_one("home");
  shard.tick();
  shard.link.use(waits_for(2, false));
  shard.watch.use();
  shard.answer(Replicas{1, false});
  CHECK(shard.kept() == 1);
  shard.link.use(waits_for(0, false));
  shard.watch.use();
  CHECK(shard.kept() == 0);
}

TEST_CASE("disks are asked too, and both must have it") {
  Watched shard(1, true);
  shard.d.count_one("home");
  for (const Replicas& said : {Replicas{1, false}, Replicas{0, true}}) {
    shard.tick(5000);
    CHECK(shard.question()->on_disk);
    shard.answer(said);
    CHECK(shard.kept() == 1);
  }
  shard.tick(5000);
  shard.answer(Replicas{1, true});
  CHECK(shard.kept() == 0);
}

TEST_CASE("a server without WAITAOF is asked for its replicas alone, and for the disks again after a while") {
  Watched shard(1, true);
  shard.d.count_one("home");
  shard.tick();
  shard.answer(Refused{"ERR unknown command 'WAITAOF', with args beginning with: '1' '1' '3000' "});
  REQUIRE(shard.port.warnings.size() == 1);
  CHECK(shard.port.warnings[0].find("redis.wait_aof") != std::string::npos);
  CHECK(shard.kept() == 1);
  shard.tick();
  CHECK_FALSE(shard.question()->on_disk);
  shard.answer(Replicas{1, false});
  CHECK(shard.kept() == 0);
  shard.d.count_one("about");
  shard.tick(60'000);
  CHECK(shard.question()->on_disk);
  shard.answer(Refused{"ERR unknown command 'WAITAOF', with args beginning with: '1' '1' '3000' "});
  CHECK(shard.port.warnings.size() == 1);
}

TEST_CASE("a server that allows nothing of it is not waited for") {
  Watched shard(1);
  shard.d.count_one("home");
  CHECK(shard.kept() == 1);
  shard.tick();
  shard.answer(Refused{"NOPERM this user has no permissions to run the 'wait' command"});
  REQUIRE(shard.port.warnings.size() == 1);
  CHECK(shard.port.warnings[0].find("redis.wait_replicas") != std::string::npos);
  CHECK(shard.kept() == 0);
  shard.tick(5000);
  CHECK_FALSE(shard.question());
}

TEST_CASE("an error of the moment is no reason to stop waiting") {
  Watched shard(1);
  shard.d.count_one("home");
  shard.tick();
  shard.answer(Refused{"UNBLOCKED force unblock from blocking operation"});
  CHECK(shard.kept() == 1);
  CHECK(shard.port.warnings.size() == 1);
  shard.tick(5000);
  CHECK(shard.question());
}
