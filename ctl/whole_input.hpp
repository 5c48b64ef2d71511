// A file that is named on the command line, or standard input.
#pragma once

#include <string>

namespace visitd {

/// All of the file; "-": of standard input. Throws Error.
[[nodiscard]] std::string read_whole_input(const std::string& path);

}  // namespace visitd
