// A file that is named on the command line, or standard input, and its lines.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/os/text.hpp"

namespace visitd {

/// All of the file; "-": of standard input. Throws Error.
[[nodiscard]] std::string read_whole_input(const std::string& path);

/// Calls take(number, line) with each line that is not empty.
template <typename Take>
void each_line(std::string_view text, Take take) {
  for (std::uint64_t number = 1; !text.empty(); ++number) {
    std::string_view line = take_until(text, '\n');
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (!line.empty()) take(number, line);
  }
}

}  // namespace visitd
