// How writers are noted, listed and forgotten.
#include <algorithm>
#include <iterator>
#include <utility>

#include "flusher/redis/batch_script.hpp"
#include "flusher/redis/dialect_words.hpp"

namespace visitd {

using namespace dialect;

// ---- writers: note_writer.lua, HGETALL, forget.lua

Awaited Dialect::write_command(const NoteWriter& noted, RequestText& text) const {
  text.start(5 + 2 * noted.fields.size());
  text.add("EVALSHA");
  text.add(scripts_.note_writer);
  text.add("2");
  text.add(in_cluster_ ? writers_key_of_cluster : writers_key);
  text.add(topology_key);
  for (const auto& [field, value] : noted.fields) {
    text.add(field);
    text.add(value);
  }
  return {Awaited::Kind::noted};
}

Awaited Dialect::write_command(const AskWriters& /*unused*/, RequestText& text) const {
  text.start(2);
  text.add("HGETALL");
  text.add(in_cluster_ ? writers_key_of_cluster : writers_key);
  return {Awaited::Kind::writers};
}

/// The script is seldom needed: the server is not told it before.
Awaited Dialect::write_command(const ForgetWriter& forgotten, RequestText& text) const {
  add_asking(text, forgotten.once);
  text.start(9 + forgotten.buckets.size());
  text.add("EVAL");
  text.add(forget_script);
  text.add_number(forgotten.buckets.size());
  for (const std::uint32_t bucket : forgotten.buckets) add_bucket_key(text, bucket);
  text.add(forgotten.id);
  text.add(id_field);
  text.add(field_of_writer(forgotten.writer));
  text.add(tombstone_of_writer(forgotten.writer));
  text.add(moved_field);
  text.add(moving_field);
  return {Awaited::Kind::forgotten, static_cast<std::uint32_t>(forgotten.buckets.size()), forgotten.once};
}

Forgotten Dialect::read_forgotten(Reply reply, std::size_t buckets) {
  if (!reply.is_array() || reply.size() != buckets) unexpected("EVAL of forget.lua");
  using Kind = Forgotten::Bucket::Kind;
  constexpr std::pair<std::string_view, Kind> words[] = {
      {"OUT", Kind::taken_out}, {"NOTHING", Kind::nothing}, {"NOT", Kind::not_now}, {"MOVED", Kind::moved}};
  Forgotten forgotten;
  for (std::size_t i = 0; i < buckets; ++i) {
    std::string_view rest = reply[i].text();
    const auto* const known =
        std::ranges::find(words, take_until(rest, ' '), &std::pair<std::string_view, Kind>::first);
    if (known == std::end(words)) unexpected("EVAL of forget.lua");
    forgotten.buckets.push_back({known->second, std::string(rest)});
  }
  return forgotten;
}

ShardAnswer Dialect::read_of_writers(const Awaited& awaited, Reply reply) {
  if (reply.is_error()) return Refused{std::string(reply.text())};
  if (awaited.kind == Awaited::Kind::noted) return Noted{};
  if (awaited.kind == Awaited::Kind::forgotten) return read_forgotten(reply, awaited.size);
  if (!reply.is_array() || reply.size() % 2 != 0) unexpected("HGETALL");
  Writers writers;
  for (std::size_t i = 0; i < reply.size(); i += 2) {
    writers.fields.emplace_back(reply[i].text(), reply[i + 1].text());
  }
  return writers;
}

}  // namespace visitd
