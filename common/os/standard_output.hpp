// What a program prints for its user, which counts as printed only once the operating system has taken all of it.
#pragma once

#include <string_view>

namespace visitd {

/// Writes all of `text` to the standard output. Throws std::system_error where it is not taken: a full disk, a closed
/// pipe.
void write_output(std::string_view text);

}  // namespace visitd
