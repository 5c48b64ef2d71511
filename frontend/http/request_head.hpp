// One vetted head of a request, and the limits that it was vetted under.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace visitd {

struct ReaderLimits {
  std::size_t head_bytes = 8192;       ///< request line and header fields, with the empty line
  std::size_t target_bytes = 4096;     ///< of the request target
  std::size_t header_count = 64;       ///< header fields; also trailer fields
  std::uint64_t body_bytes = 1 << 20;  ///< of content, decoded
};

/// The methods that routes know.
enum class Method : std::uint8_t { get, head, post, put, delete_, options, other };

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

  /// The same head in a copy of the bytes that it was read from.
  [[nodiscard]] RequestHead in_copy(std::string_view bytes, std::string_view copy) const noexcept {
    RequestHead head = *this;
    for (std::string_view* view :
         {&head.method_text, &head.target, &head.path, &head.query, &head.origin, &head.fields}) {
      // A path that no target names lies elsewhere.
      const bool is_inside = view->data() >= bytes.data() && view->data() + view->size() <= bytes.data() + bytes.size();
      if (is_inside) *view = copy.substr(static_cast<std::size_t>(view->data() - bytes.data()), view->size());
    }
    return head;
  }
};

/// incomplete: all that came fits, and more is needed.
enum class ReadOutcome : std::uint8_t { incomplete, complete, refused };

}  // namespace visitd
