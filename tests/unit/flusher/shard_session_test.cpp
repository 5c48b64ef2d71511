#include "flusher/counting/shard_session.hpp"

#include <doctest/doctest.h>

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "common/os/errors.hpp"
#include "common/os/text.hpp"
#include "tests/unit/flusher/deciders.hpp"

using namespace visitd;
using test::Deciders;
using test::DeciderSettings;
using test::FlusherMemory;

namespace {

constexpr std::uint64_t unix_now = 1000;
const std::string layout = "8 100 redis_7070";
const std::string id = "known 2";

/// What a session asked for, in words.
struct RecordingPort : SessionPort {
  bool stays_here = true;  ///< no bucket that moves is on its next shard yet
  void connect() override { events.emplace_back("connect"); }
  void close() override {
    events.emplace_back("close");
    lose();
  }
  void send(const ShardCommand& command, Completion done) override {
    in_flight.push_back(std::move(done));
    if (std::holds_alternative<AskFacts>(command)) events.emplace_back("facts?");
    if (const auto* make = std::get_if<MakeTopology>(&command))
      events.push_back("topology " + make->expected + "=" + make->topology);
    if (const auto* ask = std::get_if<AskMarks>(&command)) {
      events.push_back(ask->stamp.empty() ? "marks?" : "stamp " + ask->stamp);
    }
    if (const auto* batch = std::get_if<SendBatch>(&command)) {
      events.push_back((is_rejoin(*batch->batch) ? "rejoin " : "batch ") + std::to_string(batch->batch->bucket) + " #" +
                       std::to_string(batch->batch->mark.seq));
    }
    if (const auto* ask = std::get_if<AskCount>(&command)) {
      events.push_back("count? " + ask->page + (ask->tombstone ? " forgotten?" : ""));
    }
    if (const auto* note = std::get_if<NoteWriter>(&command)) {
      std::string text;
      for (const auto& [field, value] : note->fields) text += " " + field + "=" + value;
      events.push_back("note" + text);
    }
    if (std::holds_alternative<AskWriters>(command)) events.emplace_back("writers?");
    if (const auto* forget = std::get_if<ForgetWriter>(&command)) {
      events.push_back("forget " + forget->writer + " in " + std::to_string(forget->buckets.size()));
    }
  }
  void state_changed(ShardState state, const std::string& why) override { states.emplace_back(state, why); }
  void unfit(const std::string& why) override { unfits.push_back(why); }
  void warn(const std::string& what) override { warnings.push_back(what); }
  void moved(std::uint32_t bucket, const std::string& marker) override {
    events.push_back("moved " + std::to_string(bucket) + " to " + marker);
  }
  void redirected(std::uint32_t bucket, const std::string& node) override {
    events.push_back("redirected " + std::to_string(bucket) + " to " + node);
  }
  void look_at_next(std::uint32_t bucket, std::function<void(bool)> done) override {
    events.push_back(fmt::format("look at next of {}", bucket));
    done(stays_here);
  }
  void ask_node(const std::string& node, const ShardCommand& command, Completion done) override {
    events.push_back("at " + node);
    send(command, std::move(done));
  }
  void arrived(std::uint32_t bucket) override { events.push_back("arrived " + std::to_string(bucket)); }
  void layout_changed(const std::string& text) override { events.push_back("layout " + text); }

  std::vector<std::string> take() { return std::exchange(events, {}); }
  /// What came with the oldest command that has no answer.
  Completion next() {
    REQUIRE_FALSE(in_flight.empty());
    Completion done = std::move(in_flight.front());
    in_flight.pop_front();
    return done;
  }
  /// The connection goes.
  void lose() {
    for (const Completion& lost : std::exchange(in_flight, {})) lost(Lost{});
  }

  std::deque<Completion> in_flight;
  std::vector<std::string> events;
  std::vector<std::pair<ShardState, std::string>> states;
  std::vector<std::string> unfits;
  std::vector<std::string> warnings;
};

using Events = std::vector<std::string>;

DeciderSettings six_of_eight() {
  DeciderSettings settings;
  settings.shard_of_bucket = {0, 0, 0, 0, 0, 0, 1, 1};
  settings.shards = 2;
  return settings;
}

/// One shard's session over deciders, of whose eight buckets six are on it.
struct Talk {
  explicit Talk(const std::string& identity = "", SessionSettings settings = usual()) { begin(identity, settings); }

  static SessionSettings usual() { return {"redis_7070", layout, 1, false, false, 256, 500, 5000, false, false, 5000}; }
  static std::string topology(const std::string& identity, const char* state = "made") {
    return identity + " 2 " + state + " redis_7070 " + layout;
  }
  static Facts facts(const std::string& topology) { return {"noeviction", "yes", topology, "master"}; }
  /// What the buckets hold: as we know it, but for these.
  [[nodiscard]] Marks marks(const std::map<std::uint32_t, std::string>& fields = {},
                            const std::string& identity = id) const {
    Marks held;
    for (std::uint32_t bucket = 0; bucket < 6; ++bucket) {
      const auto field = fields.find(bucket);
      held.buckets.push_back({identity, field == fields.end() ? d.batches.field(bucket) : field->second});
    }
    return held;
  }

  /// A session begins, as after a start.
  void begin(const std::string& identity, const SessionSettings& settings = usual()) {
    port.in_flight.clear();
    deployment = std::make_unique<Deployment>(std::vector<std::string>{"redis_7070"}, 6, deployment_identity(identity));
    session = std::make_unique<ShardSession>(settings, identity, "new", ShardBuckets(d.placement, 0), *deployment,
                                             d.batches, d.lookups, d.memory.statistics(), port);
  }
  void connect() {
    session->tick(now_ms);
    session->on_connected();
  }
  void answer(ShardAnswer answer) { session->on_answer(port.next(), std::move(answer), now_ms, unix_now); }
  void on_broken(const std::string& why, std::uint64_t at_ms) {
    port.lose();
    session->on_broken(why, at_ms);
  }
  /// Connects and passes the first questions of a shard that is in order.
  void come_up(const std::map<std::uint32_t, std::string>& fields = {}) {
    connect();
    answer(facts(topology("known")));
    answer(marks(fields));
    REQUIRE(session->state() == ShardState::up);
  }
  void come_up_quietly() {
    come_up();
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
  /// The same, and the shard answers the batch with an error. Returns the batch's mark.
  [[nodiscard]] std::string seal_and_refuse(const std::string& page) {
    seal(page);
    answer(Refused{"BUSY"});
    return to_text(d.batches.unanswered(d.memory.bucket_of(page))->mark);
  }
  /// Somebody reads the page, and the shard is asked.
  void look_up(const std::string& page) {
    REQUIRE(d.memory.ask(0, page) == Published::published);
    REQUIRE(d.lookups.run(now_ms));
    REQUIRE(session->look_up(d.number_of(page), d.memory.bucket_of(page), page));
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

  Deciders d{six_of_eight()};
  RecordingPort port;
  std::unique_ptr<Deployment> deployment;
  std::unique_ptr<ShardSession> session;
  std::uint64_t now_ms = 10000;
};

}  // namespace

// ---- coming up

TEST_CASE("a fresh shard is made restartably: topology, each bucket, and then it is made") {
  Talk t;
  CHECK(t.session->state() == ShardState::connecting);
  t.session->tick(t.now_ms);
  t.session->tick(t.now_ms);
  CHECK(t.port.take() == Events{"connect"});
  t.session->on_connected();
  CHECK(t.port.take() == Events{"facts?"});
  t.answer(Talk::facts(""));
  CHECK(t.port.take() == Events{"topology =" + Talk::topology("new", "making")});
  t.answer(Topology{Talk::topology("new", "making")});
  CHECK(t.port.take() == Events{"marks?"});
  t.answer(t.marks({}, ""));
  CHECK(t.port.take() == Events{"stamp new 2"});
  CHECK(t.session->state() == ShardState::connecting);
  t.answer(t.marks({}, "new 2"));
  CHECK(t.session->state() == ShardState::up);
  CHECK(t.port.states == std::vector<std::pair<ShardState, std::string>>{{ShardState::up, ""}});
  t.session->tick(t.now_ms + 1);
  t.session->tick(t.now_ms + 2);
  CHECK(t.port.take() == Events{"topology " + Talk::topology("new", "making") + "=" + Talk::topology("new")});
  t.answer(Topology{Talk::topology("new")});
  t.session->tick(t.now_ms + 3);
  CHECK(t.port.take().empty());
  const Transaction transaction = t.d.commit(false);
  REQUIRE(transaction.identities.size() == 2);
  CHECK(transaction.identities[0].shard == "redis_7070");
  CHECK(transaction.identities[0].identity == "new 2");
  CHECK(transaction.identities[1].shard == deployment_row);
}

TEST_CASE("a fresh shard that another host has just begun to make keeps that host's identity") {
  Talk t;
  t.connect();
  t.answer(Talk::facts(""));
  t.answer(Topology{Talk::topology("other", "making")});
  t.answer(t.marks({}, "other 2"));
  t.answer(t.marks({}, "other 2"));
  CHECK(t.session->state() == ShardState::up);
  CHECK(t.d.commit(false).identities.at(0).identity == "other 2");
}

TEST_CASE("a bucket of another deployment is never stamped over") {
  Talk t;
  t.connect();
  t.answer(Talk::facts(Talk::topology("known", "making")));
  t.answer(t.marks({}, ""));
  t.answer(t.marks({}, "another 2"));
  t.check_held("another 2");
}

TEST_CASE("a fresh deployment has one identity: its first shard's, once all have answered") {
  DeciderSettings two_shards;
  two_shards.shard_of_bucket = {0, 0, 1, 1};
  two_shards.shards = 2;
  Deciders d(two_shards);
  RecordingPort ports[2];
  Deployment deployment({"b", "a"}, 4, "");
  SessionSettings settings = Talk::usual();
  settings.shard = "b";
  ShardSession b(settings, "", "identity-b", ShardBuckets(d.placement, 0), deployment, d.batches, d.lookups,
                 d.memory.statistics(), ports[1]);
  settings.shard = "a";
  ShardSession a(settings, "", "identity-a", ShardBuckets(d.placement, 1), deployment, d.batches, d.lookups,
                 d.memory.statistics(), ports[0]);
  const std::string on_a = "identity-a 2 making a " + layout;
  const std::string on_b = "identity-a 2 making b " + layout;
  for (ShardSession* session : {&a, &b}) {
    session->tick(0);
    session->on_connected();
  }
  b.on_answer(ports[1].next(), Talk::facts(""), 0, 0);
  CHECK(b.why().find("waiting for shard a") != std::string::npos);
  a.on_answer(ports[0].next(), Talk::facts(""), 0, 0);
  CHECK(ports[0].take().back() == "topology =" + on_a);
  ports[1].take();
  b.tick(1);
  b.on_answer(ports[1].next(), Talk::facts(""), 1, 0);
  CHECK(ports[1].take() == Events{"facts?"});  // still undecided
  a.on_answer(ports[0].next(), Topology{on_a}, 2, 0);
  b.tick(3);
  b.on_answer(ports[1].next(), Talk::facts(""), 3, 0);
  CHECK(ports[1].take().back() == "topology =" + on_b);

  SUBCASE("a shard that the others have been made with was emptied") {
    Deployment other({"a", "b"}, 4, "");
    RecordingPort port;
    settings.shard = "b";
    ShardSession fresh(settings, "", "identity-b", ShardBuckets(d.placement, 0), other, d.batches, d.lookups,
                       d.memory.statistics(), port);
    other.saw("a", parse_topology("identity-a 2 made a " + layout));
    other.adopt("identity-a");
    fresh.tick(0);
    fresh.on_connected();
    fresh.on_answer(port.next(), Talk::facts(""), 0, 0);
    fresh.on_answer(port.next(), Marks{{{"", ""}, {"", ""}}}, 0, 0);
    CHECK(fresh.state() == ShardState::held);
    CHECK(fresh.why().find("the other shards say that the deployment is made") != std::string::npos);
  }
}

TEST_CASE("a deployment of the version before is taken over, when marks agree") {
  Talk t;
  t.d.count_one(t.d.memory.page_in(2));
  t.begin("old");
  t.connect();
  t.answer(Talk::facts("old 1 " + layout));
  t.port.take();
  t.answer(t.marks({}, ""));
  CHECK(t.port.take() == Events{"topology old 1 " + layout + "=" + Talk::topology("old", "making")});
  t.answer(Topology{Talk::topology("old", "making")});
  t.answer(t.marks({}, ""));
  CHECK(t.port.take() == Events{"marks?", "stamp old 2"});
  t.answer(t.marks({}, "old 2"));
  CHECK(t.session->state() == ShardState::up);

  Talk lost;
  lost.d.count_one(lost.d.memory.page_in(2));
  static_cast<void>(lost.d.commit(false, unix_now + 600));
  lost.begin("old");
  lost.connect();
  lost.answer(Talk::facts("old 1 " + layout));
  lost.answer(lost.marks({{2, ""}}, ""));
  lost.check_held("holds nothing of what was acknowledged");
}

TEST_CASE("a shard of the version before that was taken over already was restored from an old copy") {
  Talk t(id);
  t.connect();
  t.answer(Talk::facts("known 1 " + layout));
  t.answer(t.marks({}, ""));
  t.check_held("restored from a copy older");
}

TEST_CASE("a server that will not say how it is set up is taken, and that is said once") {
  Talk t(id);
  for (int times = 0; times < 2; ++times) {
    t.connect();
    t.answer(Facts{std::nullopt, std::nullopt, Talk::topology("known"), std::nullopt});
    t.answer(t.marks());
    CHECK(t.session->state() == ShardState::up);
    t.on_broken("reset", t.now_ms);
    t.now_ms += 500;
  }
  REQUIRE(t.port.warnings.size() == 1);
  CHECK(t.port.warnings[0].find("maxmemory-policy") != std::string::npos);
}

TEST_CASE("a known shard is asked for the marks of all its buckets, once a connection") {
  Talk t;
  t.d.count_one(t.d.memory.page_in(2));
  t.begin(id);
  t.connect();
  t.port.take();
  t.answer(Talk::facts(Talk::topology("known")));
  CHECK(t.port.take() == Events{"marks?"});
  CHECK(t.session->state() == ShardState::connecting);
  t.answer(t.marks());
  CHECK(t.session->state() == ShardState::up);
  CHECK(t.port.take().empty());
}

TEST_CASE("a broken connection is tried again after a while, and what it carried is void") {
  Talk t(id);
  t.come_up_quietly();
  t.on_broken("reset by peer", t.now_ms);
  CHECK(t.session->state() == ShardState::down);
  CHECK(t.session->why() == "reset by peer");
  t.session->tick(t.now_ms + 499);
  CHECK(t.port.take().empty());
  t.session->tick(t.now_ms + 500);
  CHECK(t.port.take() == Events{"connect"});
  t.on_broken("refused", t.now_ms + 600);
  CHECK(t.session->why() == "refused");
}

TEST_CASE("a connection that had lasted is tried again at once, and then after a while") {
  Talk t(id);
  t.come_up_quietly();
  t.now_ms += 500;
  t.on_broken("reset by peer", t.now_ms);
  CHECK(t.session->state() == ShardState::down);
  t.session->tick(t.now_ms);
  CHECK(t.port.take() == Events{"connect"});
  t.on_broken("refused", t.now_ms);
  t.session->tick(t.now_ms + 499);
  CHECK(t.port.take().empty());
  t.session->tick(t.now_ms + 500);
  CHECK(t.port.take() == Events{"connect"});
}

// ---- what cannot be trusted is held

TEST_CASE("a server that may lose counts is unfit, unless that was accepted") {
  Talk evicting(id);
  evicting.connect();
  evicting.answer(Facts{"allkeys-lru", "yes", Talk::topology("known")});
  REQUIRE(evicting.port.unfits.size() == 1);
  CHECK(evicting.port.unfits[0].find("redis.accept_eviction") != std::string::npos);
  evicting.check_held("maxmemory-policy is allkeys-lru");

  Talk forgetful(id);
  forgetful.connect();
  forgetful.answer(Facts{"noeviction", "no", Talk::topology("known")});
  CHECK(forgetful.port.unfits.size() == 1);
  forgetful.check_held("append-only");
  CHECK_THROWS_WITH_AS(static_cast<void>(forgetful.session->offer()), doctest::Contains("cannot be accepted"), Error);

  SessionSettings settings = Talk::usual();
  settings.accept_eviction = settings.accept_no_append_only = true;
  Talk accepted(id, settings);
  accepted.connect();
  accepted.answer(Facts{"allkeys-lru", "no", Talk::topology("known")});
  accepted.answer(accepted.marks());
  CHECK(accepted.session->state() == ShardState::up);
  CHECK(accepted.port.unfits.empty());
}

TEST_CASE("what a server is is asked again on the living connection") {
  const auto ask = [](Talk& t) {
    t.come_up_quietly();
    t.session->tick(t.now_ms + 4999);
    CHECK(t.port.take().empty());
    t.session->tick(t.now_ms += 5000);
    t.session->tick(t.now_ms + 1);
    CHECK(t.port.take() == Events{"facts?"});
  };
  Talk policy(id);
  ask(policy);
  policy.answer(Facts{"allkeys-lru", "yes", Talk::topology("known")});
  policy.check_held("maxmemory-policy is allkeys-lru");

  Talk replica(id);
  ask(replica);
  replica.answer(Facts{"noeviction", "yes", Talk::topology("known"), "slave"});
  CHECK(replica.session->state() == ShardState::refuses_writes);
  CHECK(replica.session->why().find("is a replica") != std::string::npos);
  replica.seal(replica.d.memory.page_in(2));
  CHECK(replica.port.take().empty());  // one that can be written would lose it
  CHECK(replica.session->look_up(0, 3, "page"));
  CHECK(replica.port.take() == Events{"count? page"});
  replica.answer(Count{id, 0, "", "", 12, true});
  replica.session->tick(replica.now_ms += 5000);
  replica.port.take();
  replica.answer(Talk::facts(Talk::topology("known")));
  CHECK(replica.session->state() == ShardState::up);
  CHECK(replica.port.take() == Events{"batch 2 #1"});

  for (const std::string& topology : {std::string(), Talk::topology("other"), "known 2 made redis_7071 " + layout}) {
    Talk emptied(id);
    ask(emptied);
    emptied.answer(Talk::facts(topology));
    CHECK(emptied.port.take() == Events{"close"});
    CHECK_FALSE(emptied.session->look_up(0, 3, "page"));
  }
}

TEST_CASE("a shard that was emptied is held, whether it is known by its identity or by its marks alone") {
  Talk by_identity(id);
  by_identity.connect();
  by_identity.answer(Talk::facts(""));
  by_identity.answer(by_identity.marks({}, ""));
  by_identity.check_held("emptied or replaced");

  Talk by_marks;
  by_marks.d.count_one(by_marks.d.memory.page_in(1));
  by_marks.connect();
  by_marks.answer(Talk::facts(""));
  by_marks.answer(by_marks.marks({{1, ""}}, ""));
  by_marks.check_held("emptied or replaced");
}

TEST_CASE("a bucket that was emptied, or is of another deployment, holds the shard") {
  for (const std::string& held : {std::string(), std::string("another 2")}) {
    Talk t(id);
    t.connect();
    t.answer(Talk::facts(Talk::topology("known")));
    Marks marks = t.marks();
    marks.buckets[4].id = held;
    t.answer(marks);
    t.check_held(held.empty() ? "bucket 4 has been emptied" : "bucket 4 has the identity 'another 2'");
  }
}

TEST_CASE("another server, another layout, and swapped addresses are held") {
  Talk identity(id);
  identity.connect();
  identity.answer(Talk::facts(Talk::topology("other")));
  identity.answer(identity.marks({}, "other 2"));
  identity.check_held("its identity is other, and known was known");

  Talk buckets(id);
  buckets.connect();
  buckets.answer(Talk::facts("known 2 made redis_7070 4096 100 redis_7070"));
  buckets.check_held("laid out as '4096 100 redis_7070'");

  Talk swapped(id);
  swapped.connect();
  swapped.answer(Talk::facts("known 2 made redis_7071 " + layout));
  swapped.check_held("says that it is shard redis_7071");
  CHECK_THROWS_WITH_AS(static_cast<void>(swapped.session->offer()), doctest::Contains("cannot be accepted"), Error);

  Talk nonsense(id);
  nonsense.connect();
  nonsense.answer(Talk::facts("known"));
  nonsense.check_held("laid out as 'known'");
}

TEST_CASE("of two shards that are one server and database, one gives way: the one that the server does not name") {
  const std::string layout_of_two = "8 100 a b";
  Deployment deployment({"b", "a"}, 4, "");
  const TopologyText none;
  CHECK_FALSE(deployment.twin_of("b", none));
  deployment.note_server("a", "run1 0", "127.0.0.1:7070");
  deployment.note_server("b", "run1 1", "127.0.0.2:7070");
  CHECK_FALSE(deployment.twin_of("b", none));  // another database
  deployment.note_server("b", "run1 0", "127.0.0.2:7070");
  CHECK_FALSE(deployment.twin_of("a", none));
  REQUIRE(deployment.twin_of("b", none));
  CHECK(deployment.twin_of("b", none)->name == "a");
  CHECK(deployment.twin_of("b", none)->address == "127.0.0.1:7070");
  // Where the counts of b are there already, a is the one whose address is wrong.
  const TopologyText of_b = parse_topology("known 2 made b " + layout_of_two);
  CHECK_FALSE(deployment.twin_of("b", of_b));
  REQUIRE(deployment.twin_of("a", of_b));
  CHECK(deployment.twin_of("a", of_b)->name == "b");
}

TEST_CASE("marks that nothing explains hold the shard, after all of them are known") {
  const std::pair<const char*, const char*> cases[] = {
      {"", "holds nothing of what was acknowledged"},
      {"(the key is not a hash)", "is no hash"},
      {"1-0000000000000abc 1 0000000000000007", "restored from a copy older"},
      {"1-0000000000000abc 9 0000000000000007", "does not know"},
      {"7-0000000000000def 9 0000000000000007", "newer flusher"},
  };
  for (const auto& [held, why] : cases) {
    CAPTURE(held);
    Talk t(id);
    t.d.count_one(t.d.memory.page_in(2, 0));
    t.d.count_one(t.d.memory.page_in(2, 1));
    t.d.count_one(t.d.memory.page_in(4));
    static_cast<void>(t.d.commit(false, unix_now + 600));  // the kept batches are forgotten
    t.connect();
    t.answer(Talk::facts(Talk::topology("known")));
    t.answer(t.marks({{2, held}}));
    t.check_held(why);
    CHECK(t.session->why().find("bucket 2") != std::string::npos);
  }
}

TEST_CASE("a bucket that has our mark though we never wrote it holds the shard, and can be accepted") {
  Talk t(id);
  t.connect();
  t.answer(Talk::facts(Talk::topology("known")));
  t.answer(t.marks({{3, "1-0000000000000abc 9 0000000000000007"}}));
  t.check_held("newer flusher");
  t.session->accept(t.session->offer().token, t.now_ms);
  t.connect();
  t.answer(Talk::facts(Talk::topology("known")));
  t.answer(t.marks({{3, "1-0000000000000abc 9 0000000000000007"}}));
  t.answer(t.marks());
  CHECK(t.session->state() == ShardState::up);
  t.on_broken("reset", t.now_ms);
  t.now_ms += 500;
  t.come_up();  // for good
}

TEST_CASE("a held shard is up again as soon as it is what was left") {
  Talk t(id);
  t.connect();
  t.answer(Talk::facts(""));
  t.answer(t.marks({}, ""));
  t.check_held("emptied");
  t.on_broken("refused", t.now_ms);
  CHECK(t.session->state() == ShardState::held);  // why it is held matters more than that it is away
  t.now_ms += 5000;
  t.come_up_quietly();
}

// ---- batches

TEST_CASE("a batch is sent once it is durable, and its answer ends it") {
  Talk t(id);
  t.come_up_quietly();
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
  Talk t(id, settings);
  t.come_up_quietly();
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
  t.begin(id);
  t.connect();
  t.answer(Talk::facts(Talk::topology("known")));
  CHECK_FALSE(t.session->look_up(0, 2, page));
  t.port.take();
  t.answer(t.marks({{2, fallen_back_to}, {4, ""}}));
  CHECK(t.session->state() == ShardState::up);
  // One batch of a bucket at a time; what is lost is not read.
  CHECK(t.port.take() == Events{"batch 2 #2", "batch 4 #1"});
  CHECK_FALSE(t.session->look_up(0, 2, page));
  t.answer(Talk::applied({2}));
  CHECK(t.port.take() == Events{"batch 2 #3"});
  t.answer(Talk::applied({1}));
  t.answer(Talk::applied({3}));
  CHECK(t.session->look_up(0, 2, page));
  CHECK(t.port.take() == Events{"batch 2 #4", "count? " + page});
  CHECK(t.d.memory.statistic(FlusherStatistic::batches_sent_again) == 2);
  // Repairs change nothing of what is known.
  CHECK(t.d.batches.last_seq(2) == 3);
  t.answer(Talk::applied({4}));
  CHECK(t.d.batches.last_seq(2) == 4);
}

TEST_CASE("a page that a shard cannot take again is set aside alone") {
  Talk t;
  t.d.visit(t.d.memory.page_in(2, 0), 3);
  t.d.visit(t.d.memory.page_in(2, 1), 4);
  static_cast<void>(t.d.batches.begin_flush());
  static_cast<void>(t.d.commit(true));
  t.d.answer_as_first(2);
  static_cast<void>(t.d.commit(false));
  t.begin(id);
  t.come_up({{2, ""}});
  CHECK(t.port.events.back() == "batch 2 #1");
  BatchAnswer refused = Talk::other(BatchAnswer::Kind::refused, "no integer");
  refused.bad_series = {0};
  t.answer(refused);
  CHECK(t.session->state() == ShardState::up);
  CHECK(t.port.events.back() == "batch 2 #1");
  const Transaction transaction = t.d.commit(false);
  REQUIRE(transaction.set_aside.size() == 1);
  CHECK(transaction.set_aside[0].effect == Effect{t.d.memory.page_in(2, 0), 3});
  t.answer(Talk::applied({4}));
  CHECK(t.session->look_up(0, 2, "page"));
  CHECK(t.d.memory.statistic(FlusherStatistic::pages_set_aside) == 1);
}

TEST_CASE("a repair that is not taken leads to another look at the shard") {
  Talk t;
  const std::string page = t.d.memory.page_in(2);
  t.d.count_one(page);
  t.begin(id);
  t.connect();
  t.answer(Talk::facts(Talk::topology("known")));
  t.answer(t.marks({{2, ""}}));
  t.port.take();
  t.answer(Talk::other(BatchAnswer::Kind::have, "something"));
  CHECK(t.port.take() == Events{"close"});
  CHECK(t.session->state() == ShardState::connecting);
  t.session->tick(t.now_ms + 500);
  CHECK(t.port.take() == Events{"connect"});
}

TEST_CASE("a batch whose answer was lost is sent again on the next connection, whether it was executed or not") {
  for (const bool executed : {false, true}) {
    Talk t(id);
    t.come_up_quietly();
    t.seal(t.d.memory.page_in(2));
    t.on_broken("reset", t.now_ms);
    t.now_ms += 500;
    t.connect();
    t.answer(Talk::facts(Talk::topology("known")));
    t.port.take();
    t.answer(t.marks({{2, executed ? to_text(t.d.batches.unanswered(2)->mark) : ""}}));
    CHECK(t.session->state() == ShardState::up);
    CHECK(t.port.take() == Events{"batch 2 #1"});
  }
}

TEST_CASE("a mark that is neither the expected nor the new one leads to another look at the shard") {
  Talk t(id);
  t.come_up_quietly();
  t.seal(t.d.memory.page_in(2));
  t.port.take();
  t.answer(Talk::other(BatchAnswer::Kind::have, "1-0000000000000abc 9 0000000000000007"));
  CHECK(t.port.take() == Events{"close"});
  CHECK(t.session->state() == ShardState::connecting);
  CHECK(t.session->why().find("9 0000000000000007") != std::string::npos);
  REQUIRE(t.d.batches.unanswered(2) != nullptr);  // kept for what the look finds
}

TEST_CASE("a bucket that cannot be written at all holds the shard") {
  Talk t(id);
  t.come_up_quietly();
  t.seal(t.d.memory.page_in(2));
  t.answer(Talk::other(BatchAnswer::Kind::refused, "no hash"));
  t.check_held("no hash");
  CHECK(t.d.batches.unanswered(2) != nullptr);
}

TEST_CASE("a bucket that has moved away is told, and its batch waits") {
  Talk t(id);
  t.come_up_quietly();
  t.seal(t.d.memory.page_in(2));
  CHECK(t.port.take() == Events{"batch 2 #1"});
  t.answer(Talk::other(BatchAnswer::Kind::moved, "redis_7071 2"));
  CHECK(t.port.take() == Events{"moved 2 to redis_7071 2"});
  CHECK(t.session->state() == ShardState::up);
  CHECK(t.d.batches.unanswered(2) != nullptr);
}

TEST_CASE("a batch whose bucket is being moved is tried again") {
  Talk t(id);
  t.come_up_quietly();
  t.seal(t.d.memory.page_in(2));
  t.answer(Talk::other(BatchAnswer::Kind::moving, "redis_7071 2"));
  t.port.take();
  t.session->tick(t.now_ms);
  CHECK(t.port.take().empty());
  t.session->tick(t.now_ms + 50);
  CHECK(t.port.take() == Events{"batch 2 #1"});
}

TEST_CASE("a later layout is followed") {
  Talk t(id);
  t.connect();
  t.answer(Talk::facts("known 3 made redis_7070 2 6 100 redis_7070;b=redis://b:1 -"));
  CHECK(t.port.take() == Events{"connect", "facts?", "layout 2 6 100 redis_7070;b=redis://b:1 -"});
  CHECK(t.session->state() == ShardState::connecting);
}

TEST_CASE("a shard that has an earlier layout is told the later one") {
  SessionSettings settings = Talk::usual();
  settings.layout = "2 6 100 redis_7070;b=redis://b:1 -";
  settings.version = 2;
  Talk t(id, settings);
  t.connect();
  t.answer(Talk::facts(Talk::topology("known")));
  const std::string later = "known 3 made redis_7070 " + settings.layout;
  CHECK(t.port.take() == Events{"connect", "facts?", "topology " + Talk::topology("known") + "=" + later});
  t.answer(Topology{later});
  t.answer(t.marks());
  CHECK(t.session->state() == ShardState::up);
}

TEST_CASE("a shard in use is told another layout on the same connection") {
  Talk t(id);
  t.come_up_quietly();
  CHECK(t.session->knows_layout());
  SessionSettings settings = Talk::usual();
  settings.layout = "2 6 100 redis_7070;b=redis://b:1 -";
  settings.version = 2;
  const std::string later = "known 3 made redis_7070 " + settings.layout;
  t.session->use(settings);
  CHECK_FALSE(t.session->knows_layout());
  CHECK(t.port.take() == Events{"topology " + Talk::topology("known") + "=" + later});
  t.answer(Topology{later});
  CHECK(t.session->knows_layout());
  CHECK(t.session->state() == ShardState::up);
  // One that has gone back to the former layout, as a server without its tail has, is told again.
  t.session->tick(t.now_ms + 5000);
  CHECK(t.port.take() == Events{"facts?"});
  t.answer(Talk::facts(Talk::topology("known")));
  CHECK_FALSE(t.session->knows_layout());
  CHECK(t.port.take() == Events{"topology " + Talk::topology("known") + "=" + later});
  t.answer(Topology{later});
  CHECK(t.session->knows_layout());
  CHECK(t.port.take().empty());
}

TEST_CASE("a shard that is just being looked at is looked at anew for another layout") {
  Talk t(id);
  t.connect();
  t.answer(Talk::facts(Talk::topology("known")));
  CHECK(t.port.take() == Events{"connect", "facts?", "marks?"});
  SessionSettings settings = Talk::usual();
  settings.layout = "2 6 100 redis_7070;b=redis://b:1 -";
  settings.version = 2;
  t.session->use(settings);
  t.session->tick(t.now_ms);
  CHECK(t.port.take() == Events{"close", "connect"});
}

TEST_CASE("what says that there is a later layout has the shard asked for it, and looked at anew if it knows of none") {
  Talk t(id);
  t.come_up_quietly();
  t.session->expect_later_layout("bucket 2 has moved");
  t.session->tick(t.now_ms);
  CHECK(t.port.take() == Events{"facts?"});
  t.answer(Talk::facts("known 3 made redis_7070 2 6 100 redis_7070;b=redis://b:1 -"));
  CHECK(t.port.take() == Events{"layout 2 6 100 redis_7070;b=redis://b:1 -"});
  Talk none(id);
  none.come_up_quietly();
  none.session->expect_later_layout("bucket 2 has moved");
  none.session->tick(none.now_ms);
  none.answer(Talk::facts(Talk::topology("known")));
  CHECK(none.port.take() == Events{"facts?", "close"});
  CHECK(none.session->why() == "bucket 2 has moved");
}

TEST_CASE("a shard that joins is made part of the deployment, and holds no bucket yet") {
  SessionSettings settings = Talk::usual();
  settings.layout = "2 6 100 a redis_7070=redis://b:1";
  settings.version = 2;
  settings.joins = true;
  Talk t("", settings);
  t.deployment->adopt("known");
  t.connect();
  t.answer(Talk::facts(""));
  CHECK(t.port.take() == Events{"connect", "facts?", "topology =known 3 made redis_7070 " + settings.layout});
}

TEST_CASE("pages that are refused are set aside, and the rest is sent when that is durable") {
  Talk t(id);
  t.come_up_quietly();
  t.d.visit(t.d.memory.page_in(2, 0), 3);
  t.seal(t.d.memory.page_in(2, 1), 4);
  CHECK(t.port.take() == Events{"batch 2 #1"});
  BatchAnswer refused = Talk::other(BatchAnswer::Kind::refused, "no integer");
  refused.bad_series = {0};
  t.answer(refused);
  CHECK(t.session->state() == ShardState::up);
  CHECK(t.port.take() == Events{"batch 2 #1"});  // its fence
  t.commit();
  CHECK(t.port.take().empty());
  t.answer(Talk::applied({}));
  CHECK(t.port.take().empty());
  t.commit();
  CHECK(t.port.take() == Events{"batch 2 #2"});
  CHECK(t.d.batches.unanswered(2)->effects == std::vector<Effect>{{t.d.memory.page_in(2, 1), 4}});
  t.answer(Talk::applied({4}));
  CHECK(t.d.batches.unanswered_count() == 0);
}

// ---- accepting

TEST_CASE("an emptied shard is taken as it is when the operator says so, and batches go on from there") {
  Talk t(id);
  const std::string page = t.d.memory.page_in(2);
  t.d.count_one(page);
  t.d.give_entry(page, 100);
  t.d.visit(page, 5);
  static_cast<void>(t.d.batches.begin_flush());
  static_cast<void>(t.d.commit(true));
  static_cast<void>(t.d.commit(false, unix_now + 600));  // nothing is kept that could repair it
  t.connect();
  t.answer(Talk::facts(""));
  t.answer(t.marks({{2, ""}}, ""));
  t.check_held("visitctl accept redis_7070");
  t.on_broken("closed", t.now_ms);
  const AcceptOffer offer = t.session->offer();
  CHECK(offer.buckets == 1);
  CHECK(offer.pages == 1);
  CHECK(offer.visits == 100);
  CHECK(offer.kept_visits == 0);
  CHECK_THROWS_WITH_AS(t.session->accept(offer.token + 1, t.now_ms), doctest::Contains("has changed"), Error);
  t.session->accept(offer.token, t.now_ms);
  t.connect();
  t.port.take();
  t.answer(Talk::facts(""));
  CHECK(t.port.take() == Events{"topology =" + Talk::topology("known", "making")});
  t.answer(Topology{Talk::topology("known", "making")});
  t.answer(t.marks({{2, ""}}, ""));
  CHECK(t.port.take() == Events{"marks?", "stamp " + id});
  t.answer(t.marks());
  CHECK(t.session->state() == ShardState::up);
  CHECK_FALSE(t.d.memory.entry(page).there);  // what it said of the old data is void
  CHECK(t.port.take().empty());               // not before its new expectation is durable
  t.commit();
  CHECK(t.port.take() == Events{"batch 2 #2"});
  CHECK(t.d.batches.unanswered(2)->expected.empty());
  t.answer(Talk::applied({5}));

  // Accepted once, not for ever.
  t.on_broken("reset", t.now_ms);
  t.now_ms += 500;
  t.connect();
  t.answer(Talk::facts(""));
  t.answer(t.marks({}, ""));
  CHECK(t.session->state() == ShardState::held);
}

namespace {

/// What a shard holds that has forgotten this writer. `gone`: by bucket, the mark that was taken out.
Marks forgotten_marks(const std::map<std::uint32_t, std::string>& gone) {
  Marks marks{std::vector<Marks::Held>(6, {id, ""})};
  for (const auto& [bucket, mark] : gone) marks.buckets[bucket].gone = mark;
  return marks;
}

/// It is held, somebody says that it goes on, and it looks again.
void accept_and_look(Talk& t, const Marks& marks) {
  t.session->accept(t.session->offer().token, t.now_ms);
  t.connect();
  t.answer(Talk::facts(Talk::topology("known")));
  t.port.take();
  t.answer(marks);
}

}  // namespace

TEST_CASE("a writer that was forgotten is held, and goes on exactly where it was once somebody says so") {
  Talk t(id);
  t.d.count_one(t.d.memory.page_in(1));
  t.d.count_one(t.d.memory.page_in(2));
  const std::string answered = t.d.batches.field(1);
  // Of bucket 2 one more batch was executed, of bucket 3 the first: their answers were lost.
  t.seal(t.d.memory.page_in(2));
  t.seal(t.d.memory.page_in(3));
  t.begin(id);  // another life
  const std::string second = to_text(t.d.batches.unanswered(2)->mark);
  const std::string first = to_text(t.d.batches.unanswered(3)->mark);
  const Marks marks = forgotten_marks({{1, answered}, {2, second}, {3, first}});
  t.connect();
  t.answer(Talk::facts(Talk::topology("known")));
  t.answer(marks);
  CHECK(t.session->why().find("has forgotten this host") != std::string::npos);
  t.check_held("visitctl accept redis_7070");
  t.on_broken("closed", t.now_ms);
  CHECK(t.session->offer().buckets == 0);  // nothing is given up
  accept_and_look(t, marks);
  CHECK(t.port.take() == Events{"stamp " + id});
  t.answer(t.marks({{1, ""}, {2, ""}, {3, ""}}));
  CHECK(t.session->state() == ShardState::up);
  // Each mark before the batch that follows it, and before any read.
  CHECK(t.port.take() == Events{"rejoin 1 #1", "rejoin 2 #2", "rejoin 3 #1"});
  CHECK_FALSE(t.session->look_up(0, 1, "page"));
  for (int n = 0; n < 3; ++n) t.answer(Talk::applied({}));
  CHECK(t.port.take() == Events{"batch 2 #2", "batch 3 #1"});
  CHECK(t.session->look_up(0, 1, "page"));
}

TEST_CASE("what a shard had lost when it forgot a writer is sent again after the mark that it had") {
  Talk t(id);
  t.d.count_one(t.d.memory.page_in(1));
  const std::string kept = t.d.batches.field(1);
  t.d.count_one(t.d.memory.page_in(1));
  t.d.count_one(t.d.memory.page_in(2));
  const Marks marks = forgotten_marks({{1, kept}});  // bucket 2 had lost all of it
  t.connect();
  t.answer(Talk::facts(Talk::topology("known")));
  t.answer(marks);
  const AcceptOffer offer = t.session->offer();
  CHECK(offer.buckets == 2);
  CHECK(offer.kept_visits == 2);
  accept_and_look(t, marks);
  t.port.take();
  t.answer(t.marks({{1, ""}, {2, ""}}));
  CHECK(t.port.take() == Events{"rejoin 1 #1", "batch 2 #1"});
  t.answer(Talk::applied({}));
  CHECK(t.port.take() == Events{"batch 1 #2"});
}

TEST_CASE("a tombstone that this spool does not know is what the bucket holds once somebody says so") {
  Talk t(id);
  t.d.count_one(t.d.memory.page_in(2));
  const std::string unknown = "1-0000000000000009 7 0000000000000009";
  const Marks marks = forgotten_marks({{2, unknown}});
  t.connect();
  t.answer(Talk::facts(Talk::topology("known")));
  t.answer(marks);
  t.check_held("has forgotten this host");
  t.on_broken("closed", t.now_ms);
  CHECK(t.session->offer().buckets == 1);
  CHECK(t.session->offer().kept_visits == 0);
  accept_and_look(t, marks);
  t.answer(t.marks());
  CHECK(t.port.take().back() == "rejoin 2 #7");
  CHECK(t.d.batches.field(2) == unknown);
  // What is no mark cannot be put back.
  Talk other(id);
  other.connect();
  other.answer(Talk::facts(Talk::topology("known")));
  other.answer(forgotten_marks({{2, "something"}}));
  other.check_held("which is no mark");
  CHECK_THROWS_AS(static_cast<void>(other.session->offer()), Error);
}

TEST_CASE("one bucket tells a writer that lives that it was forgotten; and more of them are one more question") {
  Talk t(id);
  t.come_up_quietly();
  t.d.count_one(t.d.memory.page_in(1));
  const std::string mark = t.d.batches.field(1);
  t.seal(t.d.memory.page_in(1));
  t.answer(Talk::other(BatchAnswer::Kind::forgotten, ""));
  CHECK(t.session->state() == ShardState::connecting);
  t.now_ms += 10'000;
  t.connect();
  t.answer(Talk::facts(Talk::topology("known")));
  t.answer(forgotten_marks({{1, mark}}));
  CHECK(t.session->state() == ShardState::held);
  // Meanwhile another bucket's mark was taken out.
  const std::string other = "1-0000000000000009 7 0000000000000009";
  accept_and_look(t, forgotten_marks({{1, mark}, {2, other}}));
  CHECK(t.session->why().find("has forgotten this host") != std::string::npos);
  CHECK(t.session->state() == ShardState::held);
}

TEST_CASE("whoever goes on does so in a bucket that comes only later, too; but only once") {
  Talk t(id);
  t.d.count_one(t.d.memory.page_in(1));
  const std::string mark = t.d.batches.field(1);
  t.connect();
  t.answer(Talk::facts(Talk::topology("known")));
  t.answer(forgotten_marks({{1, mark}}));
  CHECK(t.session->state() == ShardState::held);
  t.session->accept(t.session->offer().token, t.now_ms);
  CHECK(t.d.batches.may_rejoin(1, mark));
  CHECK_FALSE(t.d.batches.may_rejoin(2, mark));
  t.connect();
  t.answer(Talk::facts(Talk::topology("known")));
  t.answer(forgotten_marks({{1, mark}}));
  t.answer(t.marks({{1, ""}}));
  t.port.take();
  t.answer(Talk::applied({}));
  CHECK_FALSE(t.d.batches.may_rejoin(1, mark));
}

TEST_CASE("writers are noted, asked for and forgotten on a shard that is up") {
  Talk t(id);
  int noted = 0;
  std::vector<std::string> told;
  const auto writers = [&](const std::optional<Writers>& said) {
    told.push_back(said ? std::to_string(said->fields.size()) : "none");
  };
  const auto note = [&] { t.session->note_writer({{{"a", "note"}}}, [&](bool here) { noted += here ? 1 : 100; }); };
  note();
  t.session->ask_writers(writers);
  CHECK(told == std::vector<std::string>{"none"});
  t.come_up_quietly();
  note();
  note();  // the one before has no answer
  t.session->ask_writers(writers);
  CHECK(t.port.take() == Events{"note a=note", "writers?"});
  t.answer(Noted{});
  CHECK(noted == 1);
  t.answer(Writers{{{"a", "x"}, {"b", "y"}}});
  CHECK(told == std::vector<std::string>{"none", "2"});
  // Of a cluster, another node knows them.
  t.session->ask_writers(writers);
  t.answer(Redirect{"10.0.0.2:7001", false});
  CHECK(told.back() == "0");
  note();
  t.answer(Redirect{"10.0.0.2:7001", false});
  CHECK(noted == 101);
}

TEST_CASE("a writer is forgotten in the buckets that are here, and in those that are elsewhere later") {
  Talk t(id);
  t.come_up_quietly();
  std::vector<ShardSession::ForgottenSome> told;
  const auto forget = [&](const std::vector<std::uint32_t>& buckets) {
    t.session->forget("b", buckets, [&](const ShardSession::ForgottenSome& some) { told.push_back(some); });
  };
  using Bucket = Forgotten::Bucket;
  using Became = Bucket::Kind;
  forget({0, 1, 2, 3});
  CHECK(t.port.take() == Events{"forget b in 4"});
  t.answer(Forgotten{
      {Bucket{Became::taken_out}, Bucket{Became::nothing}, Bucket{Became::not_now}, Bucket{Became::moved, "b 2"}}});
  REQUIRE(told.size() == 1);
  CHECK(told[0].taken_out == 1);
  CHECK(told[0].later == std::vector<std::uint32_t>{2, 3});
  CHECK_FALSE(told[0].failed);
  CHECK(t.port.take() == Events{"moved 3 to b 2"});
  forget({4});
  t.answer(Redirect{"10.0.0.2:7001", false});
  CHECK(told.back().later == std::vector<std::uint32_t>{4});
  forget({4});
  t.answer(Redirect{"10.0.0.2:7001", true});
  t.answer(Forgotten{{Bucket{Became::taken_out}}});
  CHECK(told.back().taken_out == 1);
  CHECK(t.port.take() ==
        Events{"forget b in 1", "redirected 4 to 10.0.0.2:7001", "forget b in 1", "at 10.0.0.2:7001", "forget b in 1"});
  forget({4});
  t.answer(Refused{"NOPERM"});
  CHECK(told.back().failed);
  forget({4});
  t.on_broken("closed", t.now_ms);
  CHECK(told.back().failed);
}

TEST_CASE("what was accepted is void when the shard has changed meanwhile, or is not held") {
  Talk t(id);
  t.d.count_one(t.d.memory.page_in(2));
  static_cast<void>(t.d.commit(false, unix_now + 600));
  t.connect();
  t.answer(Talk::facts(Talk::topology("known")));
  t.answer(t.marks({{2, "7-0000000000000def 9 0000000000000007"}}));
  t.check_held("visitctl accept");
  t.session->accept(t.session->offer().token, t.now_ms);
  t.connect();
  t.answer(Talk::facts(Talk::topology("known")));
  t.answer(t.marks({{2, "7-0000000000000def 10 0000000000000007"}}));
  t.check_held("has changed since it was accepted");
  t.on_broken("closed", t.now_ms);
  t.come_up();
  CHECK_THROWS_WITH_AS(static_cast<void>(t.session->offer()), doctest::Contains("is up, not held"), Error);
}

TEST_CASE("after an accept every count of the shard is what the shard holds") {
  Talk t(id);
  t.d.count_one(t.d.memory.page_in(2));
  t.d.give_entry(t.d.memory.page_in(3), 50);  // read by this host alone
  static_cast<void>(t.d.commit(false, unix_now + 600));
  t.connect();
  t.answer(Talk::facts(Talk::topology("known")));
  t.answer(t.marks({{2, ""}}));
  t.check_held("visitctl accept");
  t.session->accept(t.session->offer().token, t.now_ms);
  t.connect();
  t.answer(Talk::facts(Talk::topology("known")));
  t.answer(t.marks({{2, ""}}));
  t.answer(t.marks({{2, ""}}));
  CHECK(t.session->state() == ShardState::up);
  CHECK_FALSE(t.d.memory.entry(t.d.memory.page_in(3)).there);
}

TEST_CASE("accepting a shard of another identity repairs what is kept, and its identity is the deployment's") {
  Talk t(id);
  t.d.count_one(t.d.memory.page_in(2));
  t.connect();
  t.answer(Talk::facts(Talk::topology("other")));
  t.answer(t.marks({{2, ""}}, "other 2"));
  t.check_held("visitctl accept");
  CHECK(t.session->offer().kept_visits == 1);
  t.session->accept(t.session->offer().token, t.now_ms);
  t.connect();
  t.answer(Talk::facts(Talk::topology("other")));
  t.answer(t.marks({{2, ""}}, "other 2"));
  t.port.take();
  t.answer(t.marks({{2, ""}}, "other 2"));
  CHECK(t.port.take() == Events{"batch 2 #1"});
  CHECK(t.d.batches.last_seq(2) == 1);
  CHECK(t.d.commit(false).identities.at(0).identity == "other 2");
}

// ---- reads

TEST_CASE("a read goes behind a batch that an earlier connection may have executed") {
  SessionSettings settings = Talk::usual();
  settings.batches_in_flight = 1;
  Talk t(id, settings);
  t.come_up_quietly();
  t.seal(t.d.memory.page_in(1));
  t.seal(t.d.memory.page_in(2));
  CHECK(t.port.take() == Events{"batch 1 #1"});
  // It waits for the window, and was never sent: a read of its pages need not wait with it.
  CHECK(t.session->look_up(0, 2, "page"));
  CHECK(t.port.take() == Events{"count? page"});

  // After a start nobody knows what was sent.
  t.begin(id, settings);
  t.connect();
  t.answer(Talk::facts(Talk::topology("known")));
  t.port.take();
  t.answer(t.marks({{1, ""}, {2, ""}}));
  CHECK(t.port.take() == Events{"batch 1 #1"});
  CHECK(t.session->look_up(0, 2, "page"));
  CHECK(t.port.take() == Events{"batch 2 #1", "count? page forgotten?"});
}

TEST_CASE("a count becomes an entry when the shard is what it is thought to be") {
  const std::string page = Deciders().memory.page_in(2);
  {
    Talk t(id);
    t.come_up_quietly();
    t.look_up(page);
    t.answer(Count{id, 0, "", "", 12, true});
    CHECK(t.d.memory.entry(page) == FlusherMemory::Entry{true, 12, t.now_ms + 5000, 0, 0});
    CHECK(t.d.lookups.take_lanes_to_wake() == 1);
  }
  {
    Talk t(id);
    t.come_up_quietly();
    t.look_up(page);
    t.answer(Count{id, 0, "", "", 0, false});  // its field holds no count
    CHECK(t.d.memory.entry(page) == FlusherMemory::Entry{true, 0, t.now_ms + 5000, 0, 0, true});
    CHECK(t.d.lookups.take_lanes_to_wake() == 1);
    CHECK(t.session->state() == ShardState::up);
  }
  {
    Talk t(id);
    t.come_up_quietly();
    t.look_up(page);
    t.answer(Count{id, 0, "", "1-0000000000000abc 9 0000000000000007", 12, true});
    CHECK_FALSE(t.d.memory.entry(page).there);
    CHECK(t.d.lookups.take_lanes_to_wake() == 1);
    CHECK(t.port.events.back() == "close");
    CHECK(t.session->state() == ShardState::connecting);
  }
  {
    Talk t(id);
    t.come_up_quietly();
    t.look_up(page);
    t.answer(Count{id, 0, "redis_7071", "", 12, true});
    CHECK_FALSE(t.d.memory.entry(page).there);
    CHECK(t.d.lookups.take_lanes_to_wake() == 1);
    CHECK(t.port.events.back() == "moved 2 to redis_7071");
    CHECK(t.session->state() == ShardState::up);
  }
  {
    Talk t(id);
    t.come_up_quietly();
    t.look_up(page);
    t.on_broken("reset", t.now_ms);
    CHECK_FALSE(t.d.memory.entry(page).there);
    CHECK(t.d.lookups.take_lanes_to_wake() == 1);
  }
}

TEST_CASE("an inspection is answered whatever becomes of the connection") {
  Talk t(id);
  std::vector<std::optional<Count>> told;
  const auto inspect = [&] { t.session->inspect(2, "page", [&](auto count) { told.push_back(std::move(count)); }); };
  inspect();
  REQUIRE(told.size() == 1);
  CHECK_FALSE(told[0]);
  t.come_up_quietly();
  inspect();
  CHECK(t.port.take() == Events{"count? page"});
  t.answer(Count{id, 0, "moved", "a field", 12, true});  // for people: nothing is concluded from it
  REQUIRE(told.size() == 2);
  CHECK(told[1]->count == 12);
  CHECK(t.session->state() == ShardState::up);
  inspect();
  t.on_broken("reset", t.now_ms);
  REQUIRE(told.size() == 3);
  CHECK_FALSE(told[2]);
}

TEST_CASE("a count of a bucket that has another identity is never shown, and the shard is looked at again") {
  for (const std::string& held : {std::string(), std::string("another 2")}) {
    Talk t(id);
    const std::string page = t.d.memory.page_in(2);
    t.come_up_quietly();
    t.look_up(page);
    t.answer(Count{held, 0, "", "", 0, true});
    CHECK_FALSE(t.d.memory.entry(page).there);
    CHECK(t.port.events.back() == "close");

    t.now_ms += 500;
    t.come_up_quietly();
    t.seal(page);
    t.answer(Talk::other(BatchAnswer::Kind::foreign, held));
    CHECK(t.port.events.back() == "close");
    CHECK(t.d.batches.unanswered(2) != nullptr);
  }
}

// ---- errors that a server answers

TEST_CASE("a batch that is answered with an error is tried again after 1 s, doubling to 30 s, while reads go on") {
  Talk t(id);
  t.come_up_quietly();
  t.seal(t.d.memory.page_in(2));
  t.seal(t.d.memory.page_in(3));
  t.port.take();
  t.port.states.clear();
  const std::string error = "OOM command not allowed when used memory > 'maxmemory'.";
  t.answer(Refused{error + " script: 5d41402a, on @user_script:59."});
  t.answer(Refused{error});
  CHECK(t.session->state() == ShardState::refuses_writes);
  CHECK(t.session->why() == error);
  CHECK(t.port.states.size() == 1);
  std::uint64_t wait_ms = 1000;
  for (int tries = 0; tries < 8; ++tries) {
    CAPTURE(tries);
    t.session->tick(t.now_ms + wait_ms - 1);
    std::erase(t.port.events, "facts?");
    CHECK(t.port.take().empty());
    t.now_ms += wait_ms;
    t.session->tick(t.now_ms);
    std::erase(t.port.events, "facts?");
    CHECK(t.port.take().size() == 1);  // one finds out
    if (wait_ms >= 4000) t.answer(Talk::facts(Talk::topology("known")));
    t.answer(Refused{error});
    t.session->tick(t.now_ms);
    CHECK(t.port.take().empty());
    // Reads go on; those of a page whose batch waits too.
    CHECK(t.session->look_up(0, 2, "page"));
    CHECK(t.port.take() == Events{"count? page forgotten?"});
    t.answer(Count{id, 0, "", "", 12, true});
    wait_ms = std::min<std::uint64_t>(2 * wait_ms, 30000);
  }
  CHECK(t.port.states.size() == 1);
  t.now_ms += 30000;
  t.session->tick(t.now_ms);
  t.port.take();
  t.answer(Talk::facts(Talk::topology("known")));
  t.answer(Talk::applied({1}));
  CHECK(t.session->state() == ShardState::up);
  CHECK(t.port.take().size() == 1);  // the other one
  t.answer(Talk::applied({1}));
  CHECK(t.d.batches.unanswered_count() == 0);
}

TEST_CASE("a batch that an earlier connection executed is not counted twice by a read while batches wait") {
  Talk t(id);
  t.come_up_quietly();
  const std::string page = t.d.memory.page_in(2);
  const std::string mark = t.seal_and_refuse(page);
  t.look_up(page);
  t.answer(Count{id, 0, "", mark, 1, true});
  CHECK_FALSE(t.d.memory.entry(page).there);
  CHECK(t.session->state() == ShardState::refuses_writes);  // no other connection
}

TEST_CASE(
    "a read that finds a correction executed, which waits until its bucket's next shard was asked, ends no "
    "connection") {
  Talk t(id);
  t.d.placement = Placement(six_of_eight().shard_of_bucket, 2, {0, 0, 1, 0, 0, 0, 1, 1});
  t.come_up_quietly();
  const std::string page = t.d.memory.page_in(2);
  t.d.batches.correct(2, {{page, 5}}, {0, "root", {""}}, "");
  t.commit();
  static_cast<void>(t.d.commit(true));
  t.session->batch_ready(2);
  const std::string mark = to_text(t.d.batches.unanswered(2)->mark);
  CHECK(t.port.take() == Events{"look at next of 2", "batch 2 #1"});
  t.on_broken("reset", t.now_ms);
  t.port.stays_here = false;  // or that is not known
  t.now_ms += 500;
  t.come_up({{2, mark}});
  t.port.take();
  t.look_up(page);
  t.answer(Count{id, 0, "", mark, 5, true});
  CHECK_FALSE(t.d.memory.entry(page).there);
  CHECK(std::ranges::find(t.port.events, "close") == t.port.events.end());
  CHECK(t.session->state() == ShardState::up);
  t.port.stays_here = true;
  t.now_ms += 50;
  t.session->tick(t.now_ms);
  CHECK(t.port.take().back() == "batch 2 #1");
}

TEST_CASE("a read does not take a first batch for one that was not executed where this host was forgotten since") {
  Talk t(id);
  t.come_up_quietly();
  const std::string page = t.d.memory.page_in(2);
  const std::string mark = t.seal_and_refuse(page);
  t.port.take();
  t.look_up(page);
  CHECK(t.port.take() == Events{"count? " + page + " forgotten?"});
  t.answer(Count{id, 0, "", "", 1, true, mark});
  CHECK_FALSE(t.d.memory.entry(page).there);
  CHECK(t.port.take() == Events{"close"});
  // Nothing else makes an empty field doubtful: a read of a bucket without a batch costs no more than it did.
  t.now_ms += 500;
  t.come_up_quietly();
  REQUIRE(t.session->look_up(0, 3, "page"));
  CHECK(t.port.take().back() == "count? page");
}

TEST_CASE("a read that is answered with an error is not known, and the connection goes on") {
  Talk t(id);
  t.come_up_quietly();
  const std::string page = t.d.memory.page_in(2);
  t.look_up(page);
  t.port.take();
  t.answer(Refused{"NOPERM this user has no permissions to run the 'hmget' command"});
  CHECK_FALSE(t.d.memory.entry(page).there);
  CHECK(t.d.lookups.take_lanes_to_wake() == 1);
  CHECK(t.port.take().empty());
  CHECK(t.session->state() == ShardState::up);
}

TEST_CASE("a server that turns us away is asked less and less often, and says why once") {
  Talk t(id);
  t.port.states.clear();
  std::uint64_t wait_ms = 500;
  for (int tries = 0; tries < 9; ++tries) {
    CAPTURE(tries);
    t.session->tick(t.now_ms);
    CHECK(t.port.take() == Events{"connect"});
    if (tries % 2 == 0) {
      t.session->on_turned_away("shard redis_7070 answers: LOADING", t.now_ms);
    } else {
      t.session->on_connected();
      t.answer(Refused{"LOADING"});
      CHECK(t.port.take() == Events{"facts?", "close"});
    }
    CHECK(t.session->state() == ShardState::down);
    t.session->tick(t.now_ms + wait_ms - 1);
    CHECK(t.port.take().empty());
    t.now_ms += wait_ms;
    wait_ms = std::min<std::uint64_t>(2 * wait_ms, 30000);
  }
  CHECK(t.port.states.size() == 1);
}
