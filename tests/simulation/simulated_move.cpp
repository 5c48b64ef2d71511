// What a simulated server does with the steps of a bucket's move, as flusher/redis/move.lua does.
#include <fmt/format.h>

#include <charconv>

#include "tests/simulation/simulated_shard.hpp"

namespace visitd {

namespace {

void put(std::string& content, std::string_view text) {
  content += fmt::format("{}:{}", text.size(), text);
}

std::string take(std::string_view& content) {
  std::size_t size = 0;
  const char* const colon = std::from_chars(content.data(), content.data() + content.size(), size).ptr;
  const std::string text(colon + 1, size);
  content.remove_prefix(static_cast<std::size_t>(colon + 1 - content.data()) + size);
  return text;
}

}  // namespace

std::string SimulatedShard::encode(const Bucket& bucket) {
  std::string content = fmt::format("{}:", bucket.fields.size());
  for (const auto& [name, value] : bucket.fields) {
    put(content, name);
    put(content, value);
  }
  for (const auto& [key, visits] : bucket.of_hosts) {
    put(content, std::to_string(key.first));
    put(content, key.second);
    put(content, std::to_string(visits));
  }
  return content;
}

SimulatedShard::Bucket SimulatedShard::decode(std::string_view content) {
  Bucket bucket;
  std::size_t fields = 0;
  const char* const colon = std::from_chars(content.data(), content.data() + content.size(), fields).ptr;
  content.remove_prefix(static_cast<std::size_t>(colon + 1 - content.data()));
  for (; fields > 0; --fields) {
    std::string name = take(content);
    bucket.fields[std::move(name)] = take(content);
  }
  while (!content.empty()) {
    const std::size_t host = std::stoull(take(content));
    std::string page = take(content);
    bucket.of_hosts[{host, std::move(page)}] = std::stoull(take(content));
  }
  return bucket;
}

MoveAnswer SimulatedShard::run_move(const MoveBucket& move) {
  using Kind = MoveAnswer::Kind;
  const std::string id = field(move.bucket, id_field);
  const std::string moved = field(move.bucket, moved_field);
  if (move.step == MoveBucket::Step::copy_in) {
    if (!id.empty() && moved.empty()) {
      return field(move.bucket, from_field) == move.marker ? MoveAnswer{}
                                                           : MoveAnswer{Kind::refused, "another copy is there"};
    }
    if (move.content.empty()) return {Kind::absent};
    Bucket& bucket = now_.buckets[move.bucket] = decode(move.content);
    bucket.fields.erase(moving_field);
    bucket.fields.erase(moved_field);
    bucket.fields[from_field] = move.marker;
    note_change();
    return {};
  }
  if (id != move.id) return {Kind::refused, "it has another identity"};
  if (!moved.empty() && moved != move.marker) return {Kind::refused, "it has moved elsewhere"};
  Bucket& bucket = now_.buckets[move.bucket];
  switch (move.step) {
    case MoveBucket::Step::copy_out:
      if (!moved.empty() && bucket.fields.size() == 2) return {Kind::dropped};
      if (moved.empty()) bucket.fields[moving_field] = move.marker;
      note_change();
      return {Kind::content, encode(bucket)};
    case MoveBucket::Step::send_away:
      bucket.fields[moving_field] = bucket.fields[moved_field] = move.marker;
      note_change();
      return {};
    default:
      if (moved.empty()) return {Kind::refused, "it was not sent away"};
      bucket.fields = {{id_field, id}, {moved_field, moved}};
      bucket.of_hosts.clear();
      note_change();
      return {};
  }
}

MovesTaken SimulatedShard::run_take(const TakeMoves& take) {
  if (!now_.mover.empty() && now_.mover != take.writer && now_ms_ < now_.moves_until_ms) return {false};
  now_.mover = take.writer;
  now_.moves_until_ms = now_ms_ + take.for_ms;
  return {true};
}

}  // namespace visitd
