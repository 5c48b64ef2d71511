#include "ctl/csv.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace visitd {

bool CsvReader::next() {
  while (rest_.starts_with('#') || rest_.starts_with('\n') || rest_.starts_with("\r\n")) skip_line();
  if (rest_.empty()) return false;
  line_ = next_line_;
  used_ = 0;
  whole_ = true;
  while (take_field()) {
  }
  fields_.resize(used_);
  return true;
}

void CsvReader::skip_line() {
  rest_.remove_prefix(std::min(rest_.find('\n'), rest_.size() - 1) + 1);
  ++next_line_;
}

std::string_view CsvReader::take(std::size_t bytes) {
  const std::string_view taken = rest_.substr(0, bytes);
  rest_.remove_prefix(taken.size());
  next_line_ += static_cast<std::uint64_t>(std::ranges::count(taken, '\n'));
  return taken;
}

std::string& CsvReader::next_field() {
  if (used_ == fields_.size()) fields_.emplace_back();
  fields_[used_].clear();
  return fields_[used_++];
}

/// True: another one follows in the row.
bool CsvReader::take_field() {
  std::string& field = next_field();
  if (rest_.starts_with('"')) take_quoted(field);
  // What follows a quote, up to the end of the field, is taken as it stands.
  const std::size_t end = std::min(rest_.find_first_of(",\n"), rest_.size());
  field += take(end);
  const std::string_view separator = take(1);
  if (separator == "\n" && field.ends_with('\r')) field.pop_back();
  return separator == ",";
}

void CsvReader::take_quoted(std::string& field) {
  rest_.remove_prefix(1);
  for (;;) {
    const std::size_t quote = rest_.find('"');
    field += take(quote);
    if (quote == std::string_view::npos) {
      whole_ = false;
      return;
    }
    rest_.remove_prefix(1);
    if (!rest_.starts_with('"')) return;
    field += take(1);
  }
}

void append_csv_row(std::string& text, std::string_view page, std::optional<std::uint64_t> count) {
  text += '"';
  while (!page.empty()) {
    const std::size_t quote = std::min(page.find('"'), page.size());
    text += page.substr(0, quote);
    if (quote != page.size()) text += "\"\"";
    page.remove_prefix(std::min(quote + 1, page.size()));
  }
  text += "\",";
  if (count) text += fmt::format_int(*count).c_str();
  text += '\n';
}

}  // namespace visitd
