#include "flusher/redis/shard_link.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <signal.h>
#include <uv.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <thread>

#include "common/os/clock.hpp"
#include "tests/unit/flusher/redis_server.hpp"

namespace visitd {

namespace {

using test::RedisServer;
using Kind = BatchAnswer::Kind;

constexpr std::uint64_t largest = 0x7fff'ffff'ffff'ffffU;  // 2^63-1
constexpr std::uint32_t timeout_ms = 1000;
const std::string own_id = "deployment 2";

/// A loop, one connection on it, and what the connection has told.
class Session : public ShardLink::Listener {
 public:
  explicit Session(ShardSettings shard) {
    signal(SIGPIPE, SIG_IGN);
    uv_loop_init(&loop_);
    link_ = std::make_unique<ShardLink>(&loop_, std::move(shard), "w1", timeout_ms, *this);
  }
  /// Bucket 17 has the identity.
  explicit Session(const RedisServer& server, bool stamped = true) : Session(tcp(server.port())) {
    link_->connect();
    REQUIRE(wait_for([this] { return connected > 0; }));
    if (stamped) stamp();
  }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session() override {
    link_.reset();
    for (int turns = 0; turns < 1000 && uv_loop_alive(&loop_) != 0; ++turns) uv_run(&loop_, UV_RUN_ONCE);
    CHECK(uv_loop_close(&loop_) == 0);
  }

  static ShardSettings tcp(std::uint16_t port) {
    ShardSettings shard;
    shard.name = "redis_test";
    shard.host = "127.0.0.1";
    shard.port = port;
    return shard;
  }

  void on_connected() override {
    ++connected;
    if (when_connected) when_connected();
  }
  void on_turned_away(const std::string& why) override {
    turned_away.push_back(why);
    on_broken(why);
  }
  void on_fault(const std::string& what) noexcept override { faults.push_back(what); }
  void on_answer(const Completion& told, ShardAnswer answer) override {
    told(answer);
    answers.push_back(std::move(answer));
    if (when_answered) when_answered();
  }
  void on_broken(const std::string& why) override {
    broken.push_back(why);
    if (when_broken) when_broken();
  }

  /// Turns the loop until it holds, for five seconds at most.
  bool wait_for(const std::function<bool()>& holds, std::uint64_t limit_ms = 5000) {
    const std::uint64_t end = monotonic_ms() + limit_ms;
    uv_timer_t tick{};
    uv_timer_init(&loop_, &tick);
    uv_timer_start(&tick, [](uv_timer_t*) {}, 5, 5);
    while (!holds() && monotonic_ms() < end) uv_run(&loop_, UV_RUN_ONCE);
    bool closed = false;
    tick.data = &closed;
    uv_close(reinterpret_cast<uv_handle_t*>(&tick),
             [](uv_handle_t* handle) { *static_cast<bool*>(handle->data) = true; });
    while (!closed) uv_run(&loop_, UV_RUN_NOWAIT);
    return holds();
  }
  bool wait_for_answers(std::size_t count) {
    return wait_for([&] { return answers.size() >= count || !broken.empty(); }) && answers.size() >= count;
  }

  /// Sends one command and waits for its answer.
  template <typename Answer>
  Answer ask(const ShardCommand& command) {
    answers.clear();
    broken.clear();
    send(command);
    REQUIRE(wait_for_answers(1));
    REQUIRE(std::holds_alternative<Answer>(answers.front()));
    return std::get<Answer>(answers.front());
  }
  void send(const ShardCommand& command) {
    link_->send(command, [this, number = sent++](const ShardAnswer& answer) {
      (std::holds_alternative<Lost>(answer) ? lost : done).push_back(number);
    });
  }
  BatchAnswer apply(const Batch& batch) { return ask<BatchAnswer>(SendBatch{&batch, own_id}); }

  void stamp() {
    CHECK(ask<Marks>(AskMarks{{17}, own_id}).buckets.at(0).id == own_id);
    answers.clear();
  }

  ShardLink& link() { return *link_; }
  void destroy() { link_.reset(); }

  int connected = 0;
  int sent = 0;
  std::vector<int> done;  ///< numbers of commands that were answered
  std::vector<int> lost;  ///< and of those that never will be
  std::vector<ShardAnswer> answers;
  std::vector<std::string> broken;
  std::vector<std::string> turned_away;
  std::vector<std::string> faults;
  std::function<void()> when_connected;
  std::function<void()> when_answered;
  std::function<void()> when_broken;

 private:
  uv_loop_t loop_{};
  std::unique_ptr<ShardLink> link_;
};

/// Batch `seq` of bucket 17, after the one before it.
Batch batch_of(std::uint64_t seq, std::vector<Effect> pages) {
  const auto mark = [](std::uint64_t number) { return Mark{{1, 0xabc}, number, number * 7}; };
  Batch batch;
  batch.bucket = 17;
  batch.mark = mark(seq);
  batch.expected = seq == 1 ? "" : to_text(mark(seq - 1));
  batch.effects = std::move(pages);
  return batch;
}

const std::string key = "visits:{17}";

}  // namespace

TEST_CASE("a batch is applied once, however often it is sent") {
  const RedisServer server;
  Session session(server);
  const Batch first = batch_of(1, {{"home", 3}, {"about", 1}});
  BatchAnswer answer = session.apply(first);
  CHECK(answer.kind == Kind::applied);
  CHECK(answer.totals == std::vector<std::uint64_t>{3, 1});
  for (int again = 0; again < 3; ++again) {
    answer = session.apply(first);
    CHECK(answer.kind == Kind::duplicate);
    CHECK(answer.totals == std::vector<std::uint64_t>{3, 1});
  }
  answer = session.apply(batch_of(2, {{"home", 2}}));
  CHECK(answer.kind == Kind::applied);
  CHECK(answer.totals == std::vector<std::uint64_t>{5});
  CHECK(server.ask({"HGET", key, "home"}) == "5");
  CHECK(server.ask({"HGET", key, "\x01w:w1"}) == to_text(batch_of(2, {}).mark));
  CHECK(server.ask({"HLEN", key}) == "4");
}

TEST_CASE("a batch whose expectation does not hold is told what is there, and writes nothing") {
  const RedisServer server;
  Session session(server);
  CHECK(session.apply(batch_of(2, {{"home", 1}})).kind == Kind::have);
  CHECK(session.answers.size() == 1);
  CHECK(server.ask({"HLEN", key}) == "1");
  session.apply(batch_of(1, {{"home", 1}}));
  const BatchAnswer answer = session.apply(batch_of(3, {{"home", 1}}));
  CHECK(answer.kind == Kind::have);
  CHECK(answer.have == to_text(batch_of(1, {}).mark));
  CHECK(server.ask({"HGET", key, "home"}) == "1");
}

constexpr const char* no_counts[] = {"x",
                                     "",
                                     " 1",
                                     "1 ",
                                     "1.5",
                                     "1e3",
                                     "0x10",
                                     "-5",
                                     "+5",
                                     "007",
                                     "00",
                                     "nan",
                                     "inf",
                                     "9223372036854775808",
                                     "99999999999999999999999999"};

TEST_CASE("a page whose field holds no count is named, and nothing of its batch is written") {
  const RedisServer server;
  Session session(server);
  for (const char* junk : no_counts) {
    CAPTURE(junk);
    CHECK(server.ask({"HSET", key, "bad", junk}).size() == 1);
    const BatchAnswer answer = session.apply(batch_of(1, {{"good", 1}, {"bad", 1}, {"fine", 1}}));
    CHECK(answer.kind == Kind::refused);
    CHECK(answer.bad_series == std::vector<std::uint32_t>{1});
    CHECK_FALSE(answer.why.empty());
    CHECK(server.ask({"HLEN", key}) == "2");
    CHECK_FALSE(session.ask<Count>(AskCount{17, "bad"}).readable);
  }
}

TEST_CASE("a batch that was applied before says which of its pages hold no count by now, and the connection goes on") {
  const RedisServer server;
  Session session(server);
  const Batch batch = batch_of(1, {{"good", 1}, {"bad", 1}});
  CHECK(session.apply(batch).kind == Kind::applied);
  for (const char* junk : no_counts) {
    CAPTURE(junk);
    CHECK(server.ask({"HSET", key, "bad", junk}) == "0");
    const BatchAnswer answer = session.apply(batch);
    CHECK(answer.kind == Kind::duplicate);
    CHECK(answer.totals == std::vector<std::uint64_t>{1, no_total});
  }
  CHECK(server.ask({"HSET", key, "bad", "9223372036854775807"}) == "0");
  CHECK(session.apply(batch).totals == std::vector<std::uint64_t>{1, 0x7fff'ffff'ffff'ffffU});
  CHECK(server.ask({"HDEL", key, "bad"}) == "1");
  CHECK(session.apply(batch).totals == std::vector<std::uint64_t>{1, 0});
  CHECK(session.broken.empty());
}

TEST_CASE("a key of another type is told apart, and the connection goes on") {
  const RedisServer server;
  Session session(server);
  CHECK(server.ask({"SET", key, "a string"}) == "OK");
  const BatchAnswer answer = session.apply(batch_of(1, {{"home", 1}}));
  CHECK(answer.kind == Kind::refused);
  CHECK(answer.bad_series.empty());
  CHECK(session.ask<Marks>(AskMarks{{17}}).buckets.at(0).field == not_a_hash);
  CHECK_FALSE(session.ask<Count>(AskCount{17, "home"}).readable);
  CHECK(server.ask({"GET", key}) == "a string");
  CHECK(session.broken.empty());
}

TEST_CASE("sums are exact up to 2^63-1 and refused beyond it") {
  const RedisServer server;
  Session session(server);
  const std::uint64_t two53 = std::uint64_t{1} << 53U;
  const std::uint64_t limb = 1'000'000'000'000'000U;
  const std::vector<std::pair<std::uint64_t, std::uint64_t>> sums = {{0, 1},
                                                                     {two53 - 1, 1},
                                                                     {two53, 1},
                                                                     {two53 + 1, two53 + 3},
                                                                     {limb - 1, 1},
                                                                     {limb - 1, limb - 1},
                                                                     {limb, limb},
                                                                     {5 * limb - 1, 1},
                                                                     {5 * limb + 42, 999},
                                                                     {largest - 1, 1},
                                                                     {1, largest - 1},
                                                                     {largest / 2, largest / 2},
                                                                     {0, largest},
                                                                     {largest, 0}};
  std::uint64_t seq = 0;
  for (const auto& sum : sums) {
    const std::uint64_t held = sum.first;
    const std::uint64_t visits = sum.second;
    CAPTURE(held);
    CAPTURE(visits);
    static_cast<void>(server.ask({"HSET", key, "page", std::to_string(held)}));
    const BatchAnswer answer = session.apply(batch_of(++seq, {{"page", visits}}));
    REQUIRE(answer.kind == Kind::applied);
    CHECK(answer.totals == std::vector<std::uint64_t>{held + visits});
    CHECK(server.ask({"HGET", key, "page"}) == std::to_string(held + visits));
  }
  for (const auto& sum : std::vector<std::pair<std::uint64_t, std::uint64_t>>{
           {largest, 1}, {1, largest}, {largest, largest}, {0, largest + 1}, {9'223'372'036'854'000'000U, 775'808}}) {
    const std::uint64_t held = sum.first;
    const std::uint64_t visits = sum.second;
    CAPTURE(held);
    CAPTURE(visits);
    static_cast<void>(server.ask({"HSET", key, "page", std::to_string(held)}));
    const BatchAnswer answer = session.apply(batch_of(seq + 1, {{"other", 1}, {"page", visits}}));
    CHECK(answer.kind == Kind::refused);
    CHECK(answer.bad_series == std::vector<std::uint32_t>{1});
    CHECK(server.ask({"HGET", key, "page"}) == std::to_string(held));
    CHECK(server.ask({"HEXISTS", key, "other"}) == "0");
  }
}

// ---- corrections

namespace {

/// Batch `seq` of bucket 17, a correction that was worked out from counts with this number.
Batch correction_of(std::uint64_t seq, std::uint64_t fix, std::vector<Effect> differences) {
  Batch batch = batch_of(seq, std::move(differences));
  batch.correction = Correction{fix, "root", std::vector<std::string>(batch.effects.size())};
  return batch;
}

constexpr std::uint64_t minus(std::uint64_t number) {
  return ~number + 1;
}

const std::string fix_field = std::string(1, '\x01') + "fix";

}  // namespace

TEST_CASE("a correction is applied once, to what it was worked out from, and says so in its bucket") {
  const RedisServer server;
  Session session(server);
  CHECK(session.apply(batch_of(1, {{"home", 30}, {"about", 5}})).fix == 0);
  const Batch correction = correction_of(2, 0, {{"home", minus(20)}, {"about", minus(5)}, {"new", 4}});
  const auto send = [&](const Batch& batch, bool again = false) {
    return session.ask<BatchAnswer>(SendBatch{&batch, own_id, false, 1'700'000'000, again});
  };
  BatchAnswer answer = send(correction);
  REQUIRE(answer.kind == Kind::applied);
  CHECK(answer.totals == std::vector<std::uint64_t>{10, 0, 4});
  CHECK(answer.fix == 1'700'000'000);
  CHECK(server.ask({"HEXISTS", key, "about"}) == "0");  // a count of 0 takes no memory
  answer = send(correction);
  CHECK(answer.kind == Kind::duplicate);
  CHECK(answer.totals == std::vector<std::uint64_t>{10, 0, 4});
  CHECK(session.ask<Count>(AskCount{17, "home"}).fix == 1'700'000'000);
  CHECK(session.apply(batch_of(3, {{"home", 1}})).fix == 1'700'000'000);
  // Worked out before the one above.
  CHECK(send(correction_of(4, 0, {{"home", minus(1)}})).kind == Kind::corrected);
  CHECK(server.ask({"HGET", key, "home"}) == "11");
  // What the shard lost is sent again whatever was corrected meanwhile, and is newer than all that anybody saw.
  answer = send(correction_of(4, 0, {{"home", minus(1)}}), true);
  CHECK(answer.kind == Kind::applied);
  CHECK(answer.fix == 1'700'000'001);
  CHECK(server.ask({"HGET", key, fix_field}) == "1700000001");
}

TEST_CASE("no correction takes away more than there is, or changes one page alone") {
  const RedisServer server;
  Session session(server);
  session.apply(batch_of(1, {{"home", 30}, {"about", 5}}));
  const Batch low = correction_of(2, 0, {{"home", 7}, {"about", minus(6)}});
  CHECK(session.apply(low).kind == Kind::low);
  CHECK(server.ask({"HGET", key, "home"}) == "30");
  CHECK(server.ask({"HEXISTS", key, fix_field}) == "0");
}

TEST_CASE("differences are exact between 0 and 2^63-1") {
  const RedisServer server;
  Session session(server);
  const std::uint64_t limb = 1'000'000'000'000'000U;
  std::uint64_t seq = 0;
  std::uint64_t fix = 0;
  for (const auto& [from, to] :
       std::vector<std::pair<std::uint64_t, std::uint64_t>>{{0, largest},
                                                            {largest, 0},
                                                            {largest, 1},
                                                            {limb, limb - 1},
                                                            {limb - 1, limb},
                                                            {5 * limb, 4 * limb + 1},
                                                            {5 * limb + 3, 7},
                                                            {largest, largest - 1},
                                                            {(std::uint64_t{1} << 53U) + 1, 1}}) {
    CAPTURE(from);
    CAPTURE(to);
    static_cast<void>(server.ask({"HSET", key, "page", std::to_string(from)}));
    const Batch correction = correction_of(++seq, fix, {{"page", to - from}});
    const BatchAnswer answer = session.apply(correction);
    REQUIRE(answer.kind == Kind::applied);
    fix = answer.fix;
    CHECK(answer.totals == std::vector<std::uint64_t>{to});
    CHECK(session.ask<Count>(AskCount{17, "page"}).count == to);
  }
  for (const auto& [held, taken] : std::vector<std::pair<std::uint64_t, std::uint64_t>>{
           {0, 1}, {limb - 1, limb}, {limb, limb + 1}, {largest - 1, largest}}) {
    CAPTURE(held);
    static_cast<void>(server.ask({"HSET", key, "page", std::to_string(held)}));
    CHECK(session.apply(correction_of(seq + 1, fix, {{"page", minus(taken)}})).kind == Kind::low);
    CHECK(server.ask({"HGET", key, "page"}) == std::to_string(held));
  }
}

// ---- sums

namespace {

const std::string sum_field = "\x01sum";

/// What the bucket's pages come to, and the largest.
struct Summed {
  std::string sum;
  std::uint64_t largest = 0;
  friend bool operator==(const Summed&, const Summed&) = default;
};

Summed sum_of(Session& session, std::uint64_t* read = nullptr, std::vector<std::string> writers = {}) {
  const Sums::Held held = session.ask<Sums>(AskSums{{17}, 2000, std::move(writers)}).buckets.at(0);
  REQUIRE(held.known);
  CHECK(held.id == own_id);
  if (read != nullptr) *read = held.read;
  return {held.sum, held.largest};
}

/// The same, of a bucket whose field of the sum fits.
Summed kept_sum(Session& session) {
  std::uint64_t read = 0;
  const Summed sum = sum_of(session, &read);
  CHECK(read == 0);
  return sum;
}

/// The same, of one whose field does not fit, or is not there.
Summed read_sum(Session& session) {
  std::uint64_t read = 0;
  const Summed sum = sum_of(session, &read);
  CHECK(read != 0);
  return sum;
}

}  // namespace

TEST_CASE("the field of a bucket's sum is made when it is asked for, and changes with each batch") {
  const RedisServer server;
  Session session(server);
  session.apply(batch_of(1, {{"home", 30}, {"about", 5}}));
  CHECK(server.ask({"HEXISTS", key, sum_field}) == "0");
  CHECK(read_sum(session) == Summed{"35", 30});
  CHECK(kept_sum(session) == Summed{"35", 30});
  session.apply(batch_of(2, {{"home", 1}, {"new", 40}}));
  CHECK(kept_sum(session) == Summed{"76", 40});
  // What was applied before changes nothing; nor does a fence but its mark.
  session.apply(batch_of(2, {{"home", 1}, {"new", 40}}));
  session.apply(batch_of(3, {}));
  CHECK(kept_sum(session) == Summed{"76", 40});
  session.apply(correction_of(4, 0, {{"home", minus(31)}, {"about", 70}}));
  CHECK(kept_sum(session) == Summed{"115", 75});
  session.apply(correction_of(5, 1, {{"new", minus(10)}, {"fresh", 1}}));
  CHECK(kept_sum(session) == Summed{"106", 75});
  // Which page is the largest now, only a look at all says.
  session.apply(correction_of(6, 2, {{"about", minus(74)}}));
  CHECK(read_sum(session) == Summed{"32", 30});
  // No page any more.
  session.apply(correction_of(7, 3, {{"about", minus(1)}, {"fresh", minus(1)}}));
  session.apply(correction_of(8, 4, {{"new", minus(30)}}));
  std::uint64_t read = 1;
  CHECK(sum_of(session, &read) == Summed{"0", 0});
  CHECK(read == 0);
  session.apply(batch_of(9, {{"home", 2}}));
  CHECK(kept_sum(session) == Summed{"2", 2});
}

TEST_CASE("who writes into a bucket without keeping its sum is found out") {
  const RedisServer server;
  Session session(server);
  session.apply(batch_of(1, {{"home", 30}}));
  CHECK(read_sum(session) == Summed{"30", 30});
  const std::string ours = server.ask({"HGET", key, "\x01w:w1"});
  const auto set = [&](const std::string& field, const std::string& value) {
    static_cast<void>(server.ask({"HSET", key, field, value}));
  };
  // A flusher of a version before: it changes a count and its mark, also a mark that nobody has named.
  set("home", "31");
  set("\x01w:w1", to_text(Mark{{1, 0xabc}, 2, 14}));
  CHECK(read_sum(session) == Summed{"31", 31});
  set("home", "32");
  set("\x01w:w2", to_text(Mark{{1, 0xdef}, 1, 7}));
  CHECK(read_sum(session) == Summed{"32", 32});
  std::uint64_t read = 1;
  CHECK(sum_of(session, &read, {"w2", "w3"}) == Summed{"32", 32});
  CHECK(read == 0);
  CHECK(read_sum(session) == Summed{"32", 32});  // w2 is not named
  // A person who raises "\1fix", and one who adds a page.
  set("home", "20");
  CHECK(sum_of(session, nullptr, {"w2"}) == Summed{"32", 32});
  static_cast<void>(server.ask({"HINCRBY", key, fix_field, "1"}));
  CHECK(sum_of(session, nullptr, {"w2"}) == Summed{"20", 20});
  set("by hand", "5");
  CHECK(sum_of(session, nullptr, {"w2"}) == Summed{"25", 20});
  // What did not fit before a batch does not fit after it.
  set("home", "24");
  static_cast<void>(server.ask({"HINCRBY", key, fix_field, "1"}));
  session.apply(batch_of(3, {{"home", 1}}));
  CHECK(sum_of(session, nullptr, {"w2"}) == Summed{"30", 25});
  for (const char* odd : {"", "x", "1 2 3", "1 2 3 4 5", "1 2 3 -4", "9 9 9 9"}) {
    CAPTURE(odd);
    set(sum_field, odd);
    CHECK(read_sum(session) == Summed{"30", 25});
  }
  set(sum_field, "x");
  session.apply(batch_of(4, {{"home", 1}}));
  CHECK(server.ask({"HGET", key, sum_field}) == "x");
  CHECK_FALSE(ours.empty());
}

TEST_CASE("a batch goes on with a sum that passes 2^53, 2^63 and 2^64") {
  const RedisServer server;
  Session session(server);
  session.apply(batch_of(1, {{"home", 1}}));
  static_cast<void>(sum_of(session));
  std::uint64_t seq = 1;
  std::uint64_t fix = 0;
  const auto check = [&](std::uint64_t largest_now) {
    CAPTURE(seq);
    const Summed kept = kept_sum(session);
    static_cast<void>(server.ask({"HDEL", key, sum_field}));
    CHECK(kept == sum_of(session));
    CHECK(kept.largest == largest_now);
    return kept.sum;
  };
  for (const std::uint64_t visits :
       {std::uint64_t{999'999'999'999'998}, std::uint64_t{1}, std::uint64_t{1} << 53U, largest / 2}) {
    session.apply(batch_of(++seq, {{"home", visits}}));
    static_cast<void>(check(std::stoull(server.ask({"HGET", key, "home"}))));
  }
  session.apply(batch_of(++seq, {{"a", largest}, {"b", largest - 1}, {"c", 7}}));
  session.apply(batch_of(++seq, {{"d", largest}}));
  check(largest);
  const auto correct = [&](std::vector<Effect> differences) {
    const BatchAnswer answer = session.apply(correction_of(++seq, fix, std::move(differences)));
    REQUIRE(answer.kind == Kind::applied);
    fix = answer.fix;
  };
  correct({{"b", minus(largest - 2)}, {"c", 1'000'000'000'000'000}, {"home", minus(3)}});
  check(largest);
  // 2 * (2^63-1) + 1 + 10^15+7, and what home has left.
  static_cast<void>(server.ask({"HSET", key, "home", "0"}));
  static_cast<void>(server.ask({"HDEL", key, sum_field}));
  CHECK(sum_of(session) == Summed{"18447744073709551622", largest});
}

TEST_CASE("a thousand pages that gain at once are summed to the visit") {
  const RedisServer server;
  Session session(server);
  session.apply(batch_of(1, {{"home", 1}}));
  static_cast<void>(sum_of(session));
  std::vector<Effect> pages;
  for (int page = 0; page < 1000; ++page)
    pages.push_back({"page " + std::to_string(page), 999'999'999'999'000U + static_cast<std::uint64_t>(page)});
  session.apply(batch_of(2, pages));
  CHECK(kept_sum(session) == Summed{"999999999999499501", 999'999'999'999'999});
  for (Effect& page : pages) page.operand = minus(page.operand - 1);
  REQUIRE(session.apply(correction_of(3, 0, pages)).kind == Kind::applied);
  CHECK(read_sum(session) == Summed{"1001", 1});
}

TEST_CASE("a page without a count is told, and its bucket keeps no sum") {
  const RedisServer server;
  Session session(server);
  session.apply(batch_of(1, {{"home", 3}, {"about", 4}}));
  for (const char* odd : {"x", "007", "-1", "9223372036854775808", "12345678901234567890", "1.5", ""}) {
    CAPTURE(odd);
    static_cast<void>(server.ask({"HSET", key, "odd", odd}));
    const Sums::Held held = session.ask<Sums>(AskSums{{17}, 2000, {}}).buckets.at(0);
    CHECK(held.odd == 1);
    CHECK(held.sum == "7");
    CHECK(held.read == 3);
    CHECK(server.ask({"HEXISTS", key, sum_field}) == "0");
  }
}

TEST_CASE("a bucket that is not here, that moves, or that is too large for the command, keeps no sum") {
  const RedisServer server;
  Session session(server);
  const auto ask = [&](std::uint64_t pages) { return session.ask<Sums>(AskSums{{17, 18, 19}, pages, {}}).buckets; };
  session.apply(batch_of(1, {{"home", 3}, {"about", 4}}));
  static_cast<void>(server.ask({"SET", "visits:{19}", "x"}));
  auto sums = ask(2000);
  CHECK(sums[0].known);
  CHECK_FALSE(sums[1].known);
  CHECK(sums[1].id.empty());
  CHECK(sums[2].error == "its key is no hash");
  CHECK(server.ask({"EXISTS", "visits:{18}"}) == "0");
  // The first one is always read.
  static_cast<void>(session.ask<Marks>(AskMarks{{18}, own_id}));
  for (const char* field : {"a", "b", "c"}) static_cast<void>(server.ask({"HSET", "visits:{18}", field, "1"}));
  static_cast<void>(server.ask({"HDEL", key, sum_field}));
  sums = ask(4);
  CHECK(sums[0].known);
  CHECK_FALSE(sums[1].known);
  sums = ask(4);
  CHECK(sums[0].read == 0);
  CHECK(sums[1].read == 3);
  // What is copied to another shard stays as it was copied; what has moved says so.
  static_cast<void>(server.ask({"HDEL", key, sum_field}));
  static_cast<void>(server.ask({"HSET", key, "\x01moving", "redis_b 2"}));
  CHECK(read_sum(session) == Summed{"7", 4});
  CHECK(server.ask({"HEXISTS", key, sum_field}) == "0");
  static_cast<void>(server.ask({"HSET", key, "\x01moved", "redis_b 2"}));
  sums = ask(2000);
  CHECK_FALSE(sums[0].known);
  CHECK(sums[0].moved == "redis_b 2");
}

TEST_CASE("a server without room says sums, and keeps none") {
  const RedisServer server;
  Session session(server);
  session.apply(batch_of(1, {{"home", 3}}));
  static_cast<void>(server.ask({"CONFIG", "SET", "maxmemory", "1"}));
  CHECK(read_sum(session) == Summed{"3", 3});
  CHECK(read_sum(session) == Summed{"3", 3});
  static_cast<void>(server.ask({"CONFIG", "SET", "maxmemory", "0"}));
  CHECK(read_sum(session) == Summed{"3", 3});
  CHECK(kept_sum(session) == Summed{"3", 3});
}

TEST_CASE("a sum does not fit while its writer is forgotten, and fits again") {
  const RedisServer server;
  Session session(server);
  session.apply(batch_of(1, {{"home", 3}}));
  CHECK(read_sum(session) == Summed{"3", 3});
  static_cast<void>(session.ask<Forgotten>(ForgetWriter{"w1", own_id, {17}}));
  CHECK(read_sum(session) == Summed{"3", 3});
  CHECK(kept_sum(session) == Summed{"3", 3});
  const Batch rejoin = rejoin_of(17, to_text(batch_of(1, {}).mark)).value();
  REQUIRE(session.apply(rejoin).kind == Kind::applied);
  CHECK(read_sum(session) == Summed{"3", 3});
  session.apply(batch_of(2, {{"home", 3}}));
  CHECK(kept_sum(session) == Summed{"6", 6});
}

TEST_CASE("a bucket that moves or has moved takes no batch") {
  const RedisServer server;
  Session session(server);
  session.apply(batch_of(1, {{"home", 1}}));
  static_cast<void>(server.ask({"HSET", key, "\x01moving", "redis_b"}));
  for (const std::uint64_t seq : {1U, 2U}) {
    const BatchAnswer answer = session.apply(batch_of(seq, {{"home", 1}}));
    // One that was applied is known by its mark.
    CHECK(answer.kind == (seq == 1 ? Kind::duplicate : Kind::moving));
    CHECK(answer.why == (seq == 1 ? "" : "redis_b"));
  }
  CHECK(session.ask<Count>(AskCount{17, "home"}).moved.empty());
  static_cast<void>(server.ask({"HSET", key, "\x01moved", "redis_b"}));
  CHECK(session.apply(batch_of(2, {{"home", 1}})).why == "redis_b");
  CHECK(session.ask<Count>(AskCount{17, "home"}).moved == "redis_b");
  CHECK(server.ask({"HGET", key, "home"}) == "1");
}

TEST_CASE("a bucket moves from one server to another, and each step may be repeated") {
  const RedisServer from;
  const RedisServer to;
  Session here(from);
  Session there(to, false);
  using Step = MoveBucket::Step;
  using Moved = MoveAnswer::Kind;
  const auto step = [](Session& session, Step what, const std::string& content = {},
                       const std::string& marker = "b 2") {
    return session.ask<MoveAnswer>(MoveBucket{what, 17, own_id, marker, content});
  };
  here.apply(batch_of(1, {{"home", 7}}));
  CHECK(step(here, Step::drop).text == "it was not sent away");
  CHECK(step(there, Step::copy_in).kind == Moved::absent);
  MoveAnswer copy = step(here, Step::copy_out);
  REQUIRE(copy.kind == Moved::content);
  CHECK(here.apply(batch_of(2, {{"home", 1}})).kind == Kind::moving);
  CHECK(here.ask<Count>(AskCount{17, "home"}).count == 7);
  copy = step(here, Step::copy_out);
  CHECK(step(there, Step::copy_in, copy.text).kind == Moved::done);
  CHECK(there.apply(batch_of(2, {{"home", 1}})).totals == std::vector<std::uint64_t>{8});
  CHECK(step(there, Step::copy_in, copy.text).kind == Moved::done);
  CHECK(there.ask<Count>(AskCount{17, "home"}).count == 8);
  CHECK(step(there, Step::copy_in, copy.text, "b 4").kind == Moved::refused);
  CHECK(step(here, Step::send_away).kind == Moved::done);
  CHECK(here.apply(batch_of(2, {{"home", 1}})).kind == Kind::moved);
  CHECK(step(here, Step::copy_out).kind == Moved::content);
  CHECK(step(here, Step::copy_out, {}, "c 4").text == "it has moved to b 2");
  CHECK(step(here, Step::drop).kind == Moved::done);
  CHECK(step(here, Step::drop).kind == Moved::done);
  CHECK(step(here, Step::copy_out).kind == Moved::dropped);
  CHECK(from.ask({"HLEN", "visits:{17}"}) == "2");
  const Marks marks = here.ask<Marks>(AskMarks{{17}, {}});
  CHECK(marks.buckets[0].moved == "b 2");
  // And back again, over what it left.
  copy = step(there, Step::copy_out, {}, "a 4");
  CHECK(step(here, Step::copy_in, copy.text, "a 4").kind == Moved::done);
  CHECK(here.ask<Count>(AskCount{17, "home"}).count == 8);
  CHECK(here.ask<Count>(AskCount{17, "home"}).moved.empty());
}

TEST_CASE("a bucket without pages that its next shard loses goes there again") {
  const RedisServer from;
  const RedisServer to;
  Session here(from);
  Session there(to, false);
  using Step = MoveBucket::Step;
  const auto step = [](Session& session, Step what, const std::string& content = {}) {
    return session.ask<MoveAnswer>(MoveBucket{what, 17, own_id, "b 2", content});
  };
  here.ask<Marks>(AskMarks{{17}, own_id});
  CHECK(step(there, Step::copy_in, step(here, Step::copy_out).text).kind == MoveAnswer::Kind::done);
  CHECK(step(here, Step::send_away).kind == MoveAnswer::Kind::done);
  CHECK(to.ask({"DEL", "visits:{17}"}) == "1");
  const MoveAnswer copy = step(here, Step::copy_out);
  REQUIRE(copy.kind == MoveAnswer::Kind::content);
  CHECK(step(there, Step::copy_in, copy.text).kind == MoveAnswer::Kind::done);
  CHECK(to.ask({"HGET", "visits:{17}", "\x01id"}) == own_id);
  CHECK(to.ask({"HLEN", "visits:{17}"}) == "2");  // the other one: by which change it came
  CHECK(step(here, Step::drop).kind == MoveAnswer::Kind::done);
  CHECK(step(here, Step::copy_out).kind == MoveAnswer::Kind::dropped);
}

TEST_CASE("a bucket that is none, or of another deployment, does not move") {
  const RedisServer server;
  Session session(server);
  const auto out = [&](const std::string& id) {
    return session.ask<MoveAnswer>(MoveBucket{MoveBucket::Step::copy_out, 17, id, "b 2"});
  };
  CHECK(out("other 2").kind == MoveAnswer::Kind::refused);
  static_cast<void>(server.ask({"DEL", "visits:{17}"}));
  CHECK(out(own_id).text.find("emptied") != std::string::npos);
  static_cast<void>(server.ask({"SET", "visits:{17}", "1"}));
  CHECK(out(own_id).text.find("not a hash") != std::string::npos);
}

TEST_CASE("one at a time moves buckets, until it says so no more") {
  const RedisServer server;
  Session session(server);
  const auto take = [&](const std::string& writer, std::uint64_t for_ms) {
    return session.ask<MovesTaken>(TakeMoves{writer, for_ms}).ours;
  };
  CHECK(take("w1", 200));
  CHECK_FALSE(take("w2", 200));
  CHECK(take("w1", 50));
  CHECK(session.wait_for([&] { return server.ask({"EXISTS", "visits:mover"}) == "0"; }));
  CHECK(take("w2", 200));
  // A disk that others keep busy may need many seconds for one sync.
  CHECK(session.wait_for([&] { return !session.ask<Persistence>(AskPersistence{}).waits; }, 60'000));
}

TEST_CASE("a thousand pages of any bytes are one batch") {
  const RedisServer server;
  Session session(server);
  std::vector<Effect> pages;
  for (std::uint64_t page = 0; page < 998; ++page) pages.push_back({fmt::format("page/{}", page), page + 1});
  pages.push_back({"\xf0\x9f\x8d\xb0 \"'\\%s", 7});
  pages.push_back({std::string(255, '{'), 9});
  BatchAnswer answer = session.apply(batch_of(1, pages));
  REQUIRE(answer.kind == Kind::applied);
  for (std::size_t page = 0; page < pages.size(); ++page) CHECK(answer.totals[page] == pages[page].operand);
  answer = session.apply(batch_of(1, pages));
  CHECK(answer.kind == Kind::duplicate);
  CHECK(answer.totals.back() == 9);
  answer = session.apply(batch_of(2, pages));
  REQUIRE(answer.kind == Kind::applied);
  for (std::size_t page = 0; page < pages.size(); ++page) CHECK(answer.totals[page] == 2 * pages[page].operand);
  const Count count = session.ask<Count>(AskCount{17, pages[998].series});
  CHECK(count.count == 14);
  CHECK(count.field == to_text(batch_of(2, {}).mark));
}

TEST_CASE("a writer is forgotten in each bucket, whose tombstone is the mark that stood there, and goes on") {
  const RedisServer server;
  Session session(server);
  CHECK(session.ask<Marks>(AskMarks{{17, 18, 19, 20, 21}, own_id}).buckets.size() == 5);
  session.apply(batch_of(1, {{"home", 1}}));
  const std::string mark = to_text(batch_of(1, {}).mark);
  CHECK(server.ask({"HSET", "visits:{18}", "\x01w:w1", "1-0 5 00000000000000aa"}).size() == 1);
  CHECK(server.ask({"SET", "visits:{20}", "no hash"}) == "OK");
  CHECK(server.ask({"HSET", "visits:{21}", "\x01moving", "b 2", "\x01w:w1", mark}).size() == 1);
  CHECK(server.ask({"HSET", "visits:{22}", "\x01id", own_id, "\x01moved", "b 2"}).size() == 1);
  const ForgetWriter forget{"w1", own_id, {17, 18, 19, 20, 21, 22, 23}};
  const auto kinds = [&] {
    std::string text;
    for (const auto& [kind, marker] : session.ask<Forgotten>(forget).buckets) {
      text += std::to_string(static_cast<int>(kind)) + marker + " ";
    }
    return text;
  };
  // The last one is no bucket of this deployment, or its copy has not come.
  CHECK(kinds() == "0 0 1 1 2 3b 2 2 ");
  CHECK(kinds() == "1 1 1 1 2 3b 2 2 ");
  const Marks marks = session.ask<Marks>(AskMarks{{17, 18, 19, 21}});
  CHECK(marks.buckets[0].field.empty());
  CHECK(marks.buckets[0].gone == mark);
  CHECK(marks.buckets[1].gone == "1-0 5 00000000000000aa");
  CHECK(marks.buckets[2].gone.empty());
  CHECK(marks.buckets[3].field == mark);
  CHECK(session.ask<Count>(AskCount{17, "home", false, true}).gone == mark);
  CHECK(session.ask<Count>(AskCount{17, "home"}).gone.empty());
  CHECK(session.ask<Pages>(AskPages{17, 0, 100}).gone == mark);
  CHECK(session.ask<Sums>(AskSums{{17}, 2000, {}}).buckets.at(0).gone == mark);
  CHECK(server.ask({"HGET", key, "home"}) == "1");
  // Its batches are not applied: a later one has no mark to follow, a first one may have been applied before.
  CHECK(session.apply(batch_of(2, {{"home", 1}})).kind == Kind::forgotten);
  CHECK(session.apply(batch_of(1, {{"home", 1}})).kind == Kind::forgotten);
  CHECK(session.apply(*rejoin_of(17, to_text(batch_of(2, {}).mark))).kind == Kind::forgotten);
  CHECK(server.ask({"HGET", key, "home"}) == "1");

  const Batch rejoin = *rejoin_of(17, mark);
  CHECK(session.apply(rejoin).kind == Kind::applied);
  CHECK(session.ask<Marks>(AskMarks{{17}}).buckets.at(0).field == mark);
  CHECK(session.ask<Marks>(AskMarks{{17}}).buckets.at(0).gone.empty());
  CHECK(session.apply(rejoin).kind == Kind::duplicate);
  CHECK(session.apply(batch_of(1, {{"home", 1}})).kind == Kind::duplicate);
  CHECK(session.apply(batch_of(2, {{"home", 1}})).kind == Kind::applied);
  CHECK(session.apply(rejoin).kind == Kind::have);
  CHECK(server.ask({"HGET", key, "home"}) == "2");
}

TEST_CASE("a tombstone goes with its bucket to the next shard") {
  const RedisServer server;
  const RedisServer other;
  Session session(server);
  Session next(other);
  CHECK(session.ask<Marks>(AskMarks{{17}, own_id}).buckets.size() == 1);
  session.apply(batch_of(1, {{"home", 1}}));
  CHECK(session.ask<Forgotten>(ForgetWriter{"w1", own_id, {17}}).buckets.at(0).kind ==
        Forgotten::Bucket::Kind::taken_out);
  using Step = MoveBucket::Step;
  const std::string content = session.ask<MoveAnswer>(MoveBucket{Step::copy_out, 17, own_id, "b 2"}).text;
  CHECK(other.ask({"DEL", key}) == "1");
  CHECK(next.ask<MoveAnswer>(MoveBucket{Step::copy_in, 17, own_id, "b 2", content}).kind == MoveAnswer::Kind::done);
  CHECK(next.apply(batch_of(1, {{"home", 1}})).kind == Kind::forgotten);
  CHECK(next.apply(*rejoin_of(17, to_text(batch_of(1, {}).mark))).kind == Kind::applied);
  CHECK(next.apply(batch_of(1, {{"home", 1}})).kind == Kind::duplicate);
}

TEST_CASE("a server without room forgets nothing") {
  const RedisServer server;
  Session session(server);
  session.apply(batch_of(1, {{"home", 1}}));
  CHECK(server.ask({"CONFIG", "SET", "maxmemory", "1"}) == "OK");
  CHECK(session.ask<Refused>(ForgetWriter{"w1", own_id, {17}}).error.find("OOM") != std::string::npos);
  CHECK_FALSE(session.ask<Marks>(AskMarks{{17}}).buckets.at(0).field.empty());
  CHECK(session.ask<Marks>(AskMarks{{17}}).buckets.at(0).gone.empty());
}

TEST_CASE("writers note themselves down, and are told as the server has them") {
  const RedisServer server;
  Session session(server);
  // Not on a server that was emptied.
  static_cast<void>(session.ask<Noted>(NoteWriter{{{"w1", "web-1 0.2.0 1 100 0 0"}}}));
  CHECK(session.ask<Writers>(AskWriters{}).fields.empty());
  CHECK(server.ask({"SET", "visits:topology", "x"}) == "OK");
  static_cast<void>(session.ask<Noted>(NoteWriter{{{"w1", "web-1 0.2.0 1 100 0 0"}}}));
  CHECK(session.ask<Writers>(AskWriters{}).fields.size() == 1);
  static_cast<void>(session.ask<Noted>(NoteWriter{{{"w1", "web-1 0.2.0 1 130 4 2"}, {"w1:wrote", "130"}}}));
  const auto fields = session.ask<Writers>(AskWriters{}).fields;
  using Fields = std::vector<std::pair<std::string, std::string>>;
  CHECK(fields == Fields{{"w1", "web-1 0.2.0 1 130 4 2"}, {"w1:wrote", "130"}});
  static_cast<void>(session.ask<Noted>(NoteWriter{{{"w1:wrote", ""}, {"w1:forgotten", ""}}}));
  CHECK(session.ask<Writers>(AskWriters{}).fields.size() == 1);
  CHECK(server.ask({"DEL", "visits:writers"}) == "1");
  CHECK(server.ask({"SET", "visits:writers", "x"}) == "OK");
  CHECK(session.ask<Refused>(AskWriters{}).error.starts_with("WRONGTYPE"));
  CHECK(session.ask<Refused>(NoteWriter{{{"w1", "note"}}}).error.find("WRONGTYPE") != std::string::npos);
  CHECK(session.broken.empty());
}

TEST_CASE("a batch without pages moves the mark alone") {
  const RedisServer server;
  Session session(server);
  CHECK(session.apply(batch_of(1, {})).kind == Kind::applied);
  CHECK(session.ask<Marks>(AskMarks{{17}}).buckets.at(0).field == to_text(batch_of(1, {}).mark));
  CHECK(session.apply(batch_of(1, {})).kind == Kind::duplicate);
}

TEST_CASE("facts, topology, marks and counts are told as the server holds them") {
  const RedisServer server({"--maxmemory-policy", "allkeys-lru"});
  Session session(server);
  Facts facts = session.ask<Facts>(AskFacts{});
  CHECK(facts.maxmemory_policy == "allkeys-lru");
  CHECK(facts.append_only == "yes");
  CHECK(facts.topology.empty());
  CHECK(facts.role == "master");
  CHECK(session.ask<Topology>(MakeTopology{"", "first"}).topology == "first");
  CHECK(session.ask<Topology>(MakeTopology{"", "second"}).topology == "first");
  CHECK(session.ask<Topology>(MakeTopology{"other", "second"}).topology == "first");
  CHECK(session.ask<Topology>(MakeTopology{"first", "second"}).topology == "second");
  CHECK(session.ask<Facts>(AskFacts{}).topology == "second");
  CHECK(session.ask<Marks>(AskMarks{{17}}).buckets.at(0).field.empty());
  const Count none = session.ask<Count>(AskCount{17, "home"});
  CHECK(none.readable);
  CHECK(none.count == 0);
  CHECK(none.field.empty());
  CHECK(server.ask({"CLIENT", "LIST"}).find("name=visitd") != std::string::npos);
}

TEST_CASE("a server without CONFIG tells by INFO, and one without both tells nothing") {
  const RedisServer server({"--rename-command", "CONFIG", "", "--maxmemory-policy", "allkeys-lfu"});
  Session session(server);
  Facts facts = session.ask<Facts>(AskFacts{});
  CHECK(facts.maxmemory_policy == "allkeys-lfu");
  CHECK(facts.append_only == "yes");
  CHECK(facts.role == "master");
  CHECK(server.ask({"REPLICAOF", "127.0.0.1", "1"}) == "OK");
  CHECK(session.ask<Facts>(AskFacts{}).role == "slave");
  CHECK(session.broken.empty());

  const RedisServer silent({"--rename-command", "CONFIG", "", "--rename-command", "INFO", "", "--appendonly", "no"});
  Session other(silent);
  facts = other.ask<Facts>(AskFacts{});
  CHECK_FALSE(facts.maxmemory_policy);
  CHECK_FALSE(facts.append_only);
  CHECK_FALSE(facts.role);
  CHECK(other.broken.empty());
}

TEST_CASE("marks and identities of many buckets are one command, and no identity is written over another") {
  const RedisServer server;
  Session session(server, false);
  static_cast<void>(server.ask({"HSET", "visits:{3}", "\x01id", "another 2", "\x01w:w1", "a mark"}));
  static_cast<void>(server.ask({"HSET", "visits:{4}", "\x01w:w1", "its mark"}));
  static_cast<void>(server.ask({"SET", "visits:{5}", "a string"}));
  AskMarks ask;
  for (std::uint32_t bucket = 0; bucket < marks_asked_at_once; ++bucket) ask.buckets.push_back(bucket);
  const auto check = [&](const std::string& others) {
    const Marks marks = session.ask<Marks>(ask);
    REQUIRE(marks.buckets.size() == marks_asked_at_once);
    CHECK(marks.buckets[0].id == others);
    CHECK(marks.buckets[0].field.empty());
    CHECK(marks.buckets[3].id == "another 2");
    CHECK(marks.buckets[3].field == "a mark");
    CHECK(marks.buckets[4].id == others);
    CHECK(marks.buckets[4].field == "its mark");
    CHECK(marks.buckets[5].field == not_a_hash);
    CHECK(marks.buckets.back().id == others);
  };
  check("");
  CHECK(server.ask({"EXISTS", "visits:{0}"}) == "0");
  ask.stamp = own_id;
  check(own_id);
  ask.stamp.clear();
  check(own_id);
}

TEST_CASE("a bucket that has no identity, or another one, takes no batch, and says what it has") {
  const RedisServer server;
  Session session(server, false);
  CHECK(session.apply(batch_of(1, {{"home", 1}})).kind == Kind::foreign);
  CHECK(server.ask({"EXISTS", key}) == "0");
  static_cast<void>(server.ask({"HSET", key, "\x01id", "another 2", "home", "7"}));
  const BatchAnswer answer = session.apply(batch_of(1, {{"home", 1}}));
  CHECK(answer.kind == Kind::foreign);
  CHECK(answer.have == "another 2");
  CHECK(server.ask({"HGET", key, "home"}) == "7");
  CHECK(session.ask<Count>(AskCount{17, "home"}).id == "another 2");
  static_cast<void>(server.ask({"HSET", key,
                                "\x01"
                                "fix",
                                "3"}));
  CHECK(session.ask<Count>(AskCount{17, "home"}).fix == 3);
}

TEST_CASE("answers come in the order of the commands") {
  const RedisServer server;
  Session session(server);
  std::vector<Batch> batches;
  for (std::uint64_t seq = 1; seq <= 200; ++seq) batches.push_back(batch_of(seq, {{"home", 1}}));
  for (const Batch& batch : batches) {
    session.send(SendBatch{&batch, own_id});
    session.send(AskCount{17, "home"});
  }
  REQUIRE(session.wait_for_answers(400));
  for (std::uint64_t seq = 1; seq <= 200; ++seq) {
    CHECK(std::get<BatchAnswer>(session.answers[2 * seq - 2]).totals.front() == seq);
    CHECK(std::get<Count>(session.answers[2 * seq - 1]).count == seq);
  }
  CHECK(std::ranges::is_sorted(session.done));
  CHECK(session.done.size() == 401);
  CHECK(session.lost.empty());
}

TEST_CASE("a refused port is told at once, and not from within connect") {
  Session session(Session::tcp(test::free_port()));
  const std::uint64_t began = monotonic_ms();
  session.link().connect();
  CHECK(session.broken.empty());
  REQUIRE(session.wait_for([&] { return !session.broken.empty(); }));
  CHECK(monotonic_ms() - began < timeout_ms);
  CHECK(session.broken.front().find("redis_test") != std::string::npos);
  CHECK(session.broken.front().find("refused") != std::string::npos);
  CHECK(session.connected == 0);
}

TEST_CASE("a name is resolved and each of its addresses tried") {
  const RedisServer server;  // on 127.0.0.1 alone, where localhost may be ::1 first
  ShardSettings shard = Session::tcp(server.port());
  shard.host = "localhost";
  Session session(shard);
  session.link().connect();
  CHECK(session.wait_for([&] { return session.connected == 1; }));

  shard.host = "no-such-host.invalid";
  Session nowhere(shard);
  nowhere.link().connect();
  REQUIRE(nowhere.wait_for([&] { return !nowhere.broken.empty(); }, 20000));
  CHECK(nowhere.broken.front().find("no-such-host.invalid") != std::string::npos);
}

TEST_CASE("a Unix socket serves as well, and a missing one is told") {
  const RedisServer server;
  ShardSettings shard;
  shard.name = "redis_unix";
  shard.unix_path = server.unix_path();
  Session session(shard);
  session.link().connect();
  REQUIRE(session.wait_for([&] { return session.connected == 1; }));
  session.stamp();
  CHECK(session.apply(batch_of(1, {{"home", 1}})).kind == Kind::applied);

  shard.unix_path += "-missing";
  Session missing(shard);
  missing.link().connect();
  CHECK(missing.broken.empty());
  REQUIRE(missing.wait_for([&] { return !missing.broken.empty(); }));
  CHECK(missing.broken.front().find("No such file") != std::string::npos);
}

TEST_CASE("passwords, users and databases are used, and a wrong password names the shard") {
  const RedisServer server({"--requirepass", "secret"});
  ShardSettings shard = Session::tcp(server.port());
  shard.password = "secret";
  shard.database = 3;
  {
    Session session(shard);
    session.link().connect();
    REQUIRE(session.wait_for([&] { return session.connected == 1; }));
    session.stamp();
    session.apply(batch_of(1, {{"home", 1}}));
  }
  test::RedisClient client(server.port());
  CHECK(client.ask({"AUTH", "secret"}) == "OK");
  CHECK(client.ask({"EXISTS", key}) == "0");
  CHECK(client.ask({"SELECT", "3"}) == "OK");
  CHECK(client.ask({"EXISTS", key}) == "1");
  CHECK(client.ask({"ACL", "SETUSER", "counter", "on", ">other", "~*", "+@all"}) == "OK");
  shard.username = "counter";
  shard.password = "other";
  {
    Session session(shard);
    session.link().connect();
    CHECK(session.wait_for([&] { return session.connected == 1; }));
  }
  for (const char* wrong : {"wrong", ""}) {
    CAPTURE(wrong);
    shard.password = wrong;
    Session session(shard);
    session.link().connect();
    REQUIRE(session.wait_for([&] { return !session.broken.empty(); }));
    CHECK(session.connected == 0);
    CHECK(session.broken.size() == 1);
    CHECK(session.broken.front().find("redis_test") != std::string::npos);
    CHECK(session.broken.front().find("secret") == std::string::npos);
  }
}

TEST_CASE("a killed server breaks the connection, and it can be connected again from within") {
  RedisServer server;
  Session session(server);
  session.apply(batch_of(1, {{"home", 1}}));
  server.pause();
  std::vector<Batch> batches;
  for (std::uint64_t seq = 2; seq < 100; ++seq) batches.push_back(batch_of(seq, {{"home", 1}}));
  session.answers.clear();
  for (const Batch& batch : batches) session.send(SendBatch{&batch, own_id});
  session.when_broken = [&] {
    if (session.connected == 1) session.link().connect();
  };
  session.wait_for([] { return false; }, 20);
  server.kill();
  REQUIRE(session.wait_for([&] { return !session.broken.empty(); }));
  CHECK(session.answers.empty());
  CHECK(session.lost.size() == batches.size());
  session.wait_for([] { return false; }, 20);  // the second try is refused and tried again until the server is there
  server.start();
  CHECK(session.wait_for([&] { return session.connected == 2; }));
  const BatchAnswer answer = session.apply(batches.front());
  CHECK((answer.kind == Kind::applied || answer.kind == Kind::have || answer.kind == Kind::duplicate));
}

TEST_CASE("a server that stands still is given up after the timeout") {
  RedisServer server;
  Session session(server);
  server.pause();
  const std::uint64_t began = monotonic_ms();
  session.send(AskMarks{{17}});
  REQUIRE(session.wait_for([&] { return !session.broken.empty(); }));
  const std::uint64_t took = monotonic_ms() - began;
  CHECK(took >= timeout_ms);
  CHECK(took < 10 * timeout_ms);
  CHECK(session.answers.empty());
  session.broken.clear();
  session.link().connect();  // the kernel accepts for it, and then nothing comes
  REQUIRE(session.wait_for([&] { return !session.broken.empty(); }));
  CHECK(session.connected == 1);
  server.resume();
  session.link().connect();
  CHECK(session.wait_for([&] { return session.connected == 2; }));
}

TEST_CASE("an answer that lies in the socket counts, however long this process stood still") {
  const RedisServer server;
  Session session(server);
  session.send(AskMarks{{17}});
  session.wait_for([] { return true; });
  std::this_thread::sleep_for(std::chrono::milliseconds(2 * timeout_ms));
  CHECK(session.wait_for_answers(1));
  CHECK(session.broken.empty());
}

TEST_CASE("scripts that the server has forgotten are loaded by the next connection") {
  const RedisServer server;
  Session session(server);
  CHECK(server.ask({"SCRIPT", "FLUSH"}) == "OK");
  const Batch batch = batch_of(1, {{"home", 1}});
  session.send(SendBatch{&batch, own_id});
  session.send(AskCount{17, "home"});
  REQUIRE(session.wait_for([&] { return !session.broken.empty(); }));
  CHECK(session.answers.empty());
  CHECK(session.broken.size() == 1);
  CHECK(session.broken.front().find("NOSCRIPT") != std::string::npos);
  session.link().connect();
  REQUIRE(session.wait_for([&] { return session.connected == 2; }));
  CHECK(session.apply(batch).kind == Kind::applied);
}

TEST_CASE("an error that the server answers is an answer, and the connection goes on") {
  const RedisServer server;
  Session session(server);
  CHECK(server.ask({"CONFIG", "SET", "maxmemory", "1"}) == "OK");
  const Batch batch = batch_of(1, {{"home", 1}});
  session.send(SendBatch{&batch, own_id});
  session.send(AskCount{17, "home"});
  REQUIRE(session.wait_for_answers(2));
  CHECK(std::get<Refused>(session.answers[0]).error.find("OOM") == 0);
  CHECK(std::get<Count>(session.answers[1]).count == 0);
  CHECK(session.broken.empty());
  CHECK(server.ask({"CONFIG", "SET", "maxmemory", "0"}) == "OK");
  CHECK(session.apply(batch).kind == Kind::applied);
  CHECK(session.connected == 1);
  CHECK(server.ask({"ACL", "SETUSER", "default", "-hmget"}) == "OK");
  CHECK(session.ask<Refused>(AskCount{17, "home"}).error.find("NOPERM") == 0);
  CHECK(session.broken.empty());
}

TEST_CASE("a server that answers with an error before the connection is ready has turned us away") {
  const RedisServer server({"--requirepass", "secret"});
  Session session(Session::tcp(server.port()));
  session.link().connect();
  REQUIRE(session.wait_for([&] { return !session.turned_away.empty(); }));
  CHECK(session.turned_away.front().find("NOAUTH") != std::string::npos);
  CHECK(session.connected == 0);

  Session nobody(Session::tcp(test::free_port()));
  nobody.link().connect();
  REQUIRE(nobody.wait_for([&] { return !nobody.broken.empty(); }));
  CHECK(nobody.turned_away.empty());
}

TEST_CASE("what is thrown while an answer is told reaches no library") {
  const RedisServer server;
  Session session(server);
  session.when_answered = [] { throw std::runtime_error("it broke"); };
  session.send(AskCount{17, "home"});
  REQUIRE(session.wait_for([&] { return !session.faults.empty(); }));
  CHECK(session.faults == std::vector<std::string>{"it broke"});
  Session connecting(Session::tcp(server.port()));
  connecting.when_connected = [] { throw std::runtime_error("it broke early"); };
  connecting.link().connect();
  REQUIRE(connecting.wait_for([&] { return !connecting.faults.empty(); }));
  Session breaking(Session::tcp(test::free_port()));
  breaking.when_broken = [] { throw std::runtime_error("it broke late"); };
  breaking.link().connect();
  REQUIRE(breaking.wait_for([&] { return !breaking.faults.empty(); }));
}

TEST_CASE("the oldest command without an answer ends the connection, however many later ones are answered") {
  test::TricklingServer server;
  Session session(Session::tcp(server.port()));
  session.link().connect();
  REQUIRE(session.wait_for([&] { return session.connected == 1; }));
  const std::uint64_t began = monotonic_ms();
  // Each answer comes within the timeout, all of them do not.
  for (int asked = 0; asked < 20; ++asked) session.send(AskCount{17, "home"});
  REQUIRE(session.wait_for([&] { return !session.broken.empty(); }, 10000));
  CHECK(monotonic_ms() - began < 2 * timeout_ms);
  CHECK_FALSE(session.answers.empty());
  CHECK(session.broken.front().find("no answer within 1000 ms") != std::string::npos);
}

TEST_CASE("an answer to no question ends the connection") {
  test::TricklingServer server(2);
  Session session(Session::tcp(server.port()));
  session.link().connect();
  REQUIRE(session.wait_for([&] { return session.connected == 1; }));
  session.send(AskCount{17, "home"});
  REQUIRE(session.wait_for([&] { return !session.broken.empty(); }));
  CHECK(session.done == std::vector<int>{0});
  CHECK(session.broken.front().find("answered what it was not asked") != std::string::npos);
}

TEST_CASE("a closed or destroyed connection says nothing any more") {
  const RedisServer server;
  SUBCASE("closed while commands are out") {
    Session session(server);
    session.send(AskMarks{{17}});
    session.send(AskMarks{{17}});
    session.link().close();
    CHECK(session.lost == std::vector<int>{1, 2});  // 0: the stamp
    session.wait_for([] { return false; }, 50);
    CHECK(session.answers.empty());
    CHECK(session.broken.empty());
    session.link().connect();
    CHECK(session.wait_for([&] { return session.connected == 2; }));
  }
  SUBCASE("closed from within an answer") {
    Session session(server);
    session.when_answered = [&] { session.link().close(); };
    for (int asked = 0; asked < 10; ++asked) session.send(AskMarks{{17}});
    REQUIRE(session.wait_for([&] { return !session.answers.empty(); }));
    session.wait_for([] { return false; }, 50);
    CHECK(session.answers.size() == 1);
    CHECK(session.broken.empty());
  }
  SUBCASE("connected anew from within an answer") {
    Session session(server);
    session.when_answered = [&] {
      session.link().close();
      session.link().connect();
    };
    for (int asked = 0; asked < 10; ++asked) session.send(AskMarks{{17}});
    CHECK(session.wait_for([&] { return session.connected == 2; }));
    CHECK(session.answers.size() == 1);
    CHECK(session.broken.empty());
  }
  SUBCASE("destroyed from within an answer") {
    Session session(server);
    session.when_answered = [&] { session.destroy(); };
    for (int asked = 0; asked < 10; ++asked) session.send(AskMarks{{17}});
    REQUIRE(session.wait_for([&] { return !session.answers.empty(); }));
    session.wait_for([] { return false; }, 50);
    CHECK(session.answers.size() == 1);
    CHECK(session.broken.empty());
  }
  SUBCASE("destroyed from within on_connected") {
    Session session(Session::tcp(server.port()));
    session.when_connected = [&] { session.destroy(); };
    session.link().connect();
    REQUIRE(session.wait_for([&] { return session.connected == 1; }));
    session.wait_for([] { return false; }, 50);
    CHECK(session.connected == 1);
    CHECK(session.broken.empty());
  }
  SUBCASE("destroyed from within on_broken") {
    Session session(Session::tcp(test::free_port()));
    session.when_broken = [&] { session.destroy(); };
    session.link().connect();
    REQUIRE(session.wait_for([&] { return !session.broken.empty(); }));
    session.wait_for([] { return false; }, 50);
    CHECK(session.broken.size() == 1);
  }
  SUBCASE("destroyed while a name is being resolved") {
    Session session(Session::tcp(server.port()));
    session.link().connect();
    session.destroy();
    session.wait_for([] { return false; }, 50);
    CHECK(session.connected == 0);
  }
}

}  // namespace visitd
