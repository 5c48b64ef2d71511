// The scripts that pages of other sites load, as they stand in this folder, built into the programs by embed_files.py.
// Sites have the hashes of a version in their pages: a change is a file with the next number beside it.
#pragma once

#include <string>
#include <string_view>

namespace visitd {

/// Where this version of the script is served for good if its current one is served at this path: /count.js, then
/// /count.1.js.
[[nodiscard]] inline std::string script_version_path(std::string_view current) {
  constexpr std::string_view ending = ".js";
  return std::string(current.substr(0, current.size() - ending.size())) + ".1.js";
}

/// count.1.js: counts visits of the page that it is in.
[[nodiscard]] std::string_view count_script() noexcept;
/// Its hash, as the attribute `integrity` has it.
[[nodiscard]] std::string_view count_script_integrity() noexcept;
/// show.1.js: what count.1.js loads in a page that shows counts.
[[nodiscard]] std::string_view show_script() noexcept;
[[nodiscard]] std::string_view show_script_integrity() noexcept;

}  // namespace visitd
