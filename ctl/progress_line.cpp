#include "ctl/progress_line.hpp"

#include <unistd.h>

#include <iostream>
#include <utility>

namespace visitd {

ProgressLine::ProgressLine() noexcept : is_at_terminal_(isatty(STDERR_FILENO) == 1) {}

void ProgressLine::show(std::string_view text) {
  if (!is_at_terminal_) return;
  std::cerr << "\r\x1b[K" << text << std::flush;
  shown_ = true;
}

void ProgressLine::keep() {
  if (std::exchange(shown_, false)) std::cerr << "\n";
}

void ProgressLine::clear() {
  if (std::exchange(shown_, false)) std::cerr << "\r\x1b[K" << std::flush;
}

}  // namespace visitd
