#include "flusher/counting/bucket_mover.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <utility>

namespace visitd {
namespace {

using Step = MoveBucket::Step;
using Answer = MoveAnswer::Kind;

/// A mover of three of four buckets, from shard a to shard b.
struct Moves : MoverPort {
  struct Sent {
    std::uint32_t shard;
    ShardCommand command;
    Completion done;
  };

  explicit Moves(std::uint32_t rate = 0, Placement where = {{0, 0, 1, 0}, 2, {1, 1, 1, 1}},
                 std::vector<std::string> shards = {"a", "b"})
      : placement(std::move(where)) {
    settings.rate = rate;
    settings.writer = "w1";
    settings.version = 2;
    settings.shards = shards;
    settings.places = shards;
    for (std::uint32_t shard = 0; shard < shards.size(); ++shard) {
      if (placement.is_node(shard)) settings.places[shard] = "cluster";
    }
    settings.buckets_at_once = 2;
    settings.durable_after_ms = 1000;
    mover.emplace(settings, placement, *this);
  }

  [[nodiscard]] std::uint64_t connection(std::uint32_t shard) const override { return connections.at(shard); }
  void send(std::uint32_t shard, const ShardCommand& command, Completion done) override {
    sent.push_back({shard, command, std::move(done)});
  }
  [[nodiscard]] const std::string& bucket_id() const override { return id; }
  [[nodiscard]] std::uint32_t least_replicas() const override { return replicas; }
  [[nodiscard]] bool reads_come() const override { return reads; }
  [[nodiscard]] std::uint32_t deciding() const override { return 0; }
  void ask_node(const std::string& node, const ShardCommand& command, Completion done) override {
    const auto found = std::ranges::find(settings.shards, node);
    send(static_cast<std::uint32_t>(found - settings.shards.begin()), command, std::move(done));
  }
  void redirected(std::uint32_t bucket, const std::string& node) override {
    placement.follow_slot(
        bucket, static_cast<std::uint32_t>(std::ranges::find(settings.shards, node) - settings.shards.begin()));
  }
  void moved(std::uint32_t bucket) override { told.push_back(bucket); }
  void all_moved() override { ++finished; }

  void tick(std::uint64_t ms = 0) {
    now += ms;
    mover->tick(now);
  }
  /// Answers the oldest command.
  void answer(ShardAnswer with) {
    REQUIRE_FALSE(sent.empty());
    const Completion done = std::move(sent.front().done);
    sent.erase(sent.begin());
    done(std::move(with));
  }
  void take_turn() {
    tick();
    REQUIRE(std::holds_alternative<TakeMoves>(sent.front().command));
    answer(MovesTaken{true});
    tick();
  }
  /// One that does not end while a test waits.
  void take_long_turn() {
    settings.turn_ms = 60'000;
    mover.emplace(settings, placement, *this);
    take_turn();
  }
  [[nodiscard]] const MoveBucket& step() const { return std::get<MoveBucket>(sent.front().command); }
  /// Each of the steps up to send away, for the two buckets that go at once.
  void move_two() {
    for (int i = 0; i < 2; ++i) answer(MoveAnswer{Answer::content, "bytes"});
    for (int i = 0; i < 4; ++i) answer(MoveAnswer{});
  }
  /// The oldest copies have been where they are for so long that the disk is asked for them.
  void wait_for_disk() {
    tick();
    tick(settings.durable_after_ms);
  }
  /// All three buckets, at once.
  void move_and_drop_all() {
    settings.buckets_at_once = 8;
    mover.emplace(settings, placement, *this);
    take_turn();
    for (int i = 0; i < 3; ++i) answer(MoveAnswer{Answer::content, "bytes"});
    for (int i = 0; i < 6; ++i) answer(MoveAnswer{});
    wait_for_disk();
    answer(Persistence{false});
    for (int i = 0; i < 3; ++i) {
      CHECK(step().step == Step::drop);
      answer(MoveAnswer{});
    }
  }
  /// The shard's disk has what it has dropped.
  void answer_that_drops_are_durable(std::uint32_t shard) {
    tick(20);
    REQUIRE(sent.front().shard == shard);
    REQUIRE(std::holds_alternative<AskPersistence>(sent.front().command));
    answer(Persistence{false});
  }

  MoverSettings settings;
  Placement placement;
  std::string id = "id 2";
  std::map<std::uint32_t, std::uint64_t> connections{{0, 1}, {1, 1}, {2, 1}};
  std::vector<Sent> sent;
  std::vector<std::uint32_t> told;
  int finished = 0;
  bool reads = false;
  std::uint32_t replicas = 0;
  std::uint64_t now = 100;
  std::optional<BucketMover> mover;
};

TEST_CASE("a bucket is copied out, copied in, sent away, and dropped once its copy is durable") {
  Moves t;
  CHECK(t.mover->progress().buckets == 3);
  t.take_turn();
  REQUIRE(t.sent.size() == 2);  // so many at once
  CHECK(t.step().step == Step::copy_out);
  CHECK(t.step().bucket == 0);
  CHECK(t.step().marker == "b 2");
  CHECK(t.sent.front().shard == 0);
  t.answer(MoveAnswer{Answer::content, "bytes"});
  t.answer(MoveAnswer{Answer::content, "bytes"});
  CHECK(t.step().step == Step::copy_in);
  CHECK(t.step().content == "bytes");
  CHECK(t.sent.front().shard == 1);
  t.answer(MoveAnswer{});
  t.answer(MoveAnswer{});
  CHECK(t.step().step == Step::send_away);
  CHECK(t.told.empty());
  t.answer(MoveAnswer{});
  t.answer(MoveAnswer{});
  CHECK(t.told == std::vector<std::uint32_t>{0, 1});
  t.tick();
  t.tick(999);
  REQUIRE(t.sent.size() == 1);  // the third bucket
  t.answer(Lost{});
  t.connections[0] = 0;
  t.tick(1);
  REQUIRE(t.sent.size() == 1);
  CHECK(std::holds_alternative<AskPersistence>(t.sent.front().command));
  t.answer(Persistence{true});
  CHECK(t.sent.empty());
  t.connections[0] = 2;
  t.tick(20);
  t.answer(Persistence{false});
  CHECK(t.mover->progress().moved == 0);
}

TEST_CASE("a bucket has moved once its former shard's disk knows that it was dropped; what was lost is dropped again") {
  Moves t;
  t.move_and_drop_all();
  CHECK(t.mover->progress().moved == 0);
  t.connections[0] = 2;
  t.answer_that_drops_are_durable(0);
  CHECK(t.mover->progress().moved == 0);
  t.tick();
  REQUIRE(t.sent.size() == 3);
  CHECK(t.step().step == Step::copy_out);
  for (int i = 0; i < 3; ++i) t.answer(MoveAnswer{Answer::dropped});
  for (int i = 0; i < 3; ++i) t.answer(MoveAnswer{});
  CHECK(t.mover->progress().moved == 0);
  t.answer_that_drops_are_durable(0);
  CHECK(t.mover->progress().moved == 3);
}

TEST_CASE("who moves for a layout that holds no more sends no further step, and waits for what has no answer") {
  Moves t;
  t.take_turn();
  CHECK_FALSE(t.mover->is_answered());
  t.mover->stop();
  t.answer(MoveAnswer{Answer::content, "bytes"});
  CHECK_FALSE(t.mover->is_answered());
  t.answer(Lost{});
  CHECK(t.mover->is_answered());
  CHECK(t.sent.empty());
}

TEST_CASE("at most as many buckets a second begin to move as were asked for") {
  Moves t(1);
  t.now = 5000;
  t.take_turn();
  CHECK(t.sent.size() == 1);
  t.answer(MoveAnswer{Answer::content, "bytes"});
  t.answer(MoveAnswer{});
  t.answer(MoveAnswer{});
  t.tick(500);
  CHECK(t.sent.empty());
  t.tick(500);
  const auto& next = std::get<MoveBucket>(t.sent.back().command);
  CHECK(next.step == Step::copy_out);
  CHECK(next.bucket == 1);
}

TEST_CASE("while clients read counts, buckets give way to them") {
  Moves t;
  t.settings.rate_beside_reads = 1;
  t.reads = true;
  t.mover.emplace(t.settings, t.placement, t);
  t.take_turn();
  CHECK(t.sent.size() == 1);
  t.tick(500);
  CHECK(t.sent.size() == 1);
  t.reads = false;
  t.tick();
  CHECK(t.sent.size() == 2);
}

TEST_CASE("a copy that came over another connection is looked for again before anything is dropped") {
  Moves t;
  t.take_turn();
  t.move_two();
  t.connections[1] = 2;
  t.wait_for_disk();
  while (!std::holds_alternative<AskPersistence>(t.sent.front().command)) t.answer(Lost{});
  t.answer(Persistence{false});
  for (const Moves::Sent& sent : t.sent) CHECK(std::get<MoveBucket>(sent.command).step != Step::drop);
}

TEST_CASE("a bucket is dropped once the replicas of its next shard have the copy") {
  Moves t;
  t.take_long_turn();
  t.move_two();
  t.sent.clear();  // the third bucket
  t.wait_for_disk();
  t.answer(Persistence{false, 100, 2, 90});
  t.tick(20);
  t.answer(Persistence{false, 150, 2, 99});
  CHECK(t.sent.empty());
  t.tick(t.settings.patience_ms);
  t.answer(Persistence{false, 160, 2, 99});
  CHECK(t.mover->progress().problem ==
        "shard b: a replica lacks 61 bytes of its stream; until it has them, the former shards keep what moved there");
  t.tick(20);
  t.answer(Persistence{false, 160, 2, 100});
  REQUIRE(t.sent.size() == 2);
  CHECK(t.step().step == Step::drop);
  CHECK(t.mover->progress().problem.empty());
}

TEST_CASE("no bucket is dropped while its next shard has fewer replicas than it is to have") {
  Moves t;
  t.replicas = 1;
  t.take_long_turn();
  t.move_two();
  t.sent.clear();
  t.tick();
  t.tick(t.settings.durable_after_ms + t.settings.patience_ms);
  t.answer(Persistence{false, 100, 0, 100});
  CHECK(t.sent.empty());
  CHECK(t.mover->progress().problem ==
        "shard b: it has 0 of the 1 replicas that redis.wait_replicas wants; until it has them, the former shards keep "
        "what moved there");
  t.tick(20);
  t.answer(Persistence{false, 100, 1, 100});
  CHECK(t.sent.size() == 2);
}

TEST_CASE("an error is told, and tried again after a while") {
  Moves t;
  t.take_turn();
  t.answer(Refused{"OOM"});
  CHECK(t.mover->progress().problem == "bucket 0 at shard a: OOM");
  t.answer(MoveAnswer{Answer::refused, "it has moved to c 4"});
  CHECK(t.mover->progress().problem == "bucket 1 at shard a: it has moved to c 4");
  t.tick(999);
  CHECK(t.sent.empty());
  t.tick(1);
  CHECK(t.sent.size() == 2);
}

TEST_CASE("a bucket that is on neither shard is reported, and nothing is made up for it") {
  Moves t;
  t.take_turn();
  t.answer(MoveAnswer{Answer::dropped});
  t.answer(MoveAnswer{Answer::dropped});
  CHECK(t.step().step == Step::copy_in);
  CHECK(t.step().content.empty());
  t.answer(MoveAnswer{Answer::absent});
  CHECK(t.mover->progress().problem.find("bucket 0 is gone") == 0);
  t.answer(MoveAnswer{});
  CHECK(t.told == std::vector<std::uint32_t>{1});
  t.sent.clear();  // the third bucket
  t.answer_that_drops_are_durable(0);
  CHECK(t.mover->progress().moved == 1);
}

TEST_CASE("who does not have the turn moves nothing, and who has it says so again in time") {
  Moves t;
  t.tick();
  t.answer(MovesTaken{false});
  t.tick();
  CHECK(t.sent.empty());
  CHECK_FALSE(t.mover->progress().ours);
  t.tick(t.settings.turn_ms / 2);
  t.answer(MovesTaken{true});
  t.tick();
  CHECK(t.mover->progress().ours);
  CHECK(t.sent.size() == 2);
  t.sent.clear();
  t.connections[0] = 0;  // nobody can be asked: it ends by itself
  t.tick(t.settings.turn_ms);
  CHECK_FALSE(t.mover->progress().ours);
}

TEST_CASE("a shard that cannot say who moves buckets is told of, until it can") {
  Moves t;
  t.tick();
  t.answer(Refused{"WRONGTYPE wrong kind of value"});
  CHECK(t.mover->progress().problem ==
        "shard a does not say who moves buckets, in visits:mover: WRONGTYPE wrong kind of value");
  t.tick(t.settings.turn_ms / 2);
  t.answer(MovesTaken{false});
  CHECK(t.mover->progress().problem.empty());
}

TEST_CASE("where buckets are large, fewer of them are on their way at once") {
  Moves t;
  t.settings.content_bytes = 16;
  t.mover.emplace(t.settings, t.placement, t);
  t.take_turn();
  REQUIRE(t.sent.size() == 2);
  t.answer(MoveAnswer{Answer::content, "ten bytes."});
  t.answer(MoveAnswer{Answer::content, "ten bytes."});
  t.answer(MoveAnswer{});  // copy in
  t.answer(MoveAnswer{});
  t.answer(MoveAnswer{});  // send away: one of the two is where it shall be
  CHECK(t.sent.size() == 1);
  t.answer(MoveAnswer{});
  REQUIRE(t.sent.size() == 1);
  CHECK(t.step().step == Step::copy_out);
}

TEST_CASE("once everything has moved, that is told until somebody ends it") {
  Moves t;
  t.move_and_drop_all();
  t.answer_that_drops_are_durable(0);
  CHECK(t.mover->progress().moved == 3);
  CHECK(t.finished == 0);
  t.tick();
  t.tick();
  CHECK(t.finished == 2);
}

/// One bucket that goes from shard a into a cluster, where n1 has its slot.
struct IntoCluster : Moves {
  IntoCluster() : Moves(0, Placement({0}, 3, {1}, 1), {"a", "n1", "n2"}) { take_turn(); }
  void answer_from(std::uint32_t shard, Step step, ShardAnswer with) {
    REQUIRE(sent.front().shard == shard);
    REQUIRE(this->step().step == step);
    answer(std::move(with));
  }
};

TEST_CASE("a bucket goes to the node that has its slot, and is seen there once more before it is dropped") {
  IntoCluster t;
  CHECK(t.step().marker == "cluster 2");
  t.answer_from(0, Step::copy_out, MoveAnswer{Answer::content, "bytes"});
  t.answer_from(1, Step::copy_in, Redirect{"n2"});
  CHECK(t.sent.empty());
  t.tick(t.settings.redirect_retry_ms);
  t.answer_from(0, Step::copy_out, MoveAnswer{Answer::content, "bytes"});
  t.answer_from(2, Step::copy_in, MoveAnswer{});
  t.answer_from(0, Step::send_away, MoveAnswer{});
  t.wait_for_disk();
  CHECK(t.sent.front().shard == 2);
  t.answer(Persistence{});
  CHECK(t.step().content.empty());
  t.answer_from(2, Step::copy_in, MoveAnswer{});
  t.answer_from(0, Step::drop, MoveAnswer{});
  t.answer_that_drops_are_durable(0);
  CHECK(t.mover->progress().moved == 1);
}

TEST_CASE("a copy that the node's disk had, but that is there no more, is made again") {
  IntoCluster t;
  t.answer_from(0, Step::copy_out, MoveAnswer{Answer::content, "bytes"});
  t.answer_from(1, Step::copy_in, MoveAnswer{});
  t.answer_from(0, Step::send_away, MoveAnswer{});
  t.wait_for_disk();
  t.answer(Persistence{});
  t.answer_from(1, Step::copy_in, MoveAnswer{Answer::absent});
  t.tick(t.settings.redirect_retry_ms);
  t.answer_from(0, Step::copy_out, MoveAnswer{Answer::content, "bytes"});
  CHECK(t.step().content == "bytes");
}

TEST_CASE("a bucket whose slot is on its way to another node goes there, and waits for that node's disk") {
  IntoCluster t;
  t.answer_from(0, Step::copy_out, MoveAnswer{Answer::content, "bytes"});
  t.answer_from(1, Step::copy_in, Redirect{"n2", true});
  CHECK(t.step().once);
  t.answer_from(2, Step::copy_in, MoveAnswer{});
  t.answer_from(0, Step::send_away, MoveAnswer{});
  t.wait_for_disk();
  CHECK(t.sent.front().shard == 2);
  t.answer(Persistence{});
  t.answer_from(1, Step::copy_in, Redirect{"n2", true});
  t.answer_from(2, Step::copy_in, MoveAnswer{});
  t.answer_from(0, Step::drop, MoveAnswer{});
  t.answer_that_drops_are_durable(0);
  CHECK(t.mover->progress().moved == 1);
}

TEST_CASE("a bucket that leaves a cluster is sent away by the node that has its slot by then") {
  Moves t(0, Placement({1}, 3, {0}, 1), {"a", "n1", "n2"});
  t.take_turn();
  CHECK(t.step().marker == "a 2");
  CHECK(t.sent.front().shard == 1);
  t.answer(MoveAnswer{Answer::content, "bytes"});
  t.answer(MoveAnswer{});
  CHECK(t.sent.front().shard == 1);
  t.answer(Redirect{"n2"});
  t.tick(t.settings.redirect_retry_ms);
  CHECK(t.sent.front().shard == 2);
  CHECK(t.step().step == Step::copy_out);
}

}  // namespace
}  // namespace visitd
