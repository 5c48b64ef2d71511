#include "flusher/redis/dialect.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <string>
#include <vector>

namespace visitd {

namespace {

using Kind = BatchAnswer::Kind;
using Progress = Handshake::Progress;

std::string bulk(const std::string& text) {
  return fmt::format("${}\r\n{}\r\n", text.size(), text);
}
std::string array(const std::vector<std::string>& elements) {
  std::string text = fmt::format("*{}\r\n", elements.size());
  for (const std::string& element : elements) text += element;
  return text;
}
const std::string nil = "$-1\r\n";
const std::string wrong_type = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";

/// A reply that is none of Redis's to any command of ours but to the fewest.
const std::vector<std::string> odd_replies = {":1\r\n", "*0\r\n", "*-1\r\n", nil, "+OK\r\n", array({array({nil})})};

/// The arguments of the commands in a text.
std::vector<std::vector<std::string>> commands_in(const RequestText& text) {
  ReplyReader reader;
  reader.feed(text.text());
  std::vector<std::vector<std::string>> commands;
  while (const auto command = reader.next()) {
    commands.emplace_back();
    for (std::size_t i = 0; i < command->size(); ++i) commands.back().emplace_back((*command)[i].text());
  }
  return commands;
}

struct Talk {
  explicit Talk(const ShardSettings& shard = {}) : dialect("w1", shard) {
    dialect.begin({"m", "t", "b", "v", "k", "n", "s"});
  }

  /// What the server's bytes mean as the answer to the command.
  ShardAnswer answer(const ShardCommand& command, const std::string& replies) {
    RequestText text;
    Awaited awaited = dialect.write(command, text);
    ReplyReader reader;
    reader.feed(replies);
    while (const auto reply = reader.next()) {
      if (auto said = dialect.read(awaited, *reply)) return *said;
    }
    FAIL("the replies are no answer");
    return Refused{};
  }
  template <typename Answer>
  Answer ask(const ShardCommand& command, const std::string& replies) {
    const ShardAnswer said = answer(command, replies);
    REQUIRE(std::holds_alternative<Answer>(said));
    return std::get<Answer>(said);
  }
  [[nodiscard]] std::vector<std::string> said(const ShardCommand& command) const {
    RequestText text;
    static_cast<void>(dialect.write(command, text));
    return commands_in(text).front();
  }
  void check_unusable(const ShardCommand& command, const std::string& replies) {
    CAPTURE(replies);
    CHECK_THROWS_AS(answer(command, replies), UnusableReply);
  }
  void check_refused(const ShardCommand& command) {
    CHECK(ask<Refused>(command, "-OOM command not allowed\r\n").error == "OOM command not allowed");
    CHECK_THROWS_AS(answer(command, "-NOSCRIPT No matching script.\r\n"), UnusableReply);
  }

  Dialect dialect;
};

Batch batch_of(std::vector<Effect> pages) {
  return {17, {{1, 0xabc}, 3, 7}, "before", std::move(pages)};
}

}  // namespace

TEST_CASE("a reply that is asked for what it does not hold is nil or empty") {
  ReplyReader reader;
  reader.feed("*2\r\n:5\r\n$1\r\na\r\n");
  const Reply reply = reader.next().value();
  CHECK(reply.size() == 2);
  CHECK(reply.text().empty());
  CHECK(reply[0].text().empty());
  CHECK(reply[1].text() == "a");
  CHECK(reply[2].is_nil());
  CHECK(reply[1][0].is_nil());
  CHECK(reply[2][7].size() == 0);
}

TEST_CASE("replies come whole, however their bytes are cut, and what is none is told") {
  const std::string replies = "+OK\r\n" + bulk("a\r\nb") + array({nil, bulk("")}) + "-ERR x\r\n";
  ReplyReader reader;
  std::vector<std::string> texts;
  for (const char byte : replies) {
    reader.feed({&byte, 1});
    while (const auto reply = reader.next()) texts.emplace_back(reply->text());
  }
  CHECK(texts == std::vector<std::string>{"OK", "a\r\nb", "", "ERR x"});
  for (const std::string none : {"HTTP/1.1 400\r\n", "$x\r\n", "*-2\r\n", "*1000000000\r\n"}) {
    CAPTURE(none);
    ReplyReader other;
    other.feed(none);
    CHECK_THROWS_AS(static_cast<void>(other.next()), Error);
    CHECK_THROWS_AS(static_cast<void>(other.next()), Error);
  }
}

TEST_CASE("a server that sentinels named has to be a primary") {
  ShardSettings shard;
  shard.sentinels = {.addresses = {{"s0", 26379}}, .primary = "counts"};
  const auto progress_and_error = [&](const std::string& role) {
    Handshake handshake(shard);
    RequestText text;
    handshake.write(text);
    const auto commands = commands_in(text);
    CHECK(commands.at(1) == std::vector<std::string>{"ROLE"});
    ReplyReader reader;
    reader.feed("+OK\r\n" + role);
    Progress progress = Progress::under_way;
    while (const auto reply = reader.next()) progress = handshake.read(*reply);
    return std::pair(progress, handshake.error());
  };
  CHECK(progress_and_error(array({bulk("master"), ":7\r\n", array({})})).first == Progress::under_way);
  for (const std::string& role : {array({bulk("slave"), bulk("h"), ":1\r\n", bulk("connected"), ":7\r\n"}),
                                  array({bulk("sentinel"), array({})}), nil, array({})}) {
    CHECK(progress_and_error(role).first == Progress::not_primary);
  }
  const auto refused = progress_and_error("-NOPERM this user\r\n");
  CHECK(refused.first == Progress::refused);
  CHECK(refused.second.find("ROLE: NOPERM") != std::string::npos);
}

TEST_CASE("a connection begins with password, database, name and scripts, and each can be refused") {
  ShardSettings shard;
  shard.username = "user";
  shard.password = "secret";
  shard.password_place = "the file";
  shard.database = 3;
  Handshake handshake(shard);
  RequestText text;
  handshake.write(text);
  const auto commands = commands_in(text);
  REQUIRE(commands.size() == 10);
  CHECK(commands[0] == std::vector<std::string>{"AUTH", "user", "secret"});
  CHECK(commands[1] == std::vector<std::string>{"SELECT", "3"});
  CHECK(commands[2] == std::vector<std::string>{"CLIENT", "SETNAME", "visitd"});
  for (std::size_t script : {3U, 4U, 5U, 6U, 7U, 8U, 9U}) CHECK(commands[script].at(1) == "LOAD");

  const auto read = [&](const std::string& replies) {
    handshake.write(text);
    ReplyReader reader;
    reader.feed(replies);
    Progress progress = Progress::under_way;
    while (const auto reply = reader.next()) progress = handshake.read(*reply);
    return progress;
  };
  const std::string scripts = bulk("m") + bulk("t") + bulk("b") + bulk("v") + bulk("k") + bulk("n") + bulk("s");
  CHECK(read("+OK\r\n+OK\r\n+OK\r\n" + scripts) == Progress::done);
  CHECK(handshake.scripts().marks == "m");
  CHECK(handshake.scripts().topology == "t");
  CHECK(handshake.scripts().batch == "b");
  CHECK(handshake.scripts().move == "v");
  CHECK(handshake.scripts().take_moves == "k");
  CHECK(handshake.scripts().note_writer == "n");
  CHECK(handshake.scripts().sum == "s");
  CHECK(read("+OK\r\n+OK\r\n-NOPERM\r\n" + scripts) == Progress::done);
  CHECK(handshake.error().empty());
  CHECK(read("+OK\r\n+OK\r\n-ERR max number of clients reached\r\n") == Progress::under_way);
  CHECK(handshake.error() == "ERR max number of clients reached");
  CHECK(read("-WRONGPASS\r\n") == Progress::refused);
  CHECK(handshake.error() == "the password for user user was not accepted, which comes from the file: WRONGPASS");
  CHECK(read("+OK\r\n-ERR DB index is out of range\r\n") == Progress::refused);
  CHECK(handshake.error() == "SELECT: ERR DB index is out of range");
  for (const std::string& odd : odd_replies) CHECK(read("+OK\r\n+OK\r\n+OK\r\n" + odd) == Progress::refused);
  CHECK(handshake.error() == "SCRIPT LOAD: an answer of another kind than Redis gives");
  handshake.forget();
  CHECK(handshake.error().empty());
}

TEST_CASE("facts are told by CONFIG, or by INFO, or not at all") {
  Talk t;
  const auto config = [](const std::string& value) { return array({bulk("name"), bulk(value)}); };
  const std::string info = bulk(
      "# Server\r\nrun_id:f00\r\nnot_role:x\r\nrole:slave\r\nmaxmemory_policy:lru\r\naof_enabled:1\r\n"
      "redis_version:7.0.15\r\nused_memory:900\r\nused_memory_rss:1\r\nmaxmemory:0\r\n");
  Facts facts = t.ask<Facts>(AskFacts{}, config("noeviction") + config("no") + info + bulk("topology"));
  CHECK(facts.maxmemory_policy == "noeviction");
  CHECK(facts.append_only == "no");
  CHECK(facts.role == "slave");
  CHECK(facts.run_id == "f00");
  CHECK(facts.version == "redis 7.0.15");
  CHECK(facts.memory_bytes == 900U);
  CHECK(facts.memory_limit_bytes == 0U);
  CHECK(facts.topology == "topology");
  facts = t.ask<Facts>(AskFacts{}, "-ERR unknown command\r\n*0\r\n" + info + nil);
  CHECK(facts.maxmemory_policy == "lru");
  CHECK(facts.append_only == "yes");
  CHECK(facts.topology.empty());
  for (const std::string& odd : odd_replies) {
    facts = t.ask<Facts>(AskFacts{}, odd + odd + odd + nil);
    CHECK_FALSE(facts.maxmemory_policy);
    CHECK_FALSE(facts.append_only);
    CHECK_FALSE(facts.role);
    CHECK_FALSE(facts.version);
    CHECK_FALSE(facts.memory_bytes);
  }
  const std::string valkey = bulk("redis_version:7.2.4\r\nvalkey_version:8.1.1\r\nused_memory:9x\r\nmaxmemory:\r\n");
  facts = t.ask<Facts>(AskFacts{}, config("a") + config("b") + valkey + nil);
  CHECK(facts.version == "valkey 8.1.1");
  CHECK_FALSE(facts.memory_bytes);
  CHECK_FALSE(facts.memory_limit_bytes);
  const std::string before = config("a") + config("b") + info;
  CHECK(t.ask<Refused>(AskFacts{}, before + "-LOADING\r\n").error == "LOADING");
  for (const std::string& other : {wrong_type, std::string(":1\r\n"), std::string("*0\r\n"), std::string("+OK\r\n")}) {
    t.check_unusable(AskFacts{}, before + other);
  }
  // What an earlier connection has told is none of the next one's.
  t.dialect.begin({"m", "t", "b", "v", "k", "n", "s"});
  CHECK_FALSE(t.ask<Facts>(AskFacts{}, "*0\r\n*0\r\n-ERR\r\n" + nil).maxmemory_policy);
}

TEST_CASE("the topology is set by its script, which says what it is") {
  Talk t;
  CHECK(t.said(MakeTopology{"old", "new"}) ==
        std::vector<std::string>{"EVALSHA", "t", "1", "visits:topology", "old", "new"});
  CHECK(t.ask<Topology>(MakeTopology{}, bulk("new")).topology == "new");
  t.check_refused(MakeTopology{});
  for (const std::string& odd : odd_replies) t.check_unusable(MakeTopology{}, odd);
  CHECK(t.ask<Refused>(MakeTopology{}, wrong_type).error.starts_with("WRONGTYPE"));
}

TEST_CASE("writers are noted, asked for, and forgotten") {
  Talk t;
  using Words = std::vector<std::string>;
  CHECK(t.said(NoteWriter{{{"w1", "note"}, {"w1:wrote", "7"}}}) ==
        Words{"EVALSHA", "n", "2", "visits:writers", "visits:topology", "w1", "note", "w1:wrote", "7"});
  static_cast<void>(t.ask<Noted>(NoteWriter{}, ":1\r\n"));
  CHECK(t.said(AskWriters{}) == Words{"HGETALL", "visits:writers"});
  const Writers writers = t.ask<Writers>(AskWriters{}, array({bulk("a"), bulk("x"), bulk("a:wrote"), bulk("1")}));
  REQUIRE(writers.fields.size() == 2);
  CHECK(writers.fields[1] == std::pair<std::string, std::string>{"a:wrote", "1"});
  const ForgetWriter forget{"w2", "id 2", {3, 4, 5, 6}};
  const Words words = t.said(forget);
  CHECK(words.at(0) == "EVAL");
  CHECK(Words(words.begin() + 2, words.end()) == Words{"4", "visits:{3}", "visits:{4}", "visits:{5}", "visits:{6}",
                                                       "id 2", "\x01id", "\x01w:w2", "\x01gone:w2", "\x01moved",
                                                       "\x01moving"});
  const auto told = t.ask<Forgotten>(forget, array({bulk("OUT"), bulk("NOTHING"), bulk("NOT"), bulk("MOVED b 2")}));
  using Told = Forgotten::Bucket;
  REQUIRE(told.buckets.size() == 4);
  CHECK(told.buckets[0].kind == Told::Kind::taken_out);
  CHECK(told.buckets[1].kind == Told::Kind::nothing);
  CHECK(told.buckets[2].kind == Told::Kind::not_now);
  CHECK(told.buckets[3].kind == Told::Kind::moved);
  CHECK(told.buckets[3].marker == "b 2");
  for (const ShardCommand& command : {ShardCommand(AskWriters{}), ShardCommand(forget)}) {
    t.check_refused(command);
    CHECK(t.ask<Refused>(command, wrong_type).error.starts_with("WRONGTYPE"));
    t.check_unusable(command, nil);
    t.check_unusable(command, ":1\r\n");
    t.check_unusable(command, array({bulk("a")}));
  }
  t.check_unusable(forget, array({bulk("OUT"), bulk("OUT"), bulk("OUT"), bulk("many")}));
  const Batch batch = batch_of({{"a", 1}});
  CHECK(t.ask<BatchAnswer>(SendBatch{&batch, "id"}, bulk("GONE")).kind == Kind::forgotten);
}

TEST_CASE("marks are as many as buckets were asked for") {
  Talk t;
  const AskMarks ask{{3, 4, 5}, "id 2"};
  CHECK(t.said(ask) == std::vector<std::string>{"EVALSHA", "m", "3", "visits:{3}", "visits:{4}", "visits:{5}",
                                                "\x01w:w1", "\x01id", "id 2", "\x01moved", "\x01gone:w1"});
  const Marks marks =
      t.ask<Marks>(ask, array({bulk("\nmark\n\n"), bulk("id 2\nits mark\nredis_b 2\nwas here"), bulk("!")}));
  REQUIRE(marks.buckets.size() == 3);
  CHECK(marks.buckets[0].id.empty());
  CHECK(marks.buckets[0].field == "mark");
  CHECK(marks.buckets[1].id == "id 2");
  CHECK(marks.buckets[1].field == "its mark");
  CHECK(marks.buckets[1].moved == "redis_b 2");
  CHECK(marks.buckets[1].gone == "was here");
  CHECK(marks.buckets[0].gone.empty());
  CHECK(marks.buckets[2].field == not_a_hash);
  // No text says nothing.
  CHECK(t.ask<Marks>(ask, array({nil, ":1\r\n", array({nil})})).buckets[1].field.empty());
  t.check_refused(ask);
  for (const std::string& odd : odd_replies) t.check_unusable(ask, odd);
  t.check_unusable(ask, array({bulk("="), bulk("=")}));
  t.check_unusable(ask, array({bulk("="), bulk("="), bulk("="), bulk("=")}));
  CHECK(t.ask<Refused>(ask, wrong_type).error.starts_with("WRONGTYPE"));
}

TEST_CASE("a batch is applied, or it is said why not") {
  Talk t;
  const std::string fix = std::string(1, '\x01') + "fix";
  const Batch batch = batch_of({{"home", 3}, {"a b", 1}});
  const SendBatch send{&batch, "id 2"};
  CHECK(t.said(send) == std::vector<std::string>{"EVALSHA", "b", "1", "visits:{17}", "before", to_text(batch.mark),
                                                 "id 2", "", "3", "1", "\x01id", "\x01w:w1", "\x01moved", "\x01moving",
                                                 fix, "\x01sum", "home", "a b"});
  BatchAnswer said = t.ask<BatchAnswer>(send, bulk("OK 7 9223372036854775807 1"));
  CHECK(said.kind == Kind::applied);
  CHECK(said.fix == 7);
  CHECK(said.totals == std::vector<std::uint64_t>{0x7fff'ffff'ffff'ffffU, 1});
  CHECK(t.ask<BatchAnswer>(send, bulk("DUP 0 3 1")).kind == Kind::duplicate);
  CHECK(t.ask<BatchAnswer>(send, bulk("DUP 0 - 1")).totals == std::vector<std::uint64_t>{no_total, 1});
  said = t.ask<BatchAnswer>(send, bulk("HAVE a mark"));
  CHECK(said.kind == Kind::have);
  CHECK(said.have == "a mark");
  said = t.ask<BatchAnswer>(send, bulk("NOID "));
  CHECK(said.kind == Kind::foreign);
  CHECK(said.have.empty());
  said = t.ask<BatchAnswer>(send, bulk("BAD 1"));
  CHECK(said.kind == Kind::refused);
  CHECK(said.bad_series == std::vector<std::uint32_t>{1});
  said = t.ask<BatchAnswer>(send, bulk("WRONGTYPE"));
  CHECK(said.kind == Kind::refused);
  CHECK(said.bad_series.empty());
  said = t.ask<BatchAnswer>(send, bulk("MOVED redis_b 2"));
  CHECK(said.kind == Kind::moved);
  CHECK(said.why == "redis_b 2");
  CHECK(t.ask<BatchAnswer>(send, bulk("MOVING redis_b")).kind == Kind::moving);
  t.check_refused(send);
  for (const std::string& odd : odd_replies) t.check_unusable(send, odd);
  for (const char* none :
       {"", "OK", "OK 0 1", "OK 1 2 3 4", "OK 0 1 -2", "OK 0 1 x", "OK 0  1 2", "OK 0 1 9223372036854775808",
        "ok 0 1 2", "BAD", "BAD 2", "BAD x", "DUP", "OK 0 - 1", "DUP - 1 2", "DUP 0 1 --"}) {
    t.check_unusable(send, bulk(none));
  }
  CHECK(t.ask<Refused>(send, wrong_type).error.starts_with("WRONGTYPE"));
  const Batch empty = batch_of({});
  CHECK(t.ask<BatchAnswer>(SendBatch{&empty, ""}, bulk("OK 0")).totals.empty());
  t.check_unusable(SendBatch{&empty, ""}, bulk("BAD 0"));
}

TEST_CASE("a correction says what the bucket should know of corrections, and the differences") {
  Talk t;
  Batch batch = batch_of({{"home", std::uint64_t{0} - 3}, {"about", 9}});
  batch.correction = Correction{41, "root", {"", ""}};
  SendBatch send{&batch, "id 2", false, 1'700'000'000};
  const std::vector<std::string> said = t.said(send);
  CHECK(said.at(7) == "41 1700000000");
  CHECK(said.at(8) == "-3");
  CHECK(said.at(9) == "9");
  send.again = true;
  CHECK(t.said(send).at(7) == "* 1700000000");
  CHECK(t.ask<BatchAnswer>(send, bulk("LOW 1")).kind == Kind::low);
  CHECK(t.ask<BatchAnswer>(send, bulk("FIX 42")).kind == Kind::corrected);
}

TEST_CASE("a step of a move is answered with what came of it") {
  Talk t;
  using Moved = MoveAnswer::Kind;
  const MoveBucket out{MoveBucket::Step::copy_out, 17, "id 2", "redis_b 2"};
  CHECK(t.said(out) == std::vector<std::string>{"EVALSHA", "v", "1", "visits:{17}", "out", "id 2", "redis_b 2", "",
                                                "\x01id", "\x01moving", "\x01moved",
                                                "\x01"
                                                "from"});
  CHECK(t.said(MoveBucket{MoveBucket::Step::copy_in, 17, "id 2", "redis_b 2", "bytes"}).at(4) == "in");
  CHECK(t.said(MoveBucket{MoveBucket::Step::copy_in, 17, "id 2", "redis_b 2", "bytes"}).at(7) == "bytes");
  CHECK(t.said(MoveBucket{MoveBucket::Step::send_away, 17, "id 2", "redis_b 2"}).at(4) == "away");
  CHECK(t.said(MoveBucket{MoveBucket::Step::drop, 17, "id 2", "redis_b 2"}).at(4) == "drop");
  CHECK(t.ask<MoveAnswer>(out, bulk("OK")).kind == Moved::done);
  CHECK(t.ask<MoveAnswer>(out, bulk("DROPPED")).kind == Moved::dropped);
  CHECK(t.ask<MoveAnswer>(out, bulk("ABSENT")).kind == Moved::absent);
  const std::string dump("a\0b\r\n", 5);
  CHECK(t.ask<MoveAnswer>(out, bulk("COPY " + dump)).text == dump);
  const MoveAnswer bad = t.ask<MoveAnswer>(out, bulk("BAD it was not sent away"));
  CHECK(bad.kind == Moved::refused);
  CHECK(bad.text == "it was not sent away");
  t.check_refused(out);
  for (const std::string& odd : odd_replies) t.check_unusable(out, odd);
}

TEST_CASE("who moves buckets is who asked, or somebody else") {
  Talk t;
  const TakeMoves take{"w1", 5000};
  CHECK(t.said(take) == std::vector<std::string>{"EVALSHA", "k", "1", "visits:mover", "w1", "5000"});
  CHECK(t.ask<MovesTaken>(take, bulk("w1")).ours);
  CHECK_FALSE(t.ask<MovesTaken>(take, bulk("w2")).ours);
  t.check_refused(take);
  CHECK(t.ask<Refused>(take, wrong_type).error.starts_with("WRONGTYPE"));
}

TEST_CASE("what waits for the disk is told by INFO") {
  Talk t;
  const AskPersistence ask;
  const auto waits = [&](const std::string& info) { return t.ask<Persistence>(ask, bulk(info)).waits; };
  CHECK_FALSE(waits("aof_enabled:0\r\n"));
  CHECK_FALSE(waits("aof_pending_bio_fsync:0\r\naof_buffer_length:0\r\naof_last_write_status:ok\r\n"));
  CHECK(waits("aof_pending_bio_fsync:1\r\naof_buffer_length:0\r\n"));
  CHECK(waits("aof_pending_bio_fsync:0\r\naof_buffer_length:12\r\n"));
  CHECK(waits("aof_last_write_status:err\r\n"));
}

TEST_CASE("how far replicas are behind is told by INFO") {
  Talk t;
  const AskPersistence ask;
  CHECK(t.said(ask) == std::vector<std::string>{"INFO"});
  const auto persistence = [&](const std::string& replicas) {
    return t.ask<Persistence>(ask, bulk("# Replication\r\nrole:master\r\n" + replicas + "master_repl_offset:1234\r\n"));
  };
  const Persistence alone = persistence("connected_slaves:0\r\n");
  CHECK(alone.written == 1234);
  CHECK(alone.replicas == 0);
  CHECK(alone.replicated == 1234);
  CHECK_FALSE(alone.waits);
  const std::string first = "slave0:ip=127.0.0.1,port=7001,state=online,offset=1230,lag=0\r\n";
  const Persistence two = persistence(first + "slave1:ip=127.0.0.1,port=7002,state=online,offset=1000,lag=1\r\n");
  CHECK(two.replicas == 2);
  CHECK(two.replicated == 1000);
  CHECK_FALSE(two.waits);
  CHECK(persistence(first + "slave1:ip=127.0.0.1,port=7002,state=send_bulk,offset=0,lag=0\r\n").waits);
  CHECK(persistence("slave0:ip=127.0.0.1,port=7001,state=online\r\n").replicated == 0);
  CHECK(t.ask<Persistence>(ask, bulk("role:slave\r\nmaster_repl_offset:7\r\n")).waits);
}

TEST_CASE("WAIT answers how many replicas have it, and WAITAOF whether disks do, once something was written") {
  Talk t;
  const std::string ok = "+OK\r\n";
  const AskReplicas wait{17, 2, false, 3000};
  const AskReplicas wait_aof{17, 2, true, 3000};
  using Words = std::vector<std::string>;
  for (const auto& [ask, words] :
       {std::pair(wait, Words{"WAIT", "2", "3000"}), std::pair(wait_aof, Words{"WAITAOF", "1", "2", "3000"})}) {
    RequestText text;
    static_cast<void>(t.dialect.write(ask, text));
    CHECK(commands_in(text) == std::vector<Words>{{"SET", "visits:{17}:wait", "1", "EX", "60"}, words});
  }
  CHECK(t.ask<Replicas>(wait, ok + ":1\r\n").replicas == 1);
  const auto both = t.ask<Replicas>(wait_aof, ok + array({":1\r\n", ":2\r\n"}));
  CHECK(both.replicas == 2);
  CHECK(both.on_disk);
  CHECK_FALSE(t.ask<Replicas>(wait_aof, ok + array({":0\r\n", ":2\r\n"})).on_disk);
  CHECK(t.ask<Refused>(wait, ok + "-NOPERM x\r\n").error == "NOPERM x");
  for (const AskReplicas& ask : {wait, wait_aof}) {
    for (const std::string& odd : {bulk("1"), nil, array({":1\r\n"})}) t.check_unusable(ask, ok + odd);
  }
  t.check_unusable(wait, ok + ":-1\r\n");
  // What was not written is waited for in vain: such a server says at once that every replica has it.
  CHECK(t.ask<Refused>(wait, "-READONLY x\r\n:2\r\n").error == "READONLY x");
  CHECK(t.ask<Refused>(wait, ":5\r\n:2\r\n").error.starts_with("SET"));
  CHECK(t.ask<Replicas>(wait, ok + ":2\r\n").replicas == 2);
}

TEST_CASE("a count is five fields of a hash") {
  Talk t;
  const AskCount ask{17, "home"};
  CHECK(t.said(ask) == std::vector<std::string>{"HMGET", "visits:{17}", "\x01id",
                                                "\x01"
                                                "fix",
                                                "\x01moved", "\x01w:w1", "home"});
  const auto fields = [](const std::string& page) { return array({bulk("id"), nil, bulk("b"), bulk("mark"), page}); };
  Count count = t.ask<Count>(ask, fields(bulk("9223372036854775807")));
  CHECK(count.id == "id");
  CHECK(count.fix == 0);
  CHECK(count.moved == "b");
  CHECK(count.field == "mark");
  CHECK(count.count == 0x7fff'ffff'ffff'ffffU);
  CHECK(count.readable);
  CHECK(t.ask<Count>(ask, array({bulk("id"), bulk("17"), nil, nil, nil})).fix == 17);
  CHECK(t.ask<Count>(ask, array({bulk("id"), bulk("17x"), nil, nil, nil})).fix == 0);
  count = t.ask<Count>(ask, fields(nil));
  CHECK(count.count == 0);
  CHECK(count.readable);
  for (const char* none : {"", "x", "-1", "+1", "01", "1 ", "9223372036854775808", "1e3"}) {
    CAPTURE(none);
    count = t.ask<Count>(ask, fields(bulk(none)));
    CHECK_FALSE(count.readable);
    CHECK(count.count == 0);
  }
  CHECK_FALSE(t.ask<Count>(ask, wrong_type).readable);
  t.check_refused(ask);
  for (const std::string& odd : odd_replies) t.check_unusable(ask, odd);
  t.check_unusable(ask, fields(":1\r\n"));
  t.check_unusable(ask, array({nil, nil, nil, nil}));
  t.check_unusable(ask, array({nil, nil, nil, nil, nil, nil}));
}

// ---- a cluster

namespace {

ShardSettings node_of_cluster() {
  ShardSettings node;
  node.host = "10.0.0.1";
  node.port = 7000;
  node.in_cluster = true;
  return node;
}

/// A talk with a node of a cluster.
struct ClusterTalk : Talk {
  ClusterTalk() : Talk(node_of_cluster()) {}
};

}  // namespace

TEST_CASE("in a cluster, the notes of writers are in the slot of the topology, for one script looks at both") {
  ClusterTalk talk;
  using Words = std::vector<std::string>;
  CHECK(talk.said(NoteWriter{{{"w1", "note"}}}) ==
        Words{"EVALSHA", "n", "2", "visits:writers{visits:topology}", "visits:topology", "w1", "note"});
  CHECK(talk.said(AskWriters{}) == Words{"HGETALL", "visits:writers{visits:topology}"});
  CHECK(talk.ask<Redirect>(AskWriters{}, "-MOVED 17 10.0.0.2:7001\r\n").node == "10.0.0.2:7001");
}

TEST_CASE("in a cluster, who moves buckets is noted in the slot of the topology, and a step may follow ASK") {
  ClusterTalk talk;
  CHECK(talk.said(TakeMoves{"w1", 5000}).at(3) == "visits:mover{visits:topology}");
  CHECK(talk.ask<Redirect>(TakeMoves{"w1", 5000}, "-MOVED 17 10.0.0.2:7001\r\n").node == "10.0.0.2:7001");
  MoveBucket in{MoveBucket::Step::copy_in, 17, "id 2", "cluster 2", "bytes"};
  CHECK(talk.ask<Redirect>(in, "-ASK 17 10.0.0.2:7001\r\n").once);
  in.once = true;
  CHECK(talk.ask<MoveAnswer>(in, "+OK\r\n" + bulk("OK")).kind == MoveAnswer::Kind::done);
}

TEST_CASE("a node of a cluster sends batches and reads to another node") {
  ClusterTalk talk;
  const Batch batch = batch_of({{"p", 1}});
  const auto moved = talk.ask<Redirect>(SendBatch{&batch, "id"}, "-MOVED 17 10.0.0.2:7001\r\n");
  CHECK(moved.node == "10.0.0.2:7001");
  CHECK_FALSE(moved.once);
  const auto once = talk.ask<Redirect>(AskCount{17, "p"}, "-ASK 17 node.test:7002\r\n");
  CHECK(once.node == "node.test:7002");
  CHECK(once.once);
  CHECK(talk.ask<Redirect>(AskCount{17, "p"}, "-MOVED 17 ::1:7003\r\n").node == "[::1]:7003");
  // A node without a name is where the one is that says so.
  CHECK(talk.ask<Redirect>(AskCount{17, "p"}, "-MOVED 17 :7004\r\n").node == "10.0.0.1:7004");
  for (const char* odd : {"-MOVED 17\r\n", "-MOVED\r\n", "-MOVED 17 host:port\r\n", "-ASK 17 host:70000\r\n",
                          "-CLUSTERDOWN The cluster is down\r\n", "-TRYAGAIN Multiple keys\r\n"}) {
    CAPTURE(odd);
    CHECK(talk.ask<Refused>(AskCount{17, "p"}, odd).error == std::string(odd).substr(1, std::string(odd).size() - 3));
  }
}

TEST_CASE("a server that is no node of a cluster sends nothing elsewhere") {
  Talk talk;
  CHECK(talk.ask<Refused>(AskCount{17, "p"}, "-MOVED 17 10.0.0.2:7001\r\n").error == "MOVED 17 10.0.0.2:7001");
}

TEST_CASE("what a node executes because of ASK is preceded by ASKING") {
  ClusterTalk talk;
  const Batch batch = batch_of({{"p", 1}});
  for (const ShardCommand& command :
       std::vector<ShardCommand>{SendBatch{&batch, "id", true}, AskCount{17, "p", true}, AskMarks{{17}, "", true}}) {
    RequestText text;
    static_cast<void>(talk.dialect.write(command, text));
    const auto commands = commands_in(text);
    REQUIRE(commands.size() == 2);
    CHECK(commands[0] == std::vector<std::string>{"ASKING"});
  }
  CHECK(talk.ask<BatchAnswer>(SendBatch{&batch, "id", true}, "+OK\r\n" + bulk("OK 0 5")).totals ==
        std::vector<std::uint64_t>{5});
  CHECK(talk.ask<Redirect>(SendBatch{&batch, "id", true}, "+OK\r\n-MOVED 17 10.0.0.2:7001\r\n").node ==
        "10.0.0.2:7001");
}

TEST_CASE("pages are what HSCAN says but for our own fields, with what HMGET says of the bucket") {
  Talk t;
  const AskPages ask{17, 12, 500};
  RequestText text;
  static_cast<void>(t.dialect.write(ask, text));
  CHECK(commands_in(text) == std::vector<std::vector<std::string>>{
                                 {"HSCAN", "visits:{17}", "12", "COUNT", "500"},
                                 {"HMGET", "visits:{17}", "\x01id", "\x01moved", "\x01w:w1", "\x01gone:w1"}});
  const std::string fields = array({bulk("id"), nil, bulk("mark"), bulk("gone")});
  const auto scan = [](const std::string& cursor, const std::vector<std::string>& list) {
    return array({bulk(cursor), array(list)});
  };
  const std::string some = scan("77", {bulk("home"), bulk("5"), bulk("\x01id"), bulk("id"), bulk("odd"), bulk("x")});
  const Pages pages = t.ask<Pages>(ask, some + fields);
  CHECK(pages.cursor == 77);
  REQUIRE(pages.pages.size() == 2);
  CHECK(pages.pages[0].id == "home");
  CHECK(pages.pages[0].count == 5);
  CHECK_FALSE(pages.pages[1].count);
  CHECK(pages.id == "id");
  CHECK(pages.moved.empty());
  CHECK(pages.field == "mark");
  CHECK(pages.gone == "gone");
  CHECK(t.ask<Pages>(ask, scan("0", {}) + fields).pages.empty());
  // Either of both may be refused; the second one's answer never becomes the next command's.
  CHECK(t.ask<Refused>(ask, "-NOPERM hscan\r\n" + fields).error == "NOPERM hscan");
  CHECK(t.ask<Refused>(ask, some + "-LOADING x\r\n").error == "LOADING x");
  CHECK(t.ask<Refused>(ask, wrong_type + wrong_type).error.starts_with("WRONGTYPE"));
  for (const std::string& odd : odd_replies) t.check_unusable(ask, odd + fields);
  t.check_unusable(ask, scan("0", {bulk("home")}) + fields);
  t.check_unusable(ask, scan("x", {}) + fields);
  t.check_unusable(ask, some + array({nil, nil, nil}));

  ClusterTalk talk;
  const std::string ok = "+OK\r\n";
  const AskPages once{17, 0, 500, true};
  CHECK(talk.ask<Pages>(once, ok + some + ok + fields).field == "mark");
  CHECK(talk.ask<Redirect>(once, ok + "-MOVED 17 10.0.0.2:7001\r\n" + ok + fields).node == "10.0.0.2:7001");
}

TEST_CASE("the sums of buckets are told, or that they are to be asked for again") {
  Talk t;
  const AskSums ask{{3, 5, 7}, 2000, {"w2", "w3"}};
  const std::string fix = std::string(1, '\x01') + "fix";
  CHECK(t.said(ask) == std::vector<std::string>{"EVALSHA", "s", "3", "visits:{3}", "visits:{5}", "visits:{7}", "2000",
                                                "\x01id", "\x01moved", fix, "\x01sum", "\x01moving", "\x01gone:w1",
                                                "\x01w:w1", "\x01w:w2", "\x01w:w3"});
  const std::string known = bulk("ID\n\nMARK\n\n18446744073709551616 9223372036854775807 12 1");
  const auto sums = t.ask<Sums>(ask, array({known, bulk("ID\nMOVED\n\nGONE\nLATER"), bulk("!")})).buckets;
  REQUIRE(sums.size() == 3);
  CHECK(sums[0].known);
  CHECK(sums[0].id == "ID");
  CHECK(sums[0].moved.empty());
  CHECK(sums[0].field == "MARK");
  CHECK(sums[0].sum == "18446744073709551616");
  CHECK(sums[0].largest == 0x7fff'ffff'ffff'ffffU);
  CHECK(sums[0].read == 12);
  CHECK(sums[0].odd == 1);
  CHECK_FALSE(sums[1].known);
  CHECK(sums[1].moved == "MOVED");
  CHECK(sums[1].gone == "GONE");
  CHECK(sums[2].error == "its key is no hash");
  t.check_refused(ask);
  for (const std::string& odd : odd_replies) t.check_unusable(ask, odd);
  const AskSums one{{3}, 2000, {}};
  for (const char* none : {"", "ID\n\nMARK", "ID\n\nMARK\n\n", "\n\n\n\n1 2 3", "\n\n\n\n1 2 3 x", "\n\n\n\nx 2 3 4",
                           "\n\n\n\n1 -2 3 4", "\n\n\n\n1 9223372036854775808 3 4"}) {
    t.check_unusable(one, array({bulk(none)}));
  }
}

TEST_CASE("in a cluster the sum of each bucket is asked for by itself, wherever it is") {
  ClusterTalk talk;
  RequestText text;
  static_cast<void>(talk.dialect.write(AskSums{{3, 5}, 2000, {}}, text));
  const auto commands = commands_in(text);
  REQUIRE(commands.size() == 2);
  CHECK(commands[1][2] == "1");
  CHECK(commands[1][3] == "visits:{5}");
  const std::string known = array({bulk("\n\n\n\n7 7 0 0")});
  const auto sums = talk.ask<Sums>(AskSums{{3, 5, 7, 9, 11}, 2000, {}},
                                   known + "-MOVED 5 10.0.0.2:7001\r\n" + "-ASK 7 10.0.0.3:7002\r\n" +
                                       "-CLUSTERDOWN Hash slot not served\r\n" + "-NOPERM no\r\n")
                        .buckets;
  REQUIRE(sums.size() == 5);
  CHECK(sums[0].sum == "7");
  CHECK_FALSE(sums[1].redirect.value().once);
  CHECK(sums[2].redirect.value().once);
  CHECK(sums[3].redirect.value().node.empty());
  CHECK(sums[4].error == "NOPERM no");
  const AskSums once{{3}, 2000, {}, true};
  CHECK(talk.ask<Sums>(once, "+OK\r\n" + known).buckets.front().known);
}

TEST_CASE("each bucket of a cluster is asked for by itself, and only its own key goes with a batch") {
  ClusterTalk talk;
  RequestText text;
  static_cast<void>(talk.dialect.write(AskMarks{{3, 5}, "stamp"}, text));
  const auto commands = commands_in(text);
  REQUIRE(commands.size() == 2);
  CHECK(commands[0][2] == "1");
  CHECK(commands[0][3] == "visits:{3}");
  CHECK(commands[1][3] == "visits:{5}");
  Batch first = batch_of({{"p", 1}});
  first.expected.clear();
  CHECK(talk.said(SendBatch{&first, "id"})[2] == "1");
}

TEST_CASE("marks of a cluster say where each bucket is") {
  ClusterTalk talk;
  const auto marks =
      talk.ask<Marks>(AskMarks{{3, 5, 7, 9}}, array({bulk("ID\nMARK")}) + "-MOVED 5 10.0.0.2:7001\r\n" +
                                                  "-ASK 7 10.0.0.3:7002\r\n" + "-CLUSTERDOWN Hash slot not served\r\n");
  REQUIRE(marks.buckets.size() == 4);
  CHECK(marks.buckets[0].field == "MARK");
  CHECK_FALSE(marks.buckets[0].redirect);
  CHECK(marks.buckets[1].redirect.value().node == "10.0.0.2:7001");
  CHECK(marks.buckets[2].redirect.value().once);
  // Asked again in a while.
  CHECK(marks.buckets[3].redirect.value().once);
  CHECK(marks.buckets[3].redirect.value().node.empty());

  const std::string down = "-CLUSTERDOWN The cluster is down\r\n";
  CHECK(talk.ask<Refused>(AskMarks{{3, 5}}, down + down).error == "CLUSTERDOWN The cluster is down");
  CHECK(talk.ask<Refused>(AskMarks{{3, 5}}, array({bulk("\n\n\n")}) + "-NOPERM no\r\n").error == "NOPERM no");
  CHECK(talk.ask<Marks>(AskMarks{{3}}, array({bulk("\n\n\n")})).buckets.size() == 1);
}

TEST_CASE("in a cluster a writer is forgotten bucket by bucket, also where one is just being given away") {
  ClusterTalk talk;
  ForgetWriter forget{"w2", "id 2", {3}};
  CHECK(talk.ask<Redirect>(forget, "-ASK 17 10.0.0.2:7001\r\n").once);
  forget.once = true;
  CHECK(talk.ask<Forgotten>(forget, "+OK\r\n" + array({bulk("OUT")})).buckets.size() == 1);
}

TEST_CASE("a node of a cluster may not have the topology") {
  ClusterTalk talk;
  const std::string before = array({}) + array({}) + bulk("cluster_enabled:1\r\nrole:master\r\n");
  for (const char* elsewhere :
       {"-MOVED 9 10.0.0.2:7001\r\n", "-ASK 9 10.0.0.2:7001\r\n", "-CLUSTERDOWN Hash slot not served\r\n"}) {
    const auto facts = talk.ask<Facts>(AskFacts{}, before + elsewhere);
    CHECK(facts.topology_elsewhere);
    CHECK(facts.in_cluster == true);
  }
  CHECK_FALSE(talk.ask<Facts>(AskFacts{}, before + bulk("ID")).topology_elsewhere);
  CHECK(talk.ask<Refused>(AskFacts{}, before + "-NOPERM no\r\n").error == "NOPERM no");
  // Also where it was named as a shard.
  Talk shard;
  const std::string moved = "-MOVED 9 10.0.0.2:7001\r\n";
  CHECK(shard.ask<Facts>(AskFacts{}, before + moved).in_cluster == true);
}

TEST_CASE("a cluster's nodes are what CLUSTER SLOTS names, and it is well if CLUSTER INFO says so") {
  ClusterTalk talk;
  const auto node = [](const std::string& host, int port) {
    return array({bulk(host), fmt::format(":{}\r\n", port), bulk("id"), array({})});
  };
  const std::string slots =
      array({array({":0\r\n", ":99\r\n", node("10.0.0.2", 7001), node("10.0.0.3", 7002)}),
             array({":100\r\n", ":16383\r\n", node("", 7003), node("?", 7004), node("10.0.0.3", 7002)})});
  const auto nodes = talk.ask<Nodes>(AskNodes{}, bulk("cluster_state:ok\r\n") + slots);
  CHECK(nodes.fault.empty());
  CHECK(nodes.map.slots == std::vector<ClusterMap::Slots>{{0, 99, "10.0.0.2:7001"}, {100, 16383, "10.0.0.1:7003"}});
  CHECK(nodes.map.replicas == std::vector<std::string>{"10.0.0.1:7004", "10.0.0.3:7002"});
  CHECK_FALSE(talk.ask<Nodes>(AskNodes{}, bulk("cluster_state:fail\r\n") + slots).fault.empty());
  CHECK_FALSE(talk.ask<Nodes>(AskNodes{}, bulk("") + slots).fault.empty());
  CHECK_FALSE(talk.ask<Nodes>(AskNodes{}, bulk("cluster_state:ok\r\n") + array({})).fault.empty());
  CHECK(talk.ask<Refused>(AskNodes{}, "-ERR cluster support disabled\r\n-ERR cluster support disabled\r\n").error ==
        "ERR cluster support disabled");
  for (const std::string& odd :
       {nil, array({nil}), array({array({":0\r\n", ":16384\r\n", node("h", 1)})}),
        array({array({":5\r\n", ":4\r\n", node("h", 1)})}), array({array({":0\r\n", ":4\r\n"})})}) {
    talk.check_unusable(AskNodes{}, bulk("cluster_state:ok\r\n") + odd);
  }
}

}  // namespace visitd
