// Commands in messages, as a shell takes them when they are pasted.
#pragma once

#include <string>
#include <string_view>

namespace visitd {

/// The text as one word of a shell: as it is, or in single quotes where a shell would read something else.
[[nodiscard]] inline std::string shell_word(std::string_view text) {
  constexpr std::string_view plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./-@:+=,%";
  if (!text.empty() && text.find_first_not_of(plain) == text.npos) return std::string(text);
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

}  // namespace visitd
