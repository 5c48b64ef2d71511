#include "flusher/counting/batch.hpp"

#include <fmt/format.h>

#include <charconv>
#include <utility>

#include "common/shm/hash.hpp"
#include "flusher/counting/blob.hpp"

namespace visitd {

namespace {

bool take_number(std::string_view& text, std::uint64_t& value, int base, char end) {
  const auto [next, failed] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (failed != std::errc{} || next == text.data()) return false;
  text.remove_prefix(static_cast<std::size_t>(next - text.data()));
  if (end == '\0') return text.empty();
  if (text.empty() || text.front() != end) return false;
  text.remove_prefix(1);
  return true;
}

}  // namespace

std::string to_text(const Mark& mark) {
  return fmt::format("{}-{:016x} {} {:016x}", mark.incarnation.number, mark.incarnation.random, mark.seq, mark.digest);
}

bool parse_mark(std::string_view text, Mark& mark) {
  Mark parsed;
  if (!take_number(text, parsed.incarnation.number, 10, '-') ||
      !take_number(text, parsed.incarnation.random, 16, ' ') || !take_number(text, parsed.seq, 10, ' ') ||
      !take_number(text, parsed.digest, 16, '\0')) {
    return false;
  }
  mark = parsed;
  return true;
}

std::optional<Batch> rejoin_of(std::uint32_t bucket, const std::string& tombstone) {
  Batch batch{bucket, {}, tombstone, {}, {}};
  return parse_mark(tombstone, batch.mark) ? std::optional(std::move(batch)) : std::nullopt;
}

bool is_rejoin(const Batch& batch) {
  return batch.effects.empty() && batch.expected == to_text(batch.mark);
}

std::string encode_content(const Batch& batch) {
  if (!batch.correction) return encode_effects(batch.effects);
  std::string blob(1, '\0');
  append_varint(blob, batch.correction->fix);
  append_text(blob, batch.correction->by);
  for (std::size_t i = 0; i < batch.effects.size(); ++i) {
    append_text(blob, batch.effects[i].series);
    append_varint(blob, zigzag(batch.effects[i].operand));
    append_text(blob, batch.correction->into[i]);
  }
  return blob;
}

void decode_content(std::string_view blob, Batch& batch) {
  if (blob.empty() || blob.front() != '\0') {
    batch.effects = decode_effects(blob);
    return;
  }
  blob.remove_prefix(1);
  Correction& correction = batch.correction.emplace();
  correction.fix = take_varint(blob);
  correction.by = take_text(blob);
  while (!blob.empty()) {
    std::string series(take_text(blob));
    batch.effects.push_back({std::move(series), from_zigzag(take_varint(blob))});
    correction.into.emplace_back(take_text(blob));
  }
}

std::uint64_t digest_of(std::string_view blob) noexcept {
  return hash_bytes(blob);
}

}  // namespace visitd
