#include "ctl/report.hpp"

#include <fmt/format.h>
#include <time.h>

#include <algorithm>

#include "common/shm/page_id.hpp"

namespace visitd {

namespace {

/// The bytes of the first character of `text`, which is not empty; 0: it is none that can be shown.
std::size_t shown_character(std::string_view text) noexcept {
  for (std::size_t bytes = 1; bytes <= std::min<std::size_t>(4, text.size()); ++bytes) {
    if (check_page_id(text.substr(0, bytes), bytes) == PageIdFault::none) return bytes;
  }
  return 0;
}

/// Characters on a terminal, all taken as one wide.
std::size_t width(std::string_view text) noexcept {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0U) != 0x80U; }));
}

}  // namespace

bool has_failed(const Json& report) {
  const auto error = report.find("error");
  return error != report.end() && error->is_string();
}

std::string to_json_text(const Json& report) {
  return report.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string printable(std::string_view text) {
  std::string shown;
  while (!text.empty()) {
    const std::size_t bytes = shown_character(text);
    if (bytes == 0) {
      shown += fmt::format("\\x{:02x}", static_cast<unsigned char>(text.front()));
      text.remove_prefix(1);
    } else {
      shown += text.substr(0, bytes);
      text.remove_prefix(bytes);
    }
  }
  return shown;
}

std::string bytes_text(std::uint64_t bytes) {
  static constexpr std::string_view units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (bytes < 1024) return fmt::format("{} B", bytes);
  double amount = static_cast<double>(bytes) / 1024;
  std::size_t unit = 0;
  for (; amount >= 1023.95 && unit + 1 < std::size(units); ++unit) amount /= 1024;
  return fmt::format("{:.1f} {}", amount, units[unit]);
}

std::string span_text(std::uint64_t ms) {
  const std::uint64_t s = ms / 1000;
  if (s == 0) return fmt::format("{} ms", ms);
  if (s < 60) return fmt::format("{}.{} s", s, ms % 1000 / 100);
  if (s < 3600) return fmt::format("{} min {} s", s / 60, s % 60);
  if (s < 86400) return fmt::format("{} h {} min", s / 3600, s % 3600 / 60);
  return fmt::format("{} d {} h", s / 86400, s % 86400 / 3600);
}

static std::string date_text(const tm& parts, char between) {
  return fmt::format("{:04}-{:02}-{:02}{}{:02}:{:02}:{:02}", parts.tm_year + 1900LL, parts.tm_mon + 1, parts.tm_mday,
                     between, parts.tm_hour, parts.tm_min, parts.tm_sec);
}

std::string time_text(std::uint64_t unix_seconds) {
  const auto seconds = static_cast<time_t>(unix_seconds);
  tm parts{};
  if (localtime_r(&seconds, &parts) == nullptr) return fmt::format("{}", unix_seconds);
  return date_text(parts, ' ');
}

std::string utc_text(std::uint64_t unix_seconds) {
  const auto seconds = static_cast<time_t>(unix_seconds);
  tm parts{};
  if (gmtime_r(&seconds, &parts) == nullptr) return fmt::format("{}", unix_seconds);
  return date_text(parts, 'T') + "Z";
}

std::string plain(const Json& value, std::string_view absent) {
  if (value.is_null()) return std::string(absent);
  if (value.is_string()) return printable(value.get_ref<const std::string&>());
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string plain_bytes(const Json& value, std::string_view absent) {
  return value.is_number_unsigned() ? bytes_text(value.get<std::uint64_t>()) : plain(value, absent);
}

std::string plain_span(const Json& value, std::string_view absent) {
  return value.is_number_unsigned() ? span_text(value.get<std::uint64_t>()) : plain(value, absent);
}

Json age_ms(std::uint64_t since_ns, std::uint64_t now_ns) {
  // What was stored after we looked at the clock is just now.
  constexpr std::uint64_t just_now_ns = 1'000'000'000;
  if (since_ns == 0 || since_ns > now_ns + just_now_ns) return nullptr;
  return since_ns > now_ns ? 0 : (now_ns - since_ns) / 1'000'000;
}

std::string Table::text() const {
  std::vector<std::string> names = headings_;
  std::vector<bool> right(names.size());
  std::vector<std::size_t> widths(names.size());
  for (std::size_t i = 0; i < names.size(); ++i) {
    right[i] = names[i].starts_with('>');
    if (right[i]) names[i].erase(0, 1);
    widths[i] = width(names[i]);
    for (const auto& row : rows_) widths[i] = std::max(widths[i], width(row[i]));
  }
  std::string text;
  const auto add = [&](const std::vector<std::string>& cells) {
    std::string line;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const std::string blanks(widths[i] - width(cells[i]), ' ');
      line += (i == 0 ? "" : "  ") + (right[i] ? blanks + cells[i] : cells[i] + blanks);
    }
    line.resize(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  };
  add(names);
  for (const auto& row : rows_) add(row);
  return text;
}

}  // namespace visitd
