// The scripts that pages of other sites load, as they stand in this folder, built into the programs by embed_files.py.
// Sites have the hashes of a version in their pages: a change is a file with the next number beside it.
#pragma once

#include <string_view>

namespace visitd {

/// The version that the scripts here have.
inline constexpr std::string_view page_script_version = "1";

/// count.1.js: counts visits of the page that it is in.
[[nodiscard]] std::string_view count_script() noexcept;
/// Its hash, as the attribute `integrity` has it.
[[nodiscard]] std::string_view count_script_integrity() noexcept;
/// show.1.js: what count.1.js loads in a page that shows counts.
[[nodiscard]] std::string_view show_script() noexcept;
[[nodiscard]] std::string_view show_script_integrity() noexcept;

}  // namespace visitd
