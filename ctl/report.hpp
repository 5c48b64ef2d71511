// What commands report, and how it is printed: a report is JSON, made apart from its text.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace visitd {

/// Keys keep the order in which they were set.
using Json = nlohmann::ordered_json;

/// A report has a text "error" where what was asked for failed; all that could still be found stands beside it.
[[nodiscard]] bool has_failed(const Json& report);
/// For `--json`: indented, always valid UTF-8.
[[nodiscard]] std::string to_json_text(const Json& report);

/// Text from shared memory or a socket, with everything escaped that is not printable UTF-8, so that a terminal takes
/// no orders from it.
[[nodiscard]] std::string printable(std::string_view text);
/// "12 B", "4.0 KiB", "31.9 MiB".
[[nodiscard]] std::string bytes_text(std::uint64_t bytes);
/// A time span: "850 ms", "3.2 s", "4 min 10 s", "7 h 5 min", "12 d 3 h".
[[nodiscard]] std::string span_text(std::uint64_t ms);
/// UTC, "2026-01-31T09:05:00Z".
[[nodiscard]] std::string utc_text(std::uint64_t unix_seconds);
/// Local time, "2026-01-31 09:05:00".
[[nodiscard]] std::string time_text(std::uint64_t unix_seconds);

/// A value of a report for people: null as `absent`, texts printable, numbers as they are.
[[nodiscard]] std::string plain(const Json& value, std::string_view absent = "-");
/// A number of bytes or milliseconds of a report for people; null as `absent`.
[[nodiscard]] std::string plain_bytes(const Json& value, std::string_view absent = "-");
[[nodiscard]] std::string plain_span(const Json& value, std::string_view absent = "-");

/// null: there is none.
template <typename Value>
[[nodiscard]] Json value_or_null(const std::optional<Value>& value) {
  return value ? Json(*value) : Json(nullptr);
}

/// Milliseconds since a monotonic time in ns; null: it never was, or it lies in the future.
[[nodiscard]] Json age_ms(std::uint64_t since_ns, std::uint64_t now_ns);

/// A table for a terminal: columns as wide as their widest cell, numbers to the right.
class Table {
 public:
  /// A heading that begins with '>' is of a column that is aligned to the right.
  explicit Table(std::vector<std::string> headings) : headings_(std::move(headings)) {}
  void row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  [[nodiscard]] std::string text() const;

 private:
  std::vector<std::string> headings_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace visitd
