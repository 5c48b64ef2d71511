// The body of a request: its content, whose length was told, or the content of its chunks, and the trailers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "frontend/http/refusals.hpp"
#include "frontend/http/request_head.hpp"

namespace visitd {

/// The longest chunk-size line, extensions included.
inline constexpr std::size_t chunk_line_limit_bytes = 512;

class BodyReader {
 public:
  explicit BodyReader(const ReaderLimits& limits) noexcept : limits_(&limits) {}

  /// The body of this head comes next.
  void start(const RequestHead& head) noexcept {
    place_ = head.chunked ? Place::chunk_size : head.has_body() ? Place::content : Place::nothing;
    remaining_ = head.content_length;
    decoded_ = 0;
    line_bytes_ = 0;
    trailer_count_ = 0;
    size_seen_ = false;
  }

  /// See RequestReader::read_body. refused: `refusal` says why.
  [[nodiscard]] ReadOutcome read(std::string_view bytes, std::size_t& consumed, std::string* content, Refusal& refusal);

 private:
  /// What the next byte is part of.
  enum class Place : std::uint8_t {
    content,
    chunk_size,
    chunk_space,
    chunk_extension,
    chunk_quoted,
    chunk_escaped,
    chunk_size_end,
    chunk_data,
    chunk_data_cr,
    chunk_data_lf,
    trailer_start,
    trailer_name,
    trailer_value,
    trailer_end,
    last_end,
    nothing,
  };

  ReadOutcome read_chunked(std::string_view bytes, std::size_t& consumed, std::string* content, Refusal& refusal);
  /// One byte outside of chunk data. none: it fits.
  Refusal step(unsigned char byte) noexcept;
  Refusal step_size(unsigned char byte) noexcept;
  Refusal step_trailer(unsigned char byte) noexcept;

  const ReaderLimits* limits_;
  Place place_ = Place::nothing;  ///< nothing: the body is complete
  bool size_seen_ = false;        ///< the chunk's size has a digit
  std::uint64_t remaining_ = 0;   ///< bytes of the content, or of the chunk at hand
  std::uint64_t decoded_ = 0;     ///< content bytes of all chunks so far
  std::size_t line_bytes_ = 0;    ///< of the chunk-size line, or of all trailers
  std::size_t trailer_count_ = 0;
};

}  // namespace visitd
