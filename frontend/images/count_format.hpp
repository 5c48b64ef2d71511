// A count as readers of a language write it. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace visitd {

/// How a language writes numbers.
struct NumberFormat {
  std::string_view group{};      ///< between groups of digits; empty: none
  std::string_view point = ".";  ///< before a fraction
  unsigned least_groups = 1;     ///< how many digits must stand before the first separator, if there is one
  bool by_two = false;           ///< beyond the thousands groups have two digits
};

/// The format of a language ("de", "pt-PT", in any case; of a region that is not known, that of its language).
/// nullopt: the language is not known. From the Unicode CLDR; a test compares each with a browser's.
[[nodiscard]] std::optional<NumberFormat> number_format(std::string_view language) noexcept;

/// Appends a count. `abbreviate`: at most three digits and k, M, G, T, P or E for thousands, cut off and not rounded,
/// so that it never shows more visits than there were.
void append_count(std::uint64_t count, const NumberFormat& format, bool abbreviate, std::string& out);

}  // namespace visitd
