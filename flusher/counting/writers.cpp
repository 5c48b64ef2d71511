#include "flusher/counting/writers.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "common/os/text.hpp"

namespace visitd {

namespace {

/// A name as one word.
std::string word_of(std::string name) {
  for (char& byte : name) {
    if (static_cast<unsigned char>(byte) <= ' ' || byte == '\x7f') byte = '_';
  }
  return name.empty() ? "-" : name;
}

}  // namespace

std::string to_text(const WriterNote& note) {
  return fmt::format("{} {} {} {} {} {}", word_of(note.host), word_of(note.version), note.incarnation, note.seen_at,
                     note.batches, note.buckets);
}

std::optional<WriterNote> parse_writer_note(std::string_view text) {
  WriterNote note;
  note.host = take_until(text, ' ');
  note.version = take_until(text, ' ');
  for (std::uint64_t* number : {&note.incarnation, &note.seen_at, &note.batches, &note.buckets}) {
    if (!parse_decimal(take_until(text, ' '), *number)) return std::nullopt;
  }
  return note.host.empty() || !text.empty() ? std::nullopt : std::optional(note);
}

std::string to_text(const ForgottenNote& note) {
  return fmt::format("{} {}", note.at, word_of(note.by));
}

std::optional<ForgottenNote> parse_forgotten_note(std::string_view text) {
  ForgottenNote note;
  if (!parse_decimal(take_until(text, ' '), note.at)) return std::nullopt;
  note.by = text;
  return note;
}

void WriterList::add(const std::vector<std::pair<std::string, std::string>>& fields) {
  for (const auto& [field, value] : fields) {
    std::string_view kind = field;
    const std::string id(take_until(kind, ':'));
    Writer& writer = writers_[id];
    writer.id = id;
    add(writer, kind, value);
  }
}

void WriterList::add(Writer& writer, std::string_view kind, std::string_view value) {
  if (kind == "wrote") {
    std::uint64_t wrote_at = 0;
    if (parse_decimal(value, wrote_at)) writer.wrote_at = std::max(writer.wrote_at, wrote_at);
  } else if (kind == "forgotten") {
    const auto forgotten = parse_forgotten_note(value);
    if (forgotten && (!writer.forgotten || writer.forgotten->at < forgotten->at)) writer.forgotten = forgotten;
  } else if (auto note = parse_writer_note(value); note && kind.empty()) {
    note->batches += writer.note.batches;
    note->buckets += writer.note.buckets;
    if (writer.note.seen_at <= note->seen_at) {
      writer.note = *note;
    } else {
      writer.note.batches = note->batches;
      writer.note.buckets = note->buckets;
    }
  }
}

}  // namespace visitd
