// What a spool holds, told in another way than recovery tells it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "common/shm/page_id.hpp"
#include "flusher/spool/spool.hpp"

namespace visitd::test {

/// The open visits of each page, by name: of rows, of the journal behind its bucket's row, and of spilled rows.
inline std::vector<Effect> open_in(const SpoolState& state, std::uint32_t buckets) {
  std::map<std::string, std::uint64_t> sums;
  const auto add = [&](std::string_view blob, std::uint64_t number) {
    for (const Effect& effect : decode_effects(blob)) {
      const std::uint32_t bucket = page_bucket(effect.series, buckets);
      const bool is_in_row = number != 0 && std::ranges::any_of(state.open, [&](const OpenRow& row) {
                               return row.bucket == bucket && row.folded >= number;
                             });
      if (!is_in_row && effect.operand != 0) sums[effect.series] += effect.operand;
    }
  };
  for (const OpenRow& row : state.open) add(row.effects, 0);
  for (const JournalRow& row : state.journal) add(row.deltas, row.number);
  if (state.each_spilled) state.each_spilled([&](std::uint32_t, std::string_view blob) { add(blob, 0); });
  std::vector<Effect> pages;
  pages.reserve(sums.size());
  for (const auto& [page, visits] : sums) pages.push_back({page, visits});
  return pages;
}

}  // namespace visitd::test
