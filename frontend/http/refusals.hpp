// Every reason for which a request is refused, in one table: what the client is told, what is counted, what is
// documented.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

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
};
inline constexpr std::size_t refusal_count = static_cast<std::size_t>(Refusal::too_many_new_pages) + 1;

struct RefusalText {
  std::uint16_t status;        ///< of HTTP
  std::string_view name;       ///< the last part of the problem's type, and a label in metrics
  std::string_view parameter;  ///< what is at fault, where that is always the same
  std::string_view detail;     ///< a sentence, where that is always the same; empty: whoever refuses says it
};
[[nodiscard]] const RefusalText& describe(Refusal refusal) noexcept;

/// How often each was answered.
using RefusalCounts = std::array<std::uint64_t, refusal_count>;

/// A refusal as one client is told of it, as a problem (RFC 9457).
struct Problem {
  Refusal refusal = Refusal::internal_error;
  std::string_view detail{};     ///< empty: the table's
  std::string_view parameter{};  ///< empty: the table's
  std::string_view member{};     ///< the name of a number that this kind of problem bears; empty: none
  std::uint64_t value = 0;       ///< that number
};

}  // namespace visitd
