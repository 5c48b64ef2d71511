// Every reason for which a frontend refuses a request, by number: frontends count each in the ring, and others read it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "common/shm/statistics.hpp"

namespace visitd {

enum class Refusal : std::uint8_t {
  none,
  // by the reader: the connection ends
  malformed_request_line,
  malformed_target,
  target_too_long,
  unsupported_version,
  bare_line_break,
  control_character,
  folded_field,
  space_before_colon,
  malformed_field_name,
  head_too_large,
  too_many_fields,
  host_missing,
  host_repeated,
  host_malformed,
  content_length_malformed,
  content_length_repeated,
  transfer_encoding_unsupported,
  length_ambiguous,
  content_encoding_unsupported,
  expectation_unknown,
  body_too_large,
  malformed_chunk,
  busy,
  // by the routes
  no_such_path,
  method_not_allowed,
  invalid_percent_encoding,
  invalid_page_id,
  malformed_json,
  invalid_visits,
  nothing_to_do,
  too_many_pages,
  unknown_parameter,
  lane_full,
  restarting,
  count_unknown,
  not_ready,
  internal_error,
  // What is new comes last: frontends of two versions may write to one ring, and each counts by number.
  count_damaged,
  too_many_visits,
  too_many_entries,
  origin_not_allowed,
  page_not_allowed,
  visit_rate_exceeded,
  too_many_new_pages,
  owner_key_needed,
  owner_key_wrong,
  owner_key_unset,
  owner_from_elsewhere,
  invalid_count,
  invalid_limit,
  not_done,
  invalid_badge,
};
inline constexpr std::size_t refusal_count = static_cast<std::size_t>(Refusal::invalid_badge) + 1;
static_assert(frontend_refusals_first_word + refusal_count <= frontend_statistics_words);

struct RefusalKind {
  std::uint16_t status;     ///< of HTTP
  std::string_view name;    ///< the last part of the problem's type, and a label in metrics
  std::string_view advice;  ///< what an operator may do about it
};

inline constexpr std::string_view not_http =
    "somebody sends what is no HTTP, as scanners do: nothing, unless a client of yours is told so";

inline constexpr std::array<RefusalKind, refusal_count> refusal_kinds{{
    {200, "none", ""},
    {400, "malformed-request-line", not_http},
    {400, "malformed-target", not_http},
    {414, "target-too-long", "let readers of many pages use POST /visits/query, or raise http.target_limit_bytes"},
    {505, "unsupported-version", "let the proxy in front speak HTTP/1.1"},
    {400, "bare-line-break", not_http},
    {400, "control-character", not_http},
    {400, "folded-field", not_http},
    {400, "space-before-colon", not_http},
    {400, "malformed-field-name", not_http},
    {431, "head-too-large", "look for large cookies at the site, or raise http.head_limit_bytes"},
    {431, "too-many-fields", "look at what the proxy adds, or raise http.header_limit"},
    {400, "host-missing", not_http},
    {400, "host-repeated", not_http},
    {400, "host-malformed", not_http},
    {400, "content-length-malformed", not_http},
    {400, "content-length-repeated", not_http},
    {400, "transfer-encoding-unsupported", not_http},
    {400, "length-ambiguous", not_http},
    {415, "content-encoding-unsupported", "let the client send its list as it is, not compressed"},
    {417, "expectation-unknown", "mend the client"},
    {413, "body-too-large", "let the client send lists in parts, or raise http.body_limit_bytes"},
    {400, "malformed-chunk", not_http},
    {503, "busy",
     "raise http.buffered_bodies_limit_bytes, or see who sends large bodies slowly; of streams, http.stream_limit"},
    {404, "no-such-path", "compare the address in your pages with docs/http.md; scanners ask for such paths too"},
    {405, "method-not-allowed", "compare the method in your pages with docs/http.md"},
    {400, "invalid-percent-encoding", "let your pages encode ids: % is %25"},
    {400, "invalid-page-id", "see which ids your pages send; visitctl rules PAGE shows what becomes of one"},
    {400, "malformed-json", "mend the program that sends lists"},
    {400, "invalid-visits", "mend the program that sends lists: visits are 1 to 4294967295"},
    {400, "nothing-to-do", "mend the program that sends empty lists"},
    {400, "too-many-pages", "let readers ask in parts, or raise http.batch_read_limit"},
    {400, "unknown-parameter", "let readers name pages with page= alone"},
    {503, "lane-full", "visitctl status: the flusher does not follow; start it, or raise ring.lane_bytes"},
    {503, "restarting", "nothing: the frontend is about to be restarted"},
    {503, "count-unknown", "visitctl status: a shard or the flusher is away"},
    {503, "not-ready", "/readyz?verbose says what this frontend lacks"},
    {500, "internal-error", "the frontend's log says why under the id that clients are told"},
    {503, "count-damaged", "the flusher's log names the page; mend its field in Redis (docs/operate.md)"},
    {403, "too-many-visits", "nothing, if strangers try it; a program of yours posts at http.private_listen"},
    {403, "too-many-entries", "nothing, if strangers try it; a program of yours posts at http.private_listen"},
    {403, "origin-not-allowed", "add the origin to http.count_origins if the site is yours"},
    {403, "page-not-allowed", "add the page to pages.allowed if it is yours"},
    {429, "visit-rate-exceeded",
     "nothing, if one client floods; else see http.trusted_proxies, or raise http.address_visits_per_minute"},
    {429, "too-many-new-pages",
     "nothing, if somebody makes up pages; else raise http.public_new_pages_per_minute for a while"},
    {401, "owner-key-needed", "let the owner's program send Authorization: Bearer KEY, or ask at http.private_listen"},
    {403, "owner-key-wrong", "nothing, if somebody tries keys; else compare the key with the file of owner.key_file"},
    {403, "owner-key-unset", "set owner.key_file, or ask at http.private_listen"},
    {403, "owner-from-elsewhere", "name the origin in http.cors_origins if the page that changes counts is yours"},
    {400, "invalid-count", "mend the program that changes counts: a count is 0 to 9223372036854775807"},
    {400, "invalid-limit", "mend the program that lists pages: limit is 1 to 1000"},
    {503, "not-done",
     "visitctl status: a shard or the flusher is away, or slow; owner.timeout_ms is how long one waits"},
    {400, "invalid-badge", "compare the badge's address in your pages with docs/http.md"},
}};

}  // namespace visitd
