// How buckets are moved from shard to shard.
#include "flusher/redis/dialect_words.hpp"

namespace visitd {

using namespace dialect;

// ---- moves: move.lua, take_moves.lua, INFO persistence

Awaited Dialect::write_command(const MoveBucket& move, RequestText& text) const {
  constexpr std::string_view steps[] = {"out", "in", "away", "drop"};
  add_asking(text, move.once);
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
  return {Awaited::Kind::move, 0, move.once};
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
  text.add(in_cluster_ ? mover_key_of_cluster : mover_key);
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

}  // namespace visitd
