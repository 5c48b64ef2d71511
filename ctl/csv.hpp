// CSV as RFC 4180 says it: read a row at a time, and the rows of an export. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace visitd {

/// Reads text. Passes over empty lines, and over lines that begin with #, unless they are inside quotes.
class CsvReader {
 public:
  explicit CsvReader(std::string_view text) noexcept : rest_(text) {}

  /// False at the end.
  [[nodiscard]] bool next();
  /// The line on which the row begins, from 1.
  [[nodiscard]] std::uint64_t line() const noexcept { return line_; }
  /// Until the next row is read.
  [[nodiscard]] const std::vector<std::string>& fields() const noexcept { return fields_; }
  /// False: a quote does not end.
  [[nodiscard]] bool is_whole() const noexcept { return whole_; }

 private:
  void skip_line();
  std::string_view take(std::size_t bytes);
  bool take_field();
  void take_quoted(std::string& field);
  std::string& next_field();

  std::string_view rest_;
  std::uint64_t line_ = 0;
  std::uint64_t next_line_ = 1;
  std::vector<std::string> fields_;
  std::size_t used_ = 0;  ///< how many of `fields_` this row has; the next row uses their memory again
  bool whole_ = true;
};

/// The first row of an export.
inline constexpr std::string_view csv_headings = "page,count\n";
/// A row of a page, in quotes, and its count; nullopt: it is not known.
void append_csv_row(std::string& text, std::string_view page, std::optional<std::uint64_t> count);

}  // namespace visitd
