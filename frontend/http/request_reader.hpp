// Bytes in, one vetted request or a refusal out: HTTP/1.1 framing (RFC 9112), strictly. Pure: no socket, no clock; a
// head costs no allocation.
//
// What two parties could read differently is refused, and a refusal ends the connection. The answer depends on the
// bytes alone, never on how they were split on the way.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "frontend/http/body_reader.hpp"
#include "frontend/http/head_parser.hpp"
#include "frontend/http/refusals.hpp"
#include "frontend/http/request_head.hpp"

namespace visitd {

class RequestReader {
 public:
  using Outcome = ReadOutcome;

  explicit RequestReader(const ReaderLimits& limits) noexcept : limits_(&limits), body_(limits) {}

  /// Reads a head from its first byte. complete: head() holds, and head().size bytes are the head's. incomplete: call
  /// again, with the same bytes and more. refused: refusal() says why.
  [[nodiscard]] Outcome read_head(std::string_view bytes) noexcept {
    const Outcome outcome = parse_head(bytes, *limits_, head_, refusal_);
    if (outcome == Outcome::complete) body_.start(head_);
    return outcome;
  }

  /// Reads on in the body of the request whose head was complete. Its content, decoded, is appended to `content`;
  /// nullptr: it is thrown away. complete: the next head begins after `consumed` bytes. incomplete: all bytes were
  /// consumed; call again with what follows them.
  [[nodiscard]] Outcome read_body(std::string_view bytes, std::size_t& consumed, std::string* content) {
    return body_.read(bytes, consumed, content, refusal_);
  }

  [[nodiscard]] const RequestHead& head() const noexcept { return head_; }
  [[nodiscard]] Refusal refusal() const noexcept { return refusal_; }

 private:
  RequestHead head_;
  Refusal refusal_ = Refusal::none;
  const ReaderLimits* limits_;
  BodyReader body_;
};

}  // namespace visitd
