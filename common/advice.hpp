// What to do about a system call that failed on a file or a segment: the part of an error message after what failed.
#pragma once

#include <string>

namespace visitd {

/// For errno's value `number` on `path` (or on what it would stand in, where it does not exist): who owns it and who
/// this process is, where there is room to be made, what is to be made writable. Leaves errno as it is.
[[nodiscard]] std::string advice_for_path(int number, const std::string& path);

/// For a segment that this process may not use: whose it is, who this process is, and what to do. Leaves errno as it
/// is.
[[nodiscard]] std::string advice_for_segment(int id);

}  // namespace visitd
