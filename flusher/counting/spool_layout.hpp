// What decides where a page's count lies: the spool notes it at its first use, and is used with no other.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace visitd {

struct SpoolLayout {
  std::uint32_t buckets = 0;
  std::uint32_t virtual_nodes = 0;
  std::vector<std::string> shards;  ///< names, sorted
  friend bool operator==(const SpoolLayout&, const SpoolLayout&) = default;
};

/// One line a part, as the spool notes it.
[[nodiscard]] std::string to_text(const SpoolLayout& layout);
/// Parses what to_text wrote. False: the text is something else, and `layout` is not changed.
[[nodiscard]] bool parse_layout(std::string_view text, SpoolLayout& layout);

/// What is wrong with `wanted` where the spool was made with `noted`, and what to do; empty: nothing.
[[nodiscard]] std::string layout_fault(const SpoolLayout& noted, const SpoolLayout& wanted);

}  // namespace visitd
