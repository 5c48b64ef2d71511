#include "flusher/redis/dialect.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string_view>
#include <utility>
#include <vector>

#include "common/config/shard_address.hpp"
#include "common/os/text.hpp"
#include "flusher/redis/batch_script.hpp"

namespace visitd {

namespace {

constexpr std::string_view id_field = "\x01id";
constexpr std::string_view fix_field =
    "\x01"
    "fix";
constexpr std::string_view moved_field = "\x01moved";
constexpr std::string_view moving_field = "\x01moving";
constexpr std::string_view from_field =
    "\x01"
    "from";
constexpr std::string_view topology_key = "visits:topology";
constexpr std::string_view mover_key = "visits:mover";
constexpr std::string_view writers_key = "visits:writers";
constexpr std::uint64_t wait_key_s = 60;
constexpr std::uint64_t largest_count = 0x7fff'ffff'ffff'ffffU;

void add_bucket_key(RequestText& text, std::uint32_t bucket) {
  char key[32] = "visits:{";
  char* end = std::to_chars(key + 8, key + sizeof key, bucket).ptr;
  *end++ = '}';
  text.add({key, static_cast<std::size_t>(end - key)});
}

/// The next command is executed although its key is only being given to this node.
void add_asking(RequestText& text, bool once) {
  if (!once) return;
  text.start(1);
  text.add("ASKING");
}

std::string tombstone_key(std::string_view writer) {
  return fmt::format("visits:forgotten:{}", writer);
}

[[noreturn]] void unexpected(std::string_view command) {
  throw UnusableReply(fmt::format("{}: an answer of another kind than Redis gives", command));
}

/// A count as Redis holds it: digits alone, no more than 2^63-1.
bool parse_count(std::string_view text, std::uint64_t& count) noexcept {
  return parse_decimal(text, count) && count <= largest_count && (text.front() != '0' || text.size() == 1);
}

/// The numbers of "a b c". False: something else stands there, or a number is greater than `limit`.
template <typename Number>
bool parse_numbers(std::string_view text, Number limit, std::vector<Number>& numbers) {
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at != end) {
    Number number = 0;
    const auto [next, failed] = std::from_chars(at, end, number);
    if (failed != std::errc{} || number > limit || (next != end && *next != ' ')) return false;
    numbers.push_back(number);
    at = next == end ? end : next + 1;
  }
  return true;
}

/// The value of a line "name:value" of INFO; nullopt: it has no such line.
std::optional<std::string> info_value(std::string_view info, std::string_view name) {
  for (std::size_t at = info.find(name); at != std::string_view::npos; at = info.find(name, at + 1)) {
    const std::size_t colon = at + name.size();
    if ((at != 0 && info[at - 1] != '\n') || colon >= info.size() || info[colon] != ':') continue;
    return std::string(info.substr(colon + 1, std::min(info.find_first_of("\r\n", colon), info.size()) - colon - 1));
  }
  return std::nullopt;
}

/// A server without append-only file, or that does not say, keeps nothing waiting for it.
bool waits_for_disk(std::string_view info) {
  const auto is_more_than_0 = [&](std::string_view name) {
    const auto value = info_value(info, name);
    return value && *value != "0";
  };
  return is_more_than_0("aof_pending_bio_fsync") || is_more_than_0("aof_buffer_length") ||
         info_value(info, "aof_last_write_status").value_or("ok") != "ok";
}

}  // namespace

void Dialect::begin(ScriptDigests scripts) {
  scripts_ = std::move(scripts);
  facts_ = {};
  info_.clear();
  marks_ = {};
  marks_error_.clear();
  marks_refused_ = false;
  no_facts_.clear();
  not_written_.clear();
}

Awaited Dialect::write(const ShardCommand& command, RequestText& text) const {
  return std::visit([&](const auto& asked) { return write_command(asked, text); }, command);
}

std::optional<ShardAnswer> Dialect::read(Awaited& awaited, Reply reply) {
  using Kind = Awaited::Kind;
  if (std::exchange(awaited.once, false)) return std::nullopt;
  if (awaited.kind < Kind::topology_of_facts) {
    read_fact(awaited, reply);
    return std::nullopt;
  }
  if (awaited.kind == Kind::replicas || awaited.kind == Kind::replicas_on_disk) {
    if (std::exchange(awaited.size, 0) != 0) {
      not_written_ = reply.text() == "OK" ? "" : reply.is_error() ? reply.text() : "SET: no answer that Redis gives";
      return std::nullopt;
    }
    if (!not_written_.empty()) return Refused{std::exchange(not_written_, {})};
  }
  if (reply.is_error() && reply.text().starts_with("NOSCRIPT")) throw UnusableReply(std::string(reply.text()));
  if (awaited.kind == Kind::topology_of_facts) return read_facts(reply);
  if (awaited.kind == Kind::marks_of_nodes) return read_marks_of_nodes(awaited, reply);
  if (const auto redirect = read_redirect(reply)) return *redirect;
  if (reply.is_error() && !reply.is_wrong_type()) return Refused{std::string(reply.text())};
  switch (awaited.kind) {
    case Kind::topology:
      return read_topology(reply);
    case Kind::marks:
      return read_marks(reply, awaited.size);
    case Kind::nodes:
      return read_nodes(reply);
    case Kind::batch:
      return read_batch(reply, awaited.size);
    case Kind::move:
      return read_move(reply);
    case Kind::mover:
      if (!reply.is_string()) unexpected("EVALSHA of take_moves.lua");
      return MovesTaken{reply.text() == awaited.writer};
    case Kind::persistence:
      if (!reply.is_string()) unexpected("INFO persistence");
      return Persistence{waits_for_disk(reply.text())};
    case Kind::replicas:
    case Kind::replicas_on_disk:
      return read_replicas(reply, awaited.kind == Kind::replicas_on_disk);
    case Kind::count:
      return read_count(reply);
    default:
      return read_of_writers(awaited.kind, reply);
  }
}

// ---- facts: CONFIG GET of two settings, INFO, GET of our tombstone and of the topology

Awaited Dialect::write_command(const AskFacts& /*unused*/, RequestText& text) const {
  for (const std::string_view name : {"maxmemory-policy", "appendonly"}) {
    text.start(3);
    text.add("CONFIG");
    text.add("GET");
    text.add(name);
  }
  text.start(1);
  text.add("INFO");
  for (const std::string& key : {tombstone_key(writer_), std::string(topology_key)}) {
    if (in_cluster_ && key != topology_key) continue;  // no writer of a cluster is forgotten
    text.start(2);
    text.add("GET");
    text.add(key);
  }
  return {Awaited::Kind::policy};
}

/// The replies before the last one. An error: the command is renamed or not permitted, and the server says nothing of
/// it.
void Dialect::read_fact(Awaited& awaited, Reply reply) {
  using Kind = Awaited::Kind;
  if (awaited.kind == Kind::info) {
    info_ = reply.text();
    awaited.kind = in_cluster_ ? Kind::topology_of_facts : Kind::tombstone_of_facts;
    return;
  }
  if (awaited.kind == Kind::tombstone_of_facts) {
    // Who cannot be told that it was forgotten must not write.
    if (!reply.is_text_or_nil()) {
      no_facts_ = reply.is_error() ? reply.text() : "GET visits:forgotten: an answer of another kind than Redis gives";
    }
    facts_.tombstone = reply.is_error() ? "" : reply.text();
    awaited.kind = Kind::topology_of_facts;
    return;
  }
  if (awaited.kind == Kind::cluster_info) {
    cluster_info_ = reply.text();
    awaited.kind = Kind::nodes;
    return;
  }
  std::optional<std::string>& fact = awaited.kind == Kind::policy ? facts_.maxmemory_policy : facts_.append_only;
  fact.reset();
  if (reply.size() == 2 && reply[1].is_string()) fact = reply[1].text();
  awaited.kind = awaited.kind == Kind::policy ? Kind::append_only : Kind::info;
}

/// nullopt: it has no such line, or no number there.
static std::optional<std::uint64_t> info_number(std::string_view info, std::string_view name) {
  const auto text = info_value(info, name);
  std::uint64_t number = 0;
  if (!text) return std::nullopt;
  return parse_decimal(*text, number) ? std::optional(number) : std::nullopt;
}

/// Name and version of the server. A Valkey also says which version of Redis it is like.
static std::optional<std::string> server_version(std::string_view info) {
  if (const auto valkey = info_value(info, "valkey_version")) return "valkey " + *valkey;
  const auto redis = info_value(info, "redis_version");
  return redis ? std::optional("redis " + *redis) : std::nullopt;
}

/// Another node of a cluster serves the key, or none for now.
static bool is_elsewhere(Reply reply) {
  return reply.is_error() && (reply.text().starts_with("MOVED ") || reply.text().starts_with("ASK ") ||
                              reply.text().starts_with("CLUSTERDOWN "));
}

/// What CONFIG did not say, INFO may. A node of a cluster says that it is one, also where it was taken for a shard.
ShardAnswer Dialect::read_facts(Reply topology) {
  Facts facts = std::exchange(facts_, {});
  const std::string info = std::exchange(info_, {});
  const std::string no_facts = std::exchange(no_facts_, {});
  if (const auto enabled = info_value(info, "cluster_enabled")) facts.in_cluster = *enabled != "0";
  facts.topology_elsewhere = is_elsewhere(topology) && facts.in_cluster.value_or(in_cluster_);
  if (!facts.topology_elsewhere) {
    if (topology.is_error() && !topology.is_wrong_type()) return Refused{std::string(topology.text())};
    if (!topology.is_text_or_nil()) unexpected("GET visits:topology");
    facts.topology = topology.text();
  }
  if (!no_facts.empty() && !facts.in_cluster.value_or(false)) return Refused{no_facts};
  facts.role = info_value(info, "role");
  facts.run_id = info_value(info, "run_id");
  facts.version = server_version(info);
  facts.memory_bytes = info_number(info, "used_memory");
  facts.memory_limit_bytes = info_number(info, "maxmemory");
  if (!facts.maxmemory_policy) facts.maxmemory_policy = info_value(info, "maxmemory_policy");
  if (!facts.append_only) {
    facts.append_only = info_value(info, "aof_enabled");
    if (facts.append_only) facts.append_only = *facts.append_only == "0" ? "no" : "yes";
  }
  return facts;
}

// ---- topology: topology.lua

Awaited Dialect::write_command(const MakeTopology& made, RequestText& text) const {
  text.start(6);
  text.add("EVALSHA");
  text.add(scripts_.topology);
  text.add("1");
  text.add(topology_key);
  text.add(made.expected);
  text.add(made.topology);
  return {Awaited::Kind::topology};
}

Topology Dialect::read_topology(Reply reply) {
  if (!reply.is_string()) unexpected("EVALSHA of topology.lua");
  return {std::string(reply.text())};
}

// ---- marks: marks.lua

void Dialect::write_marks(std::span<const std::uint32_t> buckets, const AskMarks& asked, RequestText& text) const {
  text.start(7 + buckets.size());
  text.add("EVALSHA");
  text.add(scripts_.marks);
  text.add_number(buckets.size());
  for (const std::uint32_t bucket : buckets) add_bucket_key(text, bucket);
  text.add(writer_field_);
  text.add(id_field);
  text.add(asked.stamp);
  text.add(moved_field);
}

/// In a cluster each bucket is asked for by itself: the buckets of one node are in many slots.
Awaited Dialect::write_command(const AskMarks& asked, RequestText& text) const {
  const auto size = static_cast<std::uint32_t>(asked.buckets.size());
  add_asking(text, asked.once);
  if (!in_cluster_) {
    write_marks(asked.buckets, asked, text);
    return {Awaited::Kind::marks, size};
  }
  for (std::size_t i = 0; i < size; ++i) write_marks(std::span(asked.buckets).subspan(i, 1), asked, text);
  return {Awaited::Kind::marks_of_nodes, size, asked.once};
}

/// One of many replies. A slot that no node serves now leaves those of the others useful.
std::optional<ShardAnswer> Dialect::read_marks_of_nodes(Awaited& awaited, Reply reply) {
  if (auto redirect = read_redirect(reply)) {
    marks_.buckets.push_back({"", "", "", std::move(redirect)});
  } else if (reply.is_error()) {
    const bool unserved = reply.text().starts_with("CLUSTERDOWN") || reply.text().starts_with("TRYAGAIN");
    if (marks_error_.empty() || !unserved) marks_error_ = reply.text();
    marks_.buckets.push_back({"", "", "", unserved ? std::optional(Redirect{"", true}) : std::nullopt});
    marks_refused_ = marks_refused_ || !unserved;
  } else {
    marks_.buckets.push_back(read_marks(reply, 1).buckets.front());
  }
  if (--awaited.size > 0) return std::nullopt;
  Marks marks = std::exchange(marks_, {});
  std::string failure = std::exchange(marks_error_, {});
  const bool any = std::ranges::any_of(
      marks.buckets, [](const Marks::Held& held) { return !held.redirect || !held.redirect->node.empty(); });
  if (std::exchange(marks_refused_, false) || (!failure.empty() && !any)) return Refused{std::move(failure)};
  return marks;
}

/// What one bucket holds.
static Marks::Held parse_held(std::string_view text) {
  if (text.starts_with('!')) return {"", not_a_hash};
  if (text.starts_with('=')) return {"", std::string(text.substr(1))};
  const std::size_t end = std::min(text.find('\n'), text.size());
  const std::string_view rest = text.substr(std::min(end + 1, text.size()));
  const std::size_t mark_end = std::min(rest.find('\n'), rest.size());
  return {std::string(text.substr(0, end)), std::string(rest.substr(0, mark_end)),
          std::string(rest.substr(std::min(mark_end + 1, rest.size())))};
}

Marks Dialect::read_marks(Reply reply, std::size_t buckets) {
  if (!reply.is_array() || reply.size() != buckets) unexpected("EVALSHA of marks.lua");
  Marks marks;
  marks.buckets.reserve(buckets);
  for (std::size_t i = 0; i < buckets; ++i) marks.buckets.push_back(parse_held(reply[i].text()));
  return marks;
}

// ---- batch: batch.lua

Awaited Dialect::write_command(const SendBatch& sent, RequestText& text) const {
  const Batch& batch = *sent.batch;
  add_asking(text, sent.once);
  const bool first = batch.expected.empty() && !in_cluster_;
  text.start((first ? 12 : 11) + 2 * batch.pages.size());
  text.add("EVALSHA");
  text.add(scripts_.batch);
  text.add_number(first ? 2 : 1);
  add_bucket_key(text, batch.bucket);
  if (first) text.add(tombstone_key(writer_));
  text.add(batch.expected);
  text.add(to_text(batch.mark));
  text.add(sent.id);
  for (const PageVisits& page : batch.pages) text.add_number(page.visits);
  text.add(id_field);
  text.add(writer_field_);
  text.add(moved_field);
  text.add(moving_field);
  for (const PageVisits& page : batch.pages) text.add(page.page);
  return {Awaited::Kind::batch, static_cast<std::uint32_t>(batch.pages.size()), sent.once};
}

/// False: it is no answer of the script.
static bool parse_batch_answer(std::string_view text, std::size_t pages, BatchAnswer& answer) {
  const std::size_t space = std::min(text.find(' '), text.size());
  const std::string_view word = text.substr(0, space);
  const std::string_view rest = text.substr(std::min(space + 1, text.size()));
  if (word == "OK" || word == "DUP") {
    answer.kind = word == "OK" ? BatchAnswer::Kind::applied : BatchAnswer::Kind::duplicate;
    answer.totals.reserve(pages);
    return parse_numbers(rest, largest_count, answer.totals) && answer.totals.size() == pages;
  }
  if (word == "HAVE" || word == "NOID") {
    answer.kind = word == "HAVE" ? BatchAnswer::Kind::have : BatchAnswer::Kind::foreign;
    answer.have = rest;
    return true;
  }
  if (word == "BAD") {
    answer.kind = BatchAnswer::Kind::refused;
    answer.why = "the page's field holds no count, or would pass 2^63-1";
    return pages > 0 && parse_numbers(rest, static_cast<std::uint32_t>(pages - 1), answer.bad_pages) &&
           !answer.bad_pages.empty();
  }
  if (word == "GONE") {
    answer.kind = BatchAnswer::Kind::forgotten;
    return true;
  }
  if (word == "WRONGTYPE") {
    answer.kind = BatchAnswer::Kind::refused;
    answer.why = "the bucket's key is not a hash: something else wrote it; remove it or rename it";
    return true;
  }
  if (word == "MOVED" || word == "MOVING") {
    answer.kind = word == "MOVED" ? BatchAnswer::Kind::moved : BatchAnswer::Kind::moving;
    answer.why = rest;
    return true;
  }
  return false;
}

BatchAnswer Dialect::read_batch(Reply reply, std::size_t pages) {
  BatchAnswer answer;
  if (!reply.is_string() || !parse_batch_answer(reply.text(), pages, answer)) unexpected("EVALSHA of batch.lua");
  return answer;
}

// ---- count: HMGET

Awaited Dialect::write_command(const AskCount& asked, RequestText& text) const {
  add_asking(text, asked.once);
  text.start(7);
  text.add("HMGET");
  add_bucket_key(text, asked.bucket);
  text.add(id_field);
  text.add(fix_field);
  text.add(moved_field);
  text.add(writer_field_);
  text.add(asked.page);
  return {Awaited::Kind::count, 0, asked.once};
}

Count Dialect::read_count(Reply reply) {
  Count count;
  if (reply.is_wrong_type()) {
    count.readable = false;
    return count;
  }
  bool whole = reply.size() == 5;
  for (std::size_t i = 0; whole && i < reply.size(); ++i) whole = reply[i].is_text_or_nil();
  if (!whole) unexpected("HMGET");
  count.id = reply[0].text();
  count.fix = reply[1].text();
  count.moved = reply[2].text();
  count.field = reply[3].text();
  if (!reply[4].is_nil()) count.readable = parse_count(reply[4].text(), count.count);
  if (!count.readable) count.count = 0;
  return count;
}

// ---- moves: move.lua, take_moves.lua, INFO persistence

Awaited Dialect::write_command(const MoveBucket& move, RequestText& text) const {
  constexpr std::string_view steps[] = {"out", "in", "away", "drop"};
  text.start(12);
  text.add("EVALSHA");
  text.add(scripts_.move);
  text.add("1");
  add_bucket_key(text, move.bucket);
  text.add(steps[static_cast<std::size_t>(move.step)]);
  text.add(move.id);
  text.add(move.marker);
  text.add(move.content);
  text.add(id_field);
  text.add(moving_field);
  text.add(moved_field);
  text.add(from_field);
  return {Awaited::Kind::move};
}

MoveAnswer Dialect::read_move(Reply reply) {
  using Kind = MoveAnswer::Kind;
  const std::string_view text = reply.text();
  if (reply.is_string()) {
    if (text == "OK") return {};
    if (text == "DROPPED") return {Kind::dropped};
    if (text == "ABSENT") return {Kind::absent};
    if (text.starts_with("COPY ")) return {Kind::content, std::string(text.substr(5))};
    if (text.starts_with("BAD ")) return {Kind::refused, std::string(text.substr(4))};
  }
  unexpected("EVALSHA of move.lua");
}

Awaited Dialect::write_command(const TakeMoves& take, RequestText& text) const {
  text.start(6);
  text.add("EVALSHA");
  text.add(scripts_.take_moves);
  text.add("1");
  text.add(mover_key);
  text.add(take.writer);
  text.add_number(take.for_ms);
  return {Awaited::Kind::mover, 0, false, take.writer};
}

Awaited Dialect::write_command(const AskPersistence& /*unused*/, RequestText& text) const {
  text.start(2);
  text.add("INFO");
  text.add("persistence");
  return {Awaited::Kind::persistence};
}

// ---- replicas: SET of a key that goes by itself, then WAIT or WAITAOF

Awaited Dialect::write_command(const AskReplicas& asked, RequestText& text) const {
  text.start(5);
  text.add("SET");
  text.add(fmt::format("visits:{{{}}}:wait", asked.bucket));
  text.add("1");
  text.add("EX");
  text.add_number(wait_key_s);
  text.start(asked.on_disk ? 4 : 3);
  text.add(asked.on_disk ? "WAITAOF" : "WAIT");
  if (asked.on_disk) text.add("1");
  text.add_number(asked.replicas);
  text.add_number(asked.timeout_ms);
  return {asked.on_disk ? Awaited::Kind::replicas_on_disk : Awaited::Kind::replicas, 1};
}

/// WAIT: a number; WAITAOF: 1 where the server's own disk has it, and a number.
Replicas Dialect::read_replicas(Reply reply, bool on_disk) {
  const auto number_of = [](Reply part) {
    if (!part.is_number() || part.number() < 0) unexpected("WAIT");
    return static_cast<std::uint32_t>(std::min<std::int64_t>(part.number(), UINT32_MAX));
  };
  if (!on_disk) return {number_of(reply), false};
  if (reply.size() != 2) unexpected("WAITAOF");
  return {number_of(reply[1]), number_of(reply[0]) > 0};
}

// ---- a cluster: CLUSTER INFO, CLUSTER SLOTS, and where a node sends us

Awaited Dialect::write_command(const AskNodes& /*unused*/, RequestText& text) const {
  for (const std::string_view what : {"INFO", "SLOTS"}) {
    text.start(2);
    text.add("CLUSTER");
    text.add(what);
  }
  return {Awaited::Kind::cluster_info};
}

/// "MOVED SLOT HOST:PORT" or "ASK SLOT HOST:PORT"; a node that knows no name for the other one leaves the host out, and
/// means its own.
std::optional<Redirect> Dialect::read_redirect(Reply reply) const {
  if (!in_cluster_ || !reply.is_error()) return std::nullopt;
  const std::string_view text = reply.text();
  const bool once = text.starts_with("ASK ");
  if (!once && !text.starts_with("MOVED ")) return std::nullopt;
  const std::string_view address = text.substr(text.rfind(' ') + 1);
  const std::size_t colon = address.rfind(':');
  std::uint16_t port = 0;
  if (colon == std::string_view::npos || !parse_decimal(address.substr(colon + 1), port)) return std::nullopt;
  const std::string_view host = address.substr(0, colon);
  return Redirect{server_text({host.empty() ? host_ : std::string(host), port}), once};
}

/// Each element: first slot, last slot, the primary, its replicas; a node: host, port, and more.
ShardAnswer Dialect::read_nodes(Reply reply) {
  if (!reply.is_array()) unexpected("CLUSTER SLOTS");
  Nodes nodes;
  const auto address_of = [this](Reply node) {
    const std::string_view host = node[0].text();
    // "?" is a name that nobody knows.
    return server_text(
        {host.empty() || host == "?" ? host_ : std::string(host), static_cast<std::uint16_t>(node[1].number())});
  };
  for (std::size_t i = 0; i < reply.size(); ++i) {
    const Reply range = reply[i];
    const std::int64_t first = range[0].number();
    const std::int64_t last = range[1].number();
    if (range.size() < 3 || first < 0 || last < first || last >= cluster_slots) unexpected("CLUSTER SLOTS");
    nodes.map.slots.push_back(
        {static_cast<std::uint32_t>(first), static_cast<std::uint32_t>(last), address_of(range[2])});
    for (std::size_t replica = 3; replica < range.size(); ++replica) {
      nodes.map.replicas.push_back(address_of(range[replica]));
    }
  }
  std::ranges::sort(nodes.map.replicas);
  nodes.map.replicas.erase(std::ranges::unique(nodes.map.replicas).begin(), nodes.map.replicas.end());
  const std::string info = std::exchange(cluster_info_, {});
  if (const auto state = info_value(info, "cluster_state"); state != "ok") {
    nodes.fault = fmt::format("the cluster is down (CLUSTER INFO says cluster_state:{})", state.value_or("nothing"));
  } else if (nodes.map.slots.empty()) {
    nodes.fault = "the cluster serves no slots: make it whole with redis-cli --cluster create";
  }
  return nodes;
}

// ---- writers: note_writer.lua, HGETALL, forget.lua, rejoin.lua

Awaited Dialect::write_command(const NoteWriter& noted, RequestText& text) const {
  text.start(noted.wrote_at ? 9 : 7);
  text.add("EVALSHA");
  text.add(scripts_.note_writer);
  text.add("2");
  text.add(writers_key);
  text.add(topology_key);
  text.add(writer_);
  text.add(noted.note);
  if (noted.wrote_at) {
    text.add(writer_ + ":wrote");
    text.add_number(*noted.wrote_at);
  }
  return {Awaited::Kind::noted};
}

Awaited Dialect::write_command(const AskWriters& /*unused*/, RequestText& text) const {
  text.start(2);
  text.add("HGETALL");
  text.add(writers_key);
  return {Awaited::Kind::writers};
}

// Both scripts are seldom needed: the server is not told them before.

Awaited Dialect::write_command(const ForgetWriter& forgotten, RequestText& text) const {
  text.start(8 + 2 * forgotten.buckets.size());
  text.add("EVAL");
  text.add(forget_script);
  text.add_number(2 + forgotten.buckets.size());
  text.add(writers_key);
  text.add(tombstone_key(forgotten.writer));
  for (const std::uint32_t bucket : forgotten.buckets) add_bucket_key(text, bucket);
  text.add(forgotten.writer);
  text.add(forgotten.note);
  text.add("\x01w:" + forgotten.writer);
  for (const std::uint32_t bucket : forgotten.buckets) text.add_number(bucket);
  return {Awaited::Kind::forgotten};
}

Awaited Dialect::write_command(const Rejoin& rejoined, RequestText& text) const {
  text.start(9 + 2 * rejoined.marks.size());
  text.add("EVAL");
  text.add(rejoin_script);
  text.add_number(2 + rejoined.marks.size());
  text.add(writers_key);
  text.add(tombstone_key(writer_));
  for (const auto& [bucket, mark] : rejoined.marks) add_bucket_key(text, bucket);
  text.add(writer_);
  text.add(rejoined.tombstone);
  text.add(rejoined.last ? "1" : "0");
  text.add(writer_field_);
  for (const auto& [bucket, mark] : rejoined.marks) text.add(mark);
  return {Awaited::Kind::tombstone};
}

ShardAnswer Dialect::read_of_writers(Awaited::Kind kind, Reply reply) {
  if (reply.is_error()) return Refused{std::string(reply.text())};
  if (kind == Awaited::Kind::noted) return Noted{};
  if (kind == Awaited::Kind::tombstone) {
    if (!reply.is_string()) unexpected("EVAL of rejoin.lua");
    return Tombstone{std::string(reply.text())};
  }
  if (kind == Awaited::Kind::forgotten) {
    std::vector<std::uint64_t> buckets;
    if (!reply.is_string() || !parse_numbers(reply.text(), largest_count, buckets) || buckets.size() != 1) {
      unexpected("EVAL of forget.lua");
    }
    return Forgotten{buckets.front()};
  }
  if (!reply.is_array() || reply.size() % 2 != 0) unexpected("HGETALL");
  Writers writers;
  for (std::size_t i = 0; i < reply.size(); i += 2) {
    writers.fields.emplace_back(reply[i].text(), reply[i + 1].text());
  }
  return writers;
}

}  // namespace visitd
