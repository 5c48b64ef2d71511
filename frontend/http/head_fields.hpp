// Header fields on which few answers depend. Whoever makes such an answer looks for them in the head's lines, so that
// no other request pays for them.
#pragma once

#include <algorithm>
#include <optional>
#include <string_view>

#include "common/os/text.hpp"

namespace visitd {

/// What stands behind the colon of a head's line whose field is called `lower`, which holds no capital letters.
/// nullopt: the line is another field's.
[[nodiscard]] inline std::optional<std::string_view> value_in_line(std::string_view line,
                                                                   std::string_view lower) noexcept {
  const std::size_t colon = std::min(line.find(':'), line.size());
  if (!is_same_word(line.substr(0, colon), lower)) return std::nullopt;
  return line.substr(std::min(colon + 1, line.size()));
}

/// The value of the first field that is called `lower`, which holds no capital letters, without the white space around
/// it. `fields`: those of a vetted head (RequestHead::fields). nullopt: there is none.
[[nodiscard]] inline std::optional<std::string_view> find_field(std::string_view fields,
                                                                std::string_view lower) noexcept {
  while (!fields.empty()) {
    const std::string_view line = fields.substr(0, fields.find('\n'));
    fields.remove_prefix(std::min(line.size() + 1, fields.size()));
    if (const auto value = value_in_line(line, lower)) return trim(*value);
  }
  return std::nullopt;
}

}  // namespace visitd
