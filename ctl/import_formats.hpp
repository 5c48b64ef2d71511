// What other counters, and servers' logs, say of pages: text in, counts by page out. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "common/pages/page_rules.hpp"

namespace visitd {

enum class ImportFormat : std::uint8_t {
  csv,          ///< a page and a count a line, RFC 4180; what `visitctl export` writes
  jsonl,        ///< {"page":"…","count":N} a line; what `visitctl export` writes
  goatcounter,  ///< GoatCounter's CSV export: a view a line, of which events and bots are left out
  access_log,   ///< of nginx or Apache, common or combined: a request a line, of which answered GETs are visits
};

/// The format of this name on the command line.
[[nodiscard]] ImportFormat import_format(std::string_view name);

struct Imported {
  std::map<std::string, std::uint64_t> counts;
  std::uint64_t left_out = 0;    ///< lines that are no visits
  std::vector<std::string> bad;  ///< what cannot be read: "line N: why", of the first ones
  std::uint64_t bad_lines = 0;
};

/// Sums by page, each under the name that `rules` make of its id. `page_id_limit`: bytes of an id.
[[nodiscard]] Imported read_import(std::string_view text, ImportFormat format, std::size_t page_id_limit,
                                   PageRules rules = PageRules({}));

}  // namespace visitd
