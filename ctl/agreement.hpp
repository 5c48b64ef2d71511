// Somebody at a terminal is asked before something is given up.
#pragma once

#include <string>

namespace visitd {

/// Whether somebody could be asked.
[[nodiscard]] bool is_at_terminal() noexcept;

/// Shows `about`, asks the question, and says whether the answer is yes; false too where nobody could be asked.
[[nodiscard]] bool somebody_agrees(const std::string& about, const std::string& question);

}  // namespace visitd
