#include "frontend/http/refusals.hpp"

namespace visitd {

const RefusalText& describe(Refusal refusal) noexcept {
  static constexpr std::array<RefusalText, refusal_count> texts{{
      {200, "none", "", ""},
      {400, "malformed-request-line", "request line", "the request line is not METHOD SP TARGET SP HTTP/1.1 CRLF"},
      {400, "malformed-target", "request target",
       "the request target is not a path, an absolute http URI, or * with OPTIONS"},
      {414, "target-too-long", "request target", ""},
      {505, "unsupported-version", "HTTP version", "this server speaks HTTP/1.1 and HTTP/1.0"},
      {400, "bare-line-break", "line break", "a CR or LF stands alone; lines end with CRLF"},
      {400, "control-character", "head", "the head contains a control character"},
      {400, "folded-field", "header field", "a header field is continued on a line of its own"},
      {400, "space-before-colon", "header field", "there is white space between a field name and its colon"},
      {400, "malformed-field-name", "header field", "a field name is empty or not a token"},
      {431, "head-too-large", "header fields", ""},
      {431, "too-many-fields", "header fields", ""},
      {400, "host-missing", "Host", "an HTTP/1.1 request needs a Host field"},
      {400, "host-repeated", "Host", "there is more than one Host field"},
      {400, "host-malformed", "Host", "the Host field is not a host with an optional port"},
      {400, "content-length-malformed", "Content-Length", "the Content-Length is not a number of at most 18 digits"},
      {400, "content-length-repeated", "Content-Length", "there is more than one Content-Length field"},
      {400, "transfer-encoding-unsupported", "Transfer-Encoding",
       "the one transfer coding accepted is chunked, once, in HTTP/1.1"},
      {400, "length-ambiguous", "Transfer-Encoding", "there is a Transfer-Encoding beside a Content-Length"},
      {415, "content-encoding-unsupported", "Content-Encoding", "this server takes no encoded content; send it plain"},
      {417, "expectation-unknown", "Expect", "the one expectation known is 100-continue"},
      {413, "body-too-large", "body", ""},
      {400, "malformed-chunk", "body", ""},
      {503, "busy", "", ""},
      {404, "no-such-path", "path", "there is nothing at this path"},
      {405, "method-not-allowed", "method", "the Allow field lists the methods of this path"},
      {400, "invalid-percent-encoding", "", "invalid percent-encoding"},
      {400, "invalid-page-id", "page_id", ""},
      {400, "malformed-json", "body", ""},
      {400, "invalid-visits", "visits", "visits are a whole number from 1 to 4294967295"},
      {400, "nothing-to-do", "", "no page is named"},
      {400, "too-many-pages", "page", ""},
      {400, "unknown-parameter", "query", "the one parameter known here is page"},
      {503, "lane-full", "", ""},
      {503, "restarting", "", "this frontend is about to be restarted; the visit was not counted"},
      {503, "count-unknown", "", "too many large requests wait for counts; this one was not answered"},
      {503, "not-ready", "", ""},
      {500, "internal-error", "", ""},
      {503, "count-damaged", "",
       "the page has no count: what Redis holds of it is no number, or has no room for its visits"},
      {403, "too-many-visits", "visits", ""},
      {403, "too-many-entries", "body", ""},
      {403, "origin-not-allowed", "Origin", ""},
      {403, "page-not-allowed", "page_id", ""},
      {429, "visit-rate-exceeded", "", ""},
      {429, "too-many-new-pages", "page_id", ""},
  }};
  return texts[static_cast<std::size_t>(refusal)];
}

}  // namespace visitd
