#include "flusher/redis/dialect.hpp"

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include "flusher/redis/dialect_words.hpp"

namespace visitd {

using namespace dialect;

Dialect::Dialect(std::string_view writer, const ShardSettings& shard)
    : writer_field_(field_of_writer(writer)),
      tombstone_(tombstone_of_writer(writer)),
      in_cluster_(shard.in_cluster),
      host_(shard.host) {}

void Dialect::begin(ScriptDigests scripts) {
  scripts_ = std::move(scripts);
  facts_ = {};
  info_.clear();
  marks_ = {};
  marks_error_.clear();
  marks_refused_ = false;
  pages_ = Lost{};
  sums_ = {};
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
  if (awaited.kind == Kind::sums) return read_sums(awaited, reply);
  if (awaited.kind == Kind::pages) return read_pages(awaited, reply);
  if (awaited.kind == Kind::marks_of_nodes) return read_marks_of_nodes(awaited, reply);
  if (const auto redirect = read_redirect(reply)) return *redirect;
  // Who asks for a page's count is told if the bucket is no hash.
  const bool is_answer = reply.is_wrong_type() && awaited.kind == Kind::count;
  if (reply.is_error() && !is_answer) return Refused{std::string(reply.text())};
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
      return read_persistence(reply);
    case Kind::replicas:
    case Kind::replicas_on_disk:
      return read_replicas(reply, awaited.kind == Kind::replicas_on_disk);
    case Kind::count:
      return read_count(awaited, reply);
    default:
      return read_of_writers(awaited, reply);
  }
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
  text.start(8 + buckets.size());
  text.add("EVALSHA");
  text.add(scripts_.marks);
  text.add_number(buckets.size());
  for (const std::uint32_t bucket : buckets) add_bucket_key(text, bucket);
  text.add(writer_field_);
  text.add(id_field);
  text.add(asked.stamp);
  text.add(moved_field);
  text.add(tombstone_);
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
  Marks::Held held;
  for (std::string* const part : {&held.id, &held.field, &held.moved, &held.gone}) *part = take_until(text, '\n');
  return held;
}

Marks Dialect::read_marks(Reply reply, std::size_t buckets) {
  if (!reply.is_array() || reply.size() != buckets) unexpected("EVALSHA of marks.lua");
  Marks marks;
  marks.buckets.reserve(buckets);
  for (std::size_t i = 0; i < buckets; ++i) marks.buckets.push_back(parse_held(reply[i].text()));
  return marks;
}

// ---- batch: batch.lua

/// As the script reads it. A further operation has to say here how.
static void add_operand(const Effect& effect, bool corrects, RequestText& text) {
  switch (effect.operation) {
    case Operation::add:
      if (!corrects) return text.add_number(effect.operand);
      return text.add(fmt::format("{}", difference_of(effect)));
  }
}

Awaited Dialect::write_command(const SendBatch& sent, RequestText& text) const {
  const Batch& batch = *sent.batch;
  add_asking(text, sent.once);
  text.start(14 + 2 * batch.effects.size());
  text.add("EVALSHA");
  text.add(scripts_.batch);
  text.add("1");
  add_bucket_key(text, batch.bucket);
  text.add(batch.expected);
  text.add(to_text(batch.mark));
  text.add(sent.id);
  if (batch.correction) {
    const std::string fix = sent.again ? "*" : fmt::format("{}", batch.correction->fix);
    text.add(fmt::format("{} {}", fix, sent.fix_at_least));
  } else {
    text.add("");
  }
  for (const Effect& effect : batch.effects) add_operand(effect, batch.correction.has_value(), text);
  text.add(id_field);
  text.add(writer_field_);
  text.add(moved_field);
  text.add(moving_field);
  text.add(fix_field);
  text.add(sum_field);
  for (const Effect& effect : batch.effects) text.add(effect.series);
  return {Awaited::Kind::batch, static_cast<std::uint32_t>(batch.effects.size()), sent.once};
}

/// "fix total ..." of an answer to a batch. False: it is no answer of the script.
static bool parse_totals(std::string_view text, std::size_t pages, BatchAnswer& answer) {
  if (!parse_decimal(take_until(text, ' '), answer.fix)) return false;
  answer.totals.reserve(pages);
  for (std::size_t page = 0; page < pages; ++page) {
    const std::string_view said = take_until(text, ' ');
    std::uint64_t& total = answer.totals.emplace_back(no_total);
    const bool is_none = said == "-" && answer.kind == BatchAnswer::Kind::duplicate;
    if (!is_none && (!parse_decimal(said, total) || total > largest_count)) return false;
  }
  return text.empty();
}

/// False: it is no answer of the script.
static bool parse_batch_answer(std::string_view text, std::size_t pages, BatchAnswer& answer) {
  const std::size_t space = std::min(text.find(' '), text.size());
  const std::string_view word = text.substr(0, space);
  const std::string_view rest = text.substr(std::min(space + 1, text.size()));
  if (word == "OK" || word == "DUP") {
    answer.kind = word == "OK" ? BatchAnswer::Kind::applied : BatchAnswer::Kind::duplicate;
    return parse_totals(rest, pages, answer);
  }
  if (word == "HAVE" || word == "NOID") {
    answer.kind = word == "HAVE" ? BatchAnswer::Kind::have : BatchAnswer::Kind::foreign;
    answer.have = rest;
    return true;
  }
  if (word == "BAD" || word == "LOW") {
    answer.kind = word == "BAD" ? BatchAnswer::Kind::refused : BatchAnswer::Kind::low;
    answer.why = "the page's field holds no count, or would pass 2^63-1";
    return pages > 0 && parse_numbers(rest, static_cast<std::uint32_t>(pages - 1), answer.bad_series) &&
           !answer.bad_series.empty();
  }
  if (word == "FIX") {
    answer.kind = BatchAnswer::Kind::corrected;
    return true;
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
  const std::uint32_t fields = asked.tombstone ? 6 : 5;
  text.start(2 + fields);
  text.add("HMGET");
  add_bucket_key(text, asked.bucket);
  text.add(id_field);
  text.add(fix_field);
  text.add(moved_field);
  text.add(writer_field_);
  text.add(asked.page);
  if (asked.tombstone) text.add(tombstone_);
  return {Awaited::Kind::count, fields, asked.once};
}

Count Dialect::read_count(const Awaited& awaited, Reply reply) {
  Count count;
  if (reply.is_wrong_type()) {
    count.readable = false;
    return count;
  }
  bool whole = reply.size() == awaited.size;
  for (std::size_t i = 0; whole && i < reply.size(); ++i) whole = reply[i].is_text_or_nil();
  if (!whole) unexpected("HMGET");
  count.id = reply[0].text();
  if (!parse_decimal(reply[1].text(), count.fix)) count.fix = 0;
  count.moved = reply[2].text();
  count.field = reply[3].text();
  if (!reply[4].is_nil()) count.readable = parse_count(reply[4].text(), count.count);
  if (!count.readable) count.count = 0;
  if (reply.size() == 6) count.gone = reply[5].text();
  return count;
}

}  // namespace visitd
