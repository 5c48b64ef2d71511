#include "frontend/http/body_reader.hpp"

#include <algorithm>

#include "common/os/text.hpp"
#include "frontend/http/byte_classes.hpp"

namespace visitd {

ReadOutcome BodyReader::read(std::string_view bytes, std::size_t& consumed, std::string* content, Refusal& refusal) {
  consumed = 0;
  if (place_ == Place::nothing) return ReadOutcome::complete;
  if (place_ != Place::content) return read_chunked(bytes, consumed, content, refusal);
  consumed = static_cast<std::size_t>(std::min<std::uint64_t>(remaining_, bytes.size()));
  if (content != nullptr) content->append(bytes.substr(0, consumed));
  remaining_ -= consumed;
  if (remaining_ != 0) return ReadOutcome::incomplete;
  place_ = Place::nothing;
  return ReadOutcome::complete;
}

ReadOutcome BodyReader::read_chunked(std::string_view bytes, std::size_t& consumed, std::string* content,
                                     Refusal& refusal) {
  while (consumed < bytes.size()) {
    if (place_ == Place::chunk_data) {
      const auto part = static_cast<std::size_t>(std::min<std::uint64_t>(remaining_, bytes.size() - consumed));
      if (content != nullptr) content->append(bytes.substr(consumed, part));
      consumed += part;
      remaining_ -= part;
      if (remaining_ == 0) place_ = Place::chunk_data_cr;
      continue;
    }
    refusal = step(static_cast<unsigned char>(bytes[consumed]));
    if (refusal != Refusal::none) return ReadOutcome::refused;
    ++consumed;
    if (place_ == Place::nothing) return ReadOutcome::complete;
  }
  return ReadOutcome::incomplete;
}

Refusal BodyReader::step(unsigned char byte) noexcept {
  switch (place_) {
    case Place::chunk_size:
    case Place::chunk_space:
    case Place::chunk_extension:
    case Place::chunk_quoted:
    case Place::chunk_escaped:
    case Place::chunk_size_end:
      return step_size(byte);
    case Place::chunk_data_cr:
      place_ = Place::chunk_data_lf;
      return byte == '\r' ? Refusal::none : Refusal::malformed_chunk;
    case Place::chunk_data_lf:
      place_ = Place::chunk_size;
      line_bytes_ = 0;
      size_seen_ = false;
      return byte == '\n' ? Refusal::none : Refusal::malformed_chunk;
    default:
      return step_trailer(byte);
  }
}

Refusal BodyReader::step_size(unsigned char byte) noexcept {
  if (++line_bytes_ > chunk_line_limit_bytes) return Refusal::malformed_chunk;
  const char c = static_cast<char>(byte);
  switch (place_) {
    case Place::chunk_size:
      if (const int digit = hex_value(c); digit >= 0) {
        size_seen_ = true;
        remaining_ = remaining_ * 16 + static_cast<std::uint64_t>(digit);
        return decoded_ + remaining_ > limits_->body_bytes ? Refusal::body_too_large : Refusal::none;
      }
      if (!size_seen_) return Refusal::malformed_chunk;
      [[fallthrough]];
    case Place::chunk_space:
      // White space is forgiven where an extension follows it, as the grammar wants.
      if (is_blank(c)) {
        place_ = Place::chunk_space;
        return Refusal::none;
      }
      if (c == ';') {
        place_ = Place::chunk_extension;
        return Refusal::none;
      }
      if (c != '\r' || place_ == Place::chunk_space) return Refusal::malformed_chunk;
      place_ = Place::chunk_size_end;
      return Refusal::none;
    case Place::chunk_extension:
      if (c == '\r') place_ = Place::chunk_size_end;
      if (c == '"') place_ = Place::chunk_quoted;
      return c == '\r' || is_in(c, in_value) ? Refusal::none : Refusal::malformed_chunk;
    case Place::chunk_quoted:
      // Within a quotation the line cannot end: whoever reads quotations would look for its end beyond.
      if (c == '"') place_ = Place::chunk_extension;
      if (c == '\\') place_ = Place::chunk_escaped;
      return is_in(c, in_value) ? Refusal::none : Refusal::malformed_chunk;
    case Place::chunk_escaped:
      place_ = Place::chunk_quoted;
      return is_in(c, in_value) ? Refusal::none : Refusal::malformed_chunk;
    default:
      if (c != '\n') return Refusal::malformed_chunk;
      decoded_ += remaining_;
      place_ = remaining_ == 0 ? Place::trailer_start : Place::chunk_data;
      line_bytes_ = 0;
      return Refusal::none;
  }
}

Refusal BodyReader::step_trailer(unsigned char byte) noexcept {
  if (++line_bytes_ > limits_->head_bytes) return Refusal::head_too_large;
  const char c = static_cast<char>(byte);
  switch (place_) {
    case Place::trailer_start:
      if (c == '\r') {
        place_ = Place::last_end;
        return Refusal::none;
      }
      if (++trailer_count_ > limits_->header_count) return Refusal::too_many_fields;
      place_ = Place::trailer_name;
      return is_in(c, in_token) ? Refusal::none : Refusal::malformed_chunk;
    case Place::trailer_name:
      if (c == ':') place_ = Place::trailer_value;
      return c == ':' || is_in(c, in_token) ? Refusal::none : Refusal::malformed_chunk;
    case Place::trailer_value:
      if (c == '\r') place_ = Place::trailer_end;
      return c == '\r' || is_in(c, in_value) ? Refusal::none : Refusal::malformed_chunk;
    case Place::trailer_end:
      place_ = Place::trailer_start;
      return c == '\n' ? Refusal::none : Refusal::malformed_chunk;
    default:
      place_ = Place::nothing;
      return c == '\n' ? Refusal::none : Refusal::malformed_chunk;
  }
}

}  // namespace visitd
