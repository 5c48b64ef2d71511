// Reads small files at once.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace visitd {

/// The whole of a file of at most `limit` bytes. Throws Error; `what` says what the file is.
[[nodiscard]] std::string read_whole_file(const std::string& path, std::size_t limit, std::string_view what);

}  // namespace visitd
