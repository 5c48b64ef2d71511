#include "ctl/agreement.hpp"

#include <unistd.h>

#include <iostream>

namespace visitd {

bool is_at_terminal() noexcept {
  return isatty(STDIN_FILENO) == 1;
}

bool somebody_agrees(const std::string& about, const std::string& question) {
  if (!is_at_terminal()) return false;
  std::cerr << about << question << " Type yes: " << std::flush;
  std::string said;
  std::getline(std::cin, said);
  return said == "yes";
}

}  // namespace visitd
