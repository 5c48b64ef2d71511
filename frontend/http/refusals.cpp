#include "frontend/http/refusals.hpp"

namespace visitd {

namespace {

struct Told {
  Refusal refusal;
  std::string_view parameter;
  std::string_view detail;
};

constexpr std::array<Told, refusal_count> told{{
    {Refusal::none, "", ""},
    {Refusal::malformed_request_line, "request line", "the request line is not METHOD SP TARGET SP HTTP/1.1 CRLF"},
    {Refusal::malformed_target, "request target",
     "the request target is not a path, an absolute http URI, or * with OPTIONS"},
    {Refusal::target_too_long, "request target", ""},
    {Refusal::unsupported_version, "HTTP version", "this server speaks HTTP/1.1 and HTTP/1.0"},
    {Refusal::bare_line_break, "line break", "a CR or LF stands alone; lines end with CRLF"},
    {Refusal::control_character, "head", "the head contains a control character"},
    {Refusal::folded_field, "header field", "a header field is continued on a line of its own"},
    {Refusal::space_before_colon, "header field", "there is white space between a field name and its colon"},
    {Refusal::malformed_field_name, "header field", "a field name is empty or not a token"},
    {Refusal::head_too_large, "header fields", ""},
    {Refusal::too_many_fields, "header fields", ""},
    {Refusal::host_missing, "Host", "an HTTP/1.1 request needs a Host field"},
    {Refusal::host_repeated, "Host", "there is more than one Host field"},
    {Refusal::host_malformed, "Host", "the Host field is not a host with an optional port"},
    {Refusal::content_length_malformed, "Content-Length", "the Content-Length is not a number of at most 18 digits"},
    {Refusal::content_length_repeated, "Content-Length", "there is more than one Content-Length field"},
    {Refusal::transfer_encoding_unsupported, "Transfer-Encoding",
     "the one transfer coding accepted is chunked, once, in HTTP/1.1"},
    {Refusal::length_ambiguous, "Transfer-Encoding", "there is a Transfer-Encoding beside a Content-Length"},
    {Refusal::content_encoding_unsupported, "Content-Encoding", "this server takes no encoded content; send it plain"},
    {Refusal::expectation_unknown, "Expect", "the one expectation known is 100-continue"},
    {Refusal::body_too_large, "body", ""},
    {Refusal::malformed_chunk, "body", ""},
    {Refusal::busy, "", ""},
    {Refusal::no_such_path, "path", "there is nothing at this path"},
    {Refusal::method_not_allowed, "method", "the Allow field lists the methods of this path"},
    {Refusal::invalid_percent_encoding, "", "invalid percent-encoding"},
    {Refusal::invalid_page_id, "page_id", ""},
    {Refusal::malformed_json, "body", ""},
    {Refusal::invalid_visits, "visits", "visits are a whole number from 1 to 4294967295"},
    {Refusal::nothing_to_do, "", "no page is named"},
    {Refusal::too_many_pages, "page", ""},
    {Refusal::unknown_parameter, "query", "the one parameter known here is page"},
    {Refusal::lane_full, "", ""},
    {Refusal::restarting, "", "this frontend is about to be restarted; the visit was not counted"},
    {Refusal::count_unknown, "", "too many large requests wait for counts; this one was not answered"},
    {Refusal::not_ready, "", ""},
    {Refusal::internal_error, "", ""},
    {Refusal::count_damaged, "",
     "the page has no count: what Redis holds of it is no number, or has no room for its visits"},
    {Refusal::too_many_visits, "visits", ""},
    {Refusal::too_many_entries, "body", ""},
    {Refusal::origin_not_allowed, "Origin", ""},
    {Refusal::page_not_allowed, "page_id", ""},
    {Refusal::visit_rate_exceeded, "", ""},
    {Refusal::too_many_new_pages, "page_id", ""},
    {Refusal::owner_key_needed, "Authorization",
     "this is the owner's alone: send Authorization: Bearer and the owner's key"},
    {Refusal::owner_key_wrong, "Authorization", "this is not the owner's key"},
    {Refusal::owner_key_unset, "", "this is the owner's alone, and no owner's key is set here"},
    {Refusal::owner_from_elsewhere, "Origin",
     "pages of this origin change no counts: http.cors_origins does not name it"},
    {Refusal::invalid_count, "count", "the body is {\"count\":N}, N a whole number from 0 to 9223372036854775807"},
    {Refusal::invalid_limit, "limit", "limit is a whole number from 1 to 1000"},
    {Refusal::not_done, "",
     "too many large requests wait for the flusher; a count that was to be changed may be changed"},
    {Refusal::invalid_badge, "query", ""},
}};
static_assert([] {
  std::size_t number = 0;
  for (const Told& row : told) {
    if (static_cast<std::size_t>(row.refusal) != number++) return false;
  }
  return true;
}());

}  // namespace

RefusalText describe(Refusal refusal) noexcept {
  const auto number = static_cast<std::size_t>(refusal);
  const RefusalKind& kind = refusal_kinds[number];
  return {kind.status, kind.name, told[number].parameter, told[number].detail};
}

}  // namespace visitd
