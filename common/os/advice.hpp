// The facts behind a system call that failed on a file or a segment: the part of an error message after what failed.
// What is right to do depends on what was meant, which no program can see: docs/operate.md says it for each.
#pragma once

#include <string>

namespace visitd {

/// For errno's value `number` on `path` (or on what it would stand in, where it does not exist): who owns it and who
/// this process is, what has no room, what is read-only, what does not exist. Leaves errno as it is.
[[nodiscard]] std::string advice_for_path(int number, const std::string& path);

/// For a segment that this process may not use: names the segment's owner and this process's user. Leaves errno as it
/// is.
[[nodiscard]] std::string advice_for_segment(int id);

}  // namespace visitd
