// How buckets are moved from shard to shard.
#include <algorithm>

#include "flusher/redis/dialect_words.hpp"

namespace visitd {

using namespace dialect;

namespace {

constexpr std::string_view online = ",state=online,";
constexpr std::string_view offset = ",offset=";

}  // namespace

// ---- moves: move.lua, take_moves.lua, INFO

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

// A server before Redis 7.0 takes no two sections, and all of them when none is named.
Awaited Dialect::write_command(const AskPersistence& /*unused*/, RequestText& text) const {
  text.start(1);
  text.add("INFO");
  return {Awaited::Kind::persistence};
}

Persistence Dialect::read_persistence(Reply reply) {
  if (!reply.is_string()) unexpected("INFO");
  const std::string_view info = reply.text();
  Persistence persistence;
  persistence.waits = waits_for_disk(info) || info_value(info, "role").value_or("master") != "master";
  static_cast<void>(parse_decimal(info_value(info, "master_repl_offset").value_or(""), persistence.written));
  persistence.replicated = persistence.written;
  // "slave0:ip=127.0.0.1,port=7001,state=online,offset=1234,lag=0"
  while (const auto replica = info_value(info, fmt::format("slave{}", persistence.replicas))) {
    ++persistence.replicas;
    persistence.waits = persistence.waits || replica->find(online) == std::string::npos;
    // What does not say how much it has, has nothing.
    std::uint64_t has = 0;
    if (const std::size_t at = replica->find(offset); at != std::string::npos) {
      std::string_view rest = std::string_view(*replica).substr(at + offset.size());
      static_cast<void>(parse_decimal(take_until(rest, ','), has));
    }
    persistence.replicated = std::min(persistence.replicated, has);
  }
  return persistence;
}

}  // namespace visitd
