#include "common/os/standard_output.hpp"

#include <cstdio>

#include "common/os/errors.hpp"

namespace visitd {

void write_output(std::string_view text) {
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  if (!written || std::fflush(stdout) != 0) throw system_error("the standard output does not take what is printed");
}

}  // namespace visitd
