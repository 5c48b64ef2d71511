// What other counters, and servers' logs, say of pages: text in, counts by page out. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ctl/import_sums.hpp"

namespace visitd {

enum class ImportFormat : std::uint8_t {
  csv,          ///< a page and a count a line, RFC 4180; what `visitctl export` writes
  jsonl,        ///< {"page":"…","count":N} a line; what `visitctl export` writes
  goatcounter,  ///< GoatCounter's CSV export: a view a line, of which events and bots are left out
  umami,        ///< Umami's table website_event as CSV: an event a line, of which page views are visits
  access_log,   ///< of nginx or Apache, common or combined: a request a line, of which answered GETs are visits
  original,     ///< in Redis: a string a page, named as the page
  busuanzi,     ///< in Redis: soxft/busuanzi's sorted set a site, of digests of pages
  vercount,     ///< in Redis: Vercount's string a page
};

/// The format of this name on the command line. Throws Error.
[[nodiscard]] ImportFormat import_format(std::string_view name);
[[nodiscard]] std::vector<std::string> import_format_names();
/// Whether it has what happened; else what it came to.
[[nodiscard]] bool has_events(ImportFormat format) noexcept;
/// Whether it is read from Redis servers; else from a file.
[[nodiscard]] bool is_in_redis(ImportFormat format) noexcept;

/// Sums by page of a file. `site`: the only one that counts, of a format that knows sites; empty: there may be only one
/// in the file. Throws Error where there are more.
[[nodiscard]] Imported read_import(std::string_view text, ImportFormat format, ImportNames names,
                                   const std::string& site = {});

}  // namespace visitd
