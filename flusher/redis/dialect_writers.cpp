// How writers are noted, listed, forgotten and taken back.
#include "flusher/redis/batch_script.hpp"
#include "flusher/redis/dialect_words.hpp"

namespace visitd {

using namespace dialect;

// ---- writers: note_writer.lua, HGETALL, forget.lua, rejoin.lua

Awaited Dialect::write_command(const NoteWriter& noted, RequestText& text) const {
  text.start(noted.wrote_at ? 9 : 7);
  text.add("EVALSHA");
  text.add(scripts_.note_writer);
  text.add("2");
  text.add(in_cluster_ ? writers_key_of_cluster : writers_key);
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
  text.add(in_cluster_ ? writers_key_of_cluster : writers_key);
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
