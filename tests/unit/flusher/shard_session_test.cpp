#include "flusher/shard_session.hpp"

#include <doctest/doctest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "tests/unit/flusher/deciders.hpp"

using namespace visitd;
using test::Deciders;
using test::FlusherMemory;

namespace {

constexpr std::uint64_t unix_now = 1000;
const std::string layout = "1 8 100 redis_7070";

/// What a session asked for, in words.
struct RecordingPort : SessionPort {
  void connect() override { events.emplace_back("connect"); }
  void close() override { events.emplace_back("close"); }
  void send(const ShardCommand& command) override {
    if (std::holds_alternative<AskFacts>(command)) events.emplace_back("facts?");
    if (const auto* make = std::get_if<MakeTopology>(&command)) events.push_back("topology=" + make->topology);
    if (const auto* ask = std::get_if<AskMark>(&command)) events.push_back("mark? " + std::to_string(ask->bucket));
    if (const auto* batch = std::get_if<SendBatch>(&command)) {
      events.push_back("batch " + std::to_string(batch->batch->bucket) + " #" + std::to_string(batch->batch->mark.seq));
    }
    if (const auto* ask = std::get_if<AskCount>(&command)) events.push_back("count? " + ask->page);
  }
  void state_changed(ShardState state, const std::string& why) override { states.emplace_back(state, why); }
  void unfit(const std::string& why) override { unfits.push_back(why); }

  std::vector<std::string> take() { return std::exchange(events, {}); }

  std::vector<std::string> events;
  std::vector<std::pair<ShardState, std::string>> states;
  std::vector<std::string> unfits;
};

using Events = std::vector<std::string>;

/// One shard's session over deciders whose buckets are all on it.
struct Talk {
  explicit Talk(const std::string& identity = "", SessionSettings settings = usual()) { begin(identity, settings); }

  static SessionSettings usual() { return {"redis_7070", layout, 256, 500, 5000, false, false}; }

  /// A session begins, as after a start.
  void begin(const std::string& identity, const SessionSettings& settings = usual()) {
    session = std::make_unique<ShardSession>(settings, identity, "new", std::vector<std::uint32_t>{0, 1, 2, 3, 4, 5},
                                             d.batches, d.lookups, d.memory.statistics(), port);
  }
  void connect() {
    session->tick(now_ms);
    session->on_connected();
  }
  void answer(ShardAnswer answer) { session->on_answer(std::move(answer), now_ms, unix_now); }
  /// Connects and passes the first questions of a shard that is in order.
  void come_up(const std::string& identity = "known") {
    connect();
    answer(Facts{"noeviction", "yes", identity + " " + layout});
    for (std::uint32_t bucket = 0; bucket < 6; ++bucket) {
      if (d.batches.was_written(bucket)) answer(MarkHeld{d.batches.field(bucket)});
    }
    REQUIRE(session->state() == ShardState::up);
    port.take();
  }
  /// The page's visits become a durable batch, which the session is told of.
  void seal(const std::string& page, std::uint32_t visits = 1) {
    d.visit(page, visits);
    static_cast<void>(d.batches.begin_flush());
    static_cast<void>(d.commit(true));
    for (const std::uint32_t bucket : d.ready) session->batch_ready(bucket);
  }
  void commit() {
    static_cast<void>(d.commit(false));
    for (const std::uint32_t bucket : d.ready) session->batch_ready(bucket);
  }
  [[nodiscard]] static BatchAnswer applied(std::vector<std::uint64_t> totals) {
    BatchAnswer answer;
    answer.totals = std::move(totals);
    return answer;
  }
  [[nodiscard]] static BatchAnswer other(BatchAnswer::Kind kind, const std::string& text) {
    BatchAnswer answer;
    answer.kind = kind;
    answer.have = answer.why = text;
    return answer;
  }
  void check_held(const std::string& part_of_why) {
    CHECK(session->state() == ShardState::held);
    CHECK_MESSAGE(session->why().find(part_of_why) != std::string::npos, session->why());
    REQUIRE_FALSE(port.states.empty());
    CHECK(port.states.back().first == ShardState::held);
    // Looked at again now and then, and nothing is said to it meanwhile.
    port.take();
    CHECK_FALSE(session->look_up(0, 0, "page"));
    session->tick(now_ms + 4999);
    CHECK(port.take().empty());
    session->tick(now_ms + 5000);
    CHECK(port.take() == Events{"connect"});
    now_ms += 5000;
  }

  Deciders d;
  RecordingPort port;
  std::unique_ptr<ShardSession> session;
  std::uint64_t now_ms = 10000;
};

}  // namespace

// ---- coming up

TEST_CASE("a fresh shard is given an identity, and is up with no mark to ask for") {
  Talk t;
  CHECK(t.session->state() == ShardState::connecting);
  t.session->tick(t.now_ms);
  t.session->tick(t.now_ms);
  CHECK(t.port.take() == Events{"connect"});
  t.session->on_connected();
  CHECK(t.port.take() == Events{"facts?"});
  t.answer(Facts{"noeviction", "yes", ""});
  CHECK(t.port.take() == Events{"topology=new " + layout});
  t.answer(Topology{"new " + layout});
  CHECK(t.port.take().empty());
  CHECK(t.session->state() == ShardState::up);
  CHECK(t.port.states == std::vector<std::pair<ShardState, std::string>>{{ShardState::up, ""}});
  const Transaction transaction = t.d.commit(false);
  REQUIRE(transaction.identities.size() == 1);
  CHECK(transaction.identities[0].shard == "redis_7070");
  CHECK(transaction.identities[0].identity == "new");
}

TEST_CASE("a fresh shard that another host has just named keeps that name") {
  Talk t;
  t.connect();
  t.answer(Facts{"noeviction", "yes", ""});
  t.answer(Topology{"other " + layout});
  CHECK(t.session->state() == ShardState::up);
  CHECK(t.d.commit(false).identities.at(0).identity == "other");
}

TEST_CASE("a server that will not say how it is set up is taken") {
  Talk t;
  t.connect();
  t.answer(Facts{std::nullopt, std::nullopt, "known " + layout});
  CHECK(t.session->state() == ShardState::up);
}

TEST_CASE("a known shard is asked for the marks of the buckets that were written, and of no others") {
  Talk t;
  t.d.count_one(t.d.memory.page_in(2));
  t.d.count_one(t.d.memory.page_in(4));
  t.begin("known");
  t.connect();
  t.port.take();
  t.answer(Facts{"noeviction", "yes", "known " + layout});
  CHECK(t.port.take() == Events{"mark? 2", "mark? 4"});
  t.answer(MarkHeld{t.d.batches.field(2)});
  CHECK(t.session->state() == ShardState::connecting);
  t.answer(MarkHeld{t.d.batches.field(4)});
  CHECK(t.session->state() == ShardState::up);
  CHECK(t.port.take().empty());
}

TEST_CASE("a broken connection is tried again after a while, and what it carried is void") {
  Talk t("known");
  t.come_up();
  t.session->on_broken("reset by peer", t.now_ms);
  CHECK(t.session->state() == ShardState::down);
  CHECK(t.session->why() == "reset by peer");
  t.session->tick(t.now_ms + 499);
  CHECK(t.port.take().empty());
  t.session->tick(t.now_ms + 500);
  CHECK(t.port.take() == Events{"connect"});
  t.session->on_broken("refused", t.now_ms + 600);
  CHECK(t.session->why() == "refused");
}

TEST_CASE("an answer to no question ends the connection") {
  Talk t("known");
  t.come_up();
  t.answer(MarkHeld{""});
  CHECK(t.port.take() == Events{"close"});
  CHECK(t.session->state() == ShardState::connecting);
}

// ---- what cannot be trusted is held

TEST_CASE("a server that may lose counts is unfit, unless that was accepted") {
  Talk evicting("known");
  evicting.connect();
  evicting.answer(Facts{"allkeys-lru", "yes", "known " + layout});
  REQUIRE(evicting.port.unfits.size() == 1);
  CHECK(evicting.port.unfits[0].find("redis.accept_eviction") != std::string::npos);
  evicting.check_held("maxmemory-policy is allkeys-lru");

  Talk forgetful("known");
  forgetful.connect();
  forgetful.answer(Facts{"noeviction", "no", "known " + layout});
  CHECK(forgetful.port.unfits.size() == 1);
  forgetful.check_held("append-only");

  SessionSettings settings = Talk::usual();
  settings.accept_eviction = settings.accept_no_append_only = true;
  Talk accepted("known", settings);
  accepted.connect();
  accepted.answer(Facts{"allkeys-lru", "no", "known " + layout});
  CHECK(accepted.session->state() == ShardState::up);
  CHECK(accepted.port.unfits.empty());
}

TEST_CASE("a shard that was emptied is held, whether it is known by its identity or by its marks alone") {
  Talk by_identity("known");
  by_identity.connect();
  by_identity.answer(Facts{"noeviction", "yes", ""});
  by_identity.check_held("emptied or replaced");

  Talk by_marks;
  by_marks.d.count_one(by_marks.d.memory.page_in(1));
  by_marks.connect();
  by_marks.answer(Facts{"noeviction", "yes", ""});
  by_marks.check_held("emptied or replaced");
}

TEST_CASE("another server, and another layout, are held") {
  Talk identity("known");
  identity.connect();
  identity.answer(Facts{"noeviction", "yes", "other " + layout});
  identity.check_held("its identity is other, and known was known");

  Talk buckets("known");
  buckets.connect();
  buckets.answer(Facts{"noeviction", "yes", "known 1 4096 100 redis_7070"});
  buckets.check_held("laid out as '1 4096 100 redis_7070'");

  Talk nonsense("known");
  nonsense.connect();
  nonsense.answer(Facts{"noeviction", "yes", "known"});
  nonsense.check_held("laid out as ''");
}

TEST_CASE("marks that nothing explains hold the shard, after all of them are known") {
  const std::pair<const char*, const char*> cases[] = {
      {"", "holds nothing of what was acknowledged"},
      {"(the key is not a hash)", "holds nothing of what was acknowledged"},
      {"1-0000000000000abc 1 0000000000000007", "restored from a copy older"},
      {"1-0000000000000abc 9 0000000000000007", "does not know"},
      {"7-0000000000000def 9 0000000000000007", "newer flusher"},
  };
  for (const auto& [held, why] : cases) {
    CAPTURE(held);
    Talk t("known");
    t.d.count_one(t.d.memory.page_in(2, 0));
    t.d.count_one(t.d.memory.page_in(2, 1));
    t.d.count_one(t.d.memory.page_in(4));
    static_cast<void>(t.d.commit(false, unix_now + 600));  // the kept batches are forgotten
    t.connect();
    t.answer(Facts{"noeviction", "yes", "known " + layout});
    t.answer(MarkHeld{held});
    CHECK(t.session->state() == ShardState::connecting);
    t.answer(MarkHeld{t.d.batches.field(4)});
    t.check_held(why);
    CHECK(t.session->why().find("bucket 2") != std::string::npos);
  }
}

TEST_CASE("a held shard is up again as soon as it is what was left") {
  Talk t("known");
  t.connect();
  t.answer(Facts{"noeviction", "yes", ""});
  t.check_held("emptied");
  t.session->on_broken("refused", t.now_ms);
  CHECK(t.session->state() == ShardState::held);  // why it is held matters more than that it is away
  t.now_ms += 5000;
  t.come_up();
}

// ---- batches

TEST_CASE("a batch is sent once it is durable, and its answer ends it") {
  Talk t("known");
  t.come_up();
  const std::string page = t.d.memory.page_in(2);
  t.seal(page, 3);
  CHECK(t.port.take() == Events{"batch 2 #1"});
  t.session->batch_ready(2);  // said twice
  CHECK(t.port.take().empty());
  t.answer(Talk::applied({3}));
  CHECK(t.d.batches.unanswered(2) == nullptr);
  CHECK(t.d.batches.last_seq(2) == 1);
  t.seal(page, 1);
  CHECK(t.port.take() == Events{"batch 2 #2"});
  CHECK(t.d.memory.statistic(FlusherStatistic::batches_sent) == 2);
}

TEST_CASE("no more batches are on their way than the window allows") {
  SessionSettings settings = Talk::usual();
  settings.batches_in_flight = 2;
  Talk t("known", settings);
  t.come_up();
  for (std::uint32_t bucket = 0; bucket < 5; ++bucket) t.seal(t.d.memory.page_in(bucket));
  CHECK(t.port.take() == Events{"batch 0 #1", "batch 1 #1"});
  t.answer(Talk::applied({1}));
  CHECK(t.port.take() == Events{"batch 2 #1"});
  BatchAnswer duplicate = Talk::applied({1});
  duplicate.kind = BatchAnswer::Kind::duplicate;
  t.answer(std::move(duplicate));
  t.answer(Talk::applied({1}));
  CHECK(t.port.take() == Events{"batch 3 #1", "batch 4 #1"});
  t.answer(Talk::applied({1}));
  t.answer(Talk::applied({1}));
  CHECK(t.d.batches.unanswered_count() == 0);
  CHECK(t.d.memory.statistic(FlusherStatistic::batches_duplicate) == 1);
}

TEST_CASE("what was lost is sent again first, then what has no answer, then reads go through") {
  Talk t;
  const std::string page = t.d.memory.page_in(2);
  t.d.count_one(page);
  const std::string fallen_back_to = t.d.batches.field(2);
  t.d.count_one(page);
  t.d.count_one(page);
  t.d.visit(t.d.memory.page_in(4));
  t.d.visit(page);
  static_cast<void>(t.d.batches.begin_flush());
  static_cast<void>(t.d.commit(true));
  t.begin("known");
  t.connect();
  t.answer(Facts{"noeviction", "yes", "known " + layout});
  t.port.take();
  t.answer(MarkHeld{fallen_back_to});
  CHECK_FALSE(t.session->look_up(0, 2, page));
  t.answer(MarkHeld{""});
  CHECK(t.session->state() == ShardState::up);
  CHECK(t.session->look_up(0, 2, page));
  CHECK(t.port.take() == Events{"batch 2 #2", "batch 2 #3", "batch 2 #4", "batch 4 #1", "count? " + page});
  CHECK(t.d.memory.statistic(FlusherStatistic::batches_sent_again) == 2);

  // Repairs change nothing of what is known.
  t.answer(Talk::applied({2}));
  t.answer(Talk::applied({3}));
  CHECK(t.d.batches.last_seq(2) == 3);
  t.answer(Talk::applied({4}));
  CHECK(t.d.batches.last_seq(2) == 4);
}

TEST_CASE("a repair that is not taken leads to another look at the shard") {
  Talk t;
  const std::string page = t.d.memory.page_in(2);
  t.d.count_one(page);
  t.begin("known");
  t.connect();
  t.answer(Facts{"noeviction", "yes", "known " + layout});
  t.answer(MarkHeld{""});
  t.port.take();
  t.answer(Talk::other(BatchAnswer::Kind::have, "something"));
  CHECK(t.port.take() == Events{"close"});
  CHECK(t.session->state() == ShardState::connecting);
  t.session->tick(t.now_ms + 500);
  CHECK(t.port.take() == Events{"connect"});
}

TEST_CASE("a batch whose answer was lost is sent again on the next connection, whether it was executed or not") {
  for (const bool executed : {false, true}) {
    Talk t("known");
    t.come_up();
    t.seal(t.d.memory.page_in(2));
    t.session->on_broken("reset", t.now_ms);
    t.now_ms += 500;
    t.connect();
    t.answer(Facts{"noeviction", "yes", "known " + layout});
    t.port.take();
    t.answer(MarkHeld{executed ? to_text(t.d.batches.unanswered(2)->mark) : ""});
    CHECK(t.session->state() == ShardState::up);
    CHECK(t.port.take() == Events{"batch 2 #1"});
  }
}

TEST_CASE("a mark that is neither the expected nor the new one leads to another look at the shard") {
  Talk t("known");
  t.come_up();
  t.seal(t.d.memory.page_in(2));
  t.port.take();
  t.answer(Talk::other(BatchAnswer::Kind::have, "1-0000000000000abc 9 0000000000000007"));
  CHECK(t.port.take() == Events{"close"});
  CHECK(t.session->state() == ShardState::connecting);
  CHECK(t.session->why().find("9 0000000000000007") != std::string::npos);
  REQUIRE(t.d.batches.unanswered(2) != nullptr);  // kept for what the look finds
}

TEST_CASE("a bucket that has moved away, or cannot be written at all, holds the shard") {
  for (const auto kind : {BatchAnswer::Kind::moved, BatchAnswer::Kind::refused}) {
    Talk t("known");
    t.come_up();
    t.seal(t.d.memory.page_in(2));
    t.answer(Talk::other(kind, "to redis_7071"));
    t.check_held("to redis_7071");
    CHECK(t.d.batches.unanswered(2) != nullptr);
  }
}

TEST_CASE("pages that are refused are set aside, and the rest is sent when that is durable") {
  Talk t("known");
  t.come_up();
  t.d.visit(t.d.memory.page_in(2, 0), 3);
  t.seal(t.d.memory.page_in(2, 1), 4);
  CHECK(t.port.take() == Events{"batch 2 #1"});
  BatchAnswer refused = Talk::other(BatchAnswer::Kind::refused, "no integer");
  refused.bad_pages = {0};
  t.answer(refused);
  CHECK(t.session->state() == ShardState::up);
  CHECK(t.port.take().empty());
  t.commit();
  CHECK(t.port.take() == Events{"batch 2 #1"});
  CHECK(t.d.batches.unanswered(2)->pages == std::vector<PageVisits>{{t.d.memory.page_in(2, 1), 4}});
  t.answer(Talk::applied({4}));
  CHECK(t.d.batches.unanswered_count() == 0);
}

// ---- accepting

TEST_CASE("an emptied shard is taken as it is when the operator says so, and batches go on from there") {
  Talk t("known");
  const std::string page = t.d.memory.page_in(2);
  t.d.count_one(page);
  t.d.give_entry(page, 100);
  t.d.visit(page, 5);
  static_cast<void>(t.d.batches.begin_flush());
  static_cast<void>(t.d.commit(true));
  static_cast<void>(t.d.commit(false, unix_now + 600));  // nothing is kept that could repair it
  t.connect();
  t.answer(Facts{"noeviction", "yes", ""});
  t.check_held("visitctl accept redis_7070");
  t.session->on_broken("closed", t.now_ms);
  t.session->accept(t.now_ms);
  t.connect();
  t.port.take();
  t.answer(Facts{"noeviction", "yes", ""});
  CHECK(t.port.take() == Events{"topology=new " + layout});
  t.answer(Topology{"new " + layout});
  CHECK(t.port.take() == Events{"mark? 2"});
  t.answer(MarkHeld{""});
  CHECK(t.session->state() == ShardState::up);
  CHECK_FALSE(t.d.memory.entry(page).there);  // what it said of the old data is void
  CHECK(t.port.take().empty());               // not before its new expectation is durable
  t.commit();
  CHECK(t.port.take() == Events{"batch 2 #2"});
  CHECK(t.d.batches.unanswered(2)->expected.empty());
  t.answer(Talk::applied({5}));

  // Accepted once, not for ever.
  t.session->on_broken("reset", t.now_ms);
  t.now_ms += 500;
  t.connect();
  t.answer(Facts{"noeviction", "yes", ""});
  CHECK(t.session->state() == ShardState::held);
}

TEST_CASE("accepting a shard that only lost what is kept repairs it and gives nothing up") {
  Talk t("known");
  t.d.count_one(t.d.memory.page_in(2));
  t.session->accept(t.now_ms);
  t.connect();
  t.port.take();
  t.answer(Facts{"noeviction", "yes", "other " + layout});
  CHECK(t.port.take() == Events{"mark? 2"});
  t.answer(MarkHeld{""});
  CHECK(t.port.take() == Events{"batch 2 #1"});
  CHECK(t.d.batches.last_seq(2) == 1);
  CHECK(t.d.commit(false).identities.at(0).identity == "other");
}

// ---- reads

TEST_CASE("a read goes behind a batch that an earlier connection may have executed") {
  SessionSettings settings = Talk::usual();
  settings.batches_in_flight = 1;
  Talk t("known", settings);
  t.come_up();
  t.seal(t.d.memory.page_in(1));
  t.seal(t.d.memory.page_in(2));
  CHECK(t.port.take() == Events{"batch 1 #1"});
  // It waits for the window, and was never sent: a read of its pages need not wait with it.
  CHECK(t.session->look_up(0, 2, "page"));
  CHECK(t.port.take() == Events{"count? page"});

  // After a start nobody knows what was sent.
  t.begin("known", settings);
  t.connect();
  t.answer(Facts{"noeviction", "yes", "known " + layout});
  t.answer(MarkHeld{""});
  t.port.take();
  t.answer(MarkHeld{""});
  CHECK(t.port.take() == Events{"batch 1 #1"});
  CHECK(t.session->look_up(0, 2, "page"));
  CHECK(t.port.take() == Events{"batch 2 #1", "count? page"});
}

TEST_CASE("a count becomes an entry when the shard is what it is thought to be") {
  const auto look_up = [](Talk& t, const std::string& page) {
    REQUIRE(t.d.memory.ask(0, page) == Published::published);
    REQUIRE(t.d.lookups.run(t.now_ms));
    REQUIRE(t.session->look_up(t.d.number_of(page), t.d.memory.bucket_of(page), page));
  };
  const std::string page = Deciders().memory.page_in(2);
  {
    Talk t("known");
    t.come_up();
    look_up(t, page);
    t.answer(Count{"", "", 12, true});
    CHECK(t.d.memory.entry(page) == FlusherMemory::Entry{true, 12, t.now_ms + 5000, 0, 0});
    CHECK(t.d.lookups.take_lanes_to_wake() == 1);
  }
  {
    Talk t("known");
    t.come_up();
    look_up(t, page);
    t.answer(Count{"", "", 0, false});  // its field holds no count
    CHECK_FALSE(t.d.memory.entry(page).there);
    CHECK(t.d.lookups.take_lanes_to_wake() == 1);
    CHECK(t.session->state() == ShardState::up);
  }
  {
    Talk t("known");
    t.come_up();
    look_up(t, page);
    t.answer(Count{"", "1-0000000000000abc 9 0000000000000007", 12, true});
    CHECK_FALSE(t.d.memory.entry(page).there);
    CHECK(t.d.lookups.take_lanes_to_wake() == 1);
    CHECK(t.port.events.back() == "close");
    CHECK(t.session->state() == ShardState::connecting);
  }
  {
    Talk t("known");
    t.come_up();
    look_up(t, page);
    t.answer(Count{"redis_7071", "", 12, true});
    CHECK_FALSE(t.d.memory.entry(page).there);
    CHECK(t.d.lookups.take_lanes_to_wake() == 1);
    t.check_held("redis_7071");
  }
  {
    Talk t("known");
    t.come_up();
    look_up(t, page);
    t.session->on_broken("reset", t.now_ms);
    CHECK_FALSE(t.d.memory.entry(page).there);
    CHECK(t.d.lookups.take_lanes_to_wake() == 1);
  }
}

TEST_CASE("an inspection is answered whatever becomes of the connection") {
  Talk t("known");
  std::vector<std::optional<Count>> told;
  const auto inspect = [&] { t.session->inspect(2, "page", [&](auto count) { told.push_back(std::move(count)); }); };
  inspect();
  REQUIRE(told.size() == 1);
  CHECK_FALSE(told[0]);
  t.come_up();
  inspect();
  CHECK(t.port.take() == Events{"count? page"});
  t.answer(Count{"moved", "a field", 12, true});  // for people: nothing is concluded from it
  REQUIRE(told.size() == 2);
  CHECK(told[1]->count == 12);
  CHECK(t.session->state() == ShardState::up);
  inspect();
  t.session->on_broken("reset", t.now_ms);
  REQUIRE(told.size() == 3);
  CHECK_FALSE(told[2]);
}

TEST_CASE("an error in place of an answer waits for the connection to break and say why") {
  Talk t("known");
  t.come_up();
  t.seal(t.d.memory.page_in(2));
  t.port.take();
  t.answer(Refused{"LOADING"});
  CHECK(t.session->state() == ShardState::up);
  t.session->on_broken("LOADING", t.now_ms);
  CHECK(t.session->state() == ShardState::down);
  CHECK(t.d.batches.unanswered(2) != nullptr);
}
