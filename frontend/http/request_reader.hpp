// Bytes in, one vetted request or a refusal out: HTTP/1.1 framing (RFC 9112), strictly. Pure: no socket, no clock; a
// head costs no allocation.
//
// What two parties could read differently is refused, and a refusal ends the connection. The answer depends on the
// bytes alone, never on how they were split on the way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "frontend/http/refusals.hpp"

namespace visitd {

/// The longest chunk-size line, extensions included.
inline constexpr std::size_t chunk_line_limit_bytes = 512;

struct ReaderLimits {
  std::size_t head_bytes = 8192;       ///< request line and header fields, with the empty line
  std::size_t target_bytes = 4096;     ///< of the request target
  std::size_t header_count = 64;       ///< header fields; also trailer fields
  std::uint64_t body_bytes = 1 << 20;  ///< of content, decoded
};

/// The methods that routes know.
enum class Method : std::uint8_t { get, head, post, options, other };

/// A vetted head. The views lie in the bytes that were read, and hold as long as those stay.
struct RequestHead {
  Method method = Method::other;
  bool minor_version_0 = false;    ///< HTTP/1.0
  bool keep_alive = true;          ///< what the client wants of the connection
  bool expects_continue = false;   ///< waits for 100 before it sends the body
  bool asks_cross_origin = false;  ///< bears Access-Control-Request-Method: with Origin and OPTIONS, a preflight
  bool chunked = false;
  std::uint64_t content_length = 0;
  std::string_view method_text;
  std::string_view target;  ///< as it was sent
  std::string_view path;    ///< the target's path, percent-encoded, without query; "*" for OPTIONS alone
  std::string_view query;   ///< what follows the path's question mark, encoded; empty: nothing
  std::string_view origin;  ///< the Origin field; empty: none
  std::string_view fields;  ///< all field lines, each with its CRLF
  std::size_t size = 0;     ///< bytes of the whole head, what was skipped before it included

  [[nodiscard]] bool has_body() const noexcept { return chunked || content_length > 0; }
};

class RequestReader {
 public:
  enum class Outcome : std::uint8_t { incomplete, complete, refused };

  explicit RequestReader(const ReaderLimits& limits) noexcept : limits_(&limits) {}

  /// Reads a head from its first byte. complete: head() holds, and head().size bytes are the head's. incomplete: call
  /// again, with the same bytes and more. refused: refusal() says why.
  [[nodiscard]] Outcome read_head(std::string_view bytes) noexcept;

  /// Reads on in the body of the request whose head was complete. Its content, decoded, is appended to `content`;
  /// nullptr: it is thrown away. complete: the next head begins after `consumed` bytes. incomplete: all bytes were
  /// consumed; call again with what follows them.
  [[nodiscard]] Outcome read_body(std::string_view bytes, std::size_t& consumed, std::string* content);

  [[nodiscard]] const RequestHead& head() const noexcept { return head_; }
  [[nodiscard]] Refusal refusal() const noexcept { return refusal_; }

 private:
  enum class Body : std::uint8_t {
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
  };

  Outcome refuse(Refusal refusal) noexcept;
  void start_body() noexcept;
  Outcome read_chunked(std::string_view bytes, std::size_t& consumed, std::string* content);
  /// One byte outside of chunk data. none: it fits.
  Refusal step(unsigned char byte) noexcept;
  Refusal step_size(unsigned char byte) noexcept;
  Refusal step_trailer(unsigned char byte) noexcept;

  const ReaderLimits* limits_;
  RequestHead head_;
  Refusal refusal_ = Refusal::none;
  Body body_ = Body::content;
  bool body_complete_ = true;
  bool size_seen_ = false;       ///< the chunk's size has a digit
  std::uint64_t remaining_ = 0;  ///< bytes of the content, or of the chunk at hand
  std::uint64_t decoded_ = 0;    ///< content bytes of all chunks so far
  std::size_t line_bytes_ = 0;   ///< of the chunk-size line, or of all trailers
  std::size_t trailer_count_ = 0;
};

}  // namespace visitd
