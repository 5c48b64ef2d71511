// The words that our commands and their replies are made of. Only the dialect's own files include this.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "common/os/text.hpp"
#include "flusher/redis/dialect.hpp"

namespace visitd::dialect {

inline constexpr std::string_view id_field = "\x01id";
inline constexpr std::string_view fix_field =
    "\x01"
    "fix";
inline constexpr std::string_view sum_field = "\x01sum";
inline constexpr std::string_view moved_field = "\x01moved";
inline constexpr std::string_view moving_field = "\x01moving";
inline constexpr std::string_view from_field =
    "\x01"
    "from";
inline constexpr std::string_view mover_key = "visits:mover";
// With the deciding topology, on the node that says which layout holds.
inline constexpr std::string_view mover_key_of_cluster = "visits:mover{visits:topology}";
inline constexpr std::string_view writers_key = "visits:writers";
// In the slot of visits:topology: note_writer.lua looks at both.
inline constexpr std::string_view writers_key_of_cluster = "visits:writers{visits:topology}";
inline constexpr std::uint64_t largest_count = 0x7fff'ffff'ffff'ffffU;

inline void add_bucket_key(RequestText& text, std::uint32_t bucket) {
  char key[32] = "visits:{";
  char* end = std::to_chars(key + 8, key + sizeof key, bucket).ptr;
  *end++ = '}';
  text.add({key, static_cast<std::size_t>(end - key)});
}

/// The next command is executed although its key is only being given to this node.
inline void add_asking(RequestText& text, bool once) {
  if (!once) return;
  text.start(1);
  text.add("ASKING");
}

/// A writer's field in a bucket: its mark, or what becomes of that once the writer is forgotten.
inline std::string field_of_writer(std::string_view writer) {
  return fmt::format("\x01w:{}", writer);
}
inline std::string tombstone_of_writer(std::string_view writer) {
  return fmt::format("\x01gone:{}", writer);
}

[[noreturn]] inline void unexpected(std::string_view command) {
  throw UnusableReply(fmt::format("{}: an answer of another kind than Redis gives", command));
}

/// A count as Redis holds it: digits alone, no more than 2^63-1.
inline bool parse_count(std::string_view text, std::uint64_t& count) noexcept {
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
inline std::optional<std::string> info_value(std::string_view info, std::string_view name) {
  for (std::size_t at = info.find(name); at != std::string_view::npos; at = info.find(name, at + 1)) {
    const std::size_t colon = at + name.size();
    if ((at != 0 && info[at - 1] != '\n') || colon >= info.size() || info[colon] != ':') continue;
    return std::string(info.substr(colon + 1, std::min(info.find_first_of("\r\n", colon), info.size()) - colon - 1));
  }
  return std::nullopt;
}

/// A server without append-only file, or that does not say, keeps nothing waiting for it.
inline bool waits_for_disk(std::string_view info) {
  const auto is_more_than_0 = [&](std::string_view name) {
    const auto value = info_value(info, name);
    return value && *value != "0";
  };
  return is_more_than_0("aof_pending_bio_fsync") || is_more_than_0("aof_buffer_length") ||
         info_value(info, "aof_last_write_status").value_or("ok") != "ok";
}

}  // namespace visitd::dialect
