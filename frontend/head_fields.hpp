// Header fields that few answers depend on: looked for in the head's lines where such an answer is made, so that no
// other request pays for them.
#pragma once

#include <algorithm>
#include <optional>
#include <string_view>

#include "frontend/same_word.hpp"

namespace visitd {

/// The value of the first field that is called `lower`, which holds no capital letters, without the white space around
/// it. `fields`: those of a vetted head (RequestHead::fields). nullopt: there is none.
[[nodiscard]] inline std::optional<std::string_view> find_field(std::string_view fields,
                                                                std::string_view lower) noexcept {
  constexpr std::string_view blank = " \t\r\n";
  while (!fields.empty()) {
    const std::string_view line = fields.substr(0, fields.find('\n'));
    fields.remove_prefix(std::min(line.size() + 1, fields.size()));
    const std::size_t colon = std::min(line.find(':'), line.size());
    if (!is_same_word(line.substr(0, colon), lower)) continue;
    std::string_view value = line.substr(std::min(colon + 1, line.size()));
    value.remove_prefix(std::min(value.find_first_not_of(blank), value.size()));
    return value.substr(0, value.find_last_not_of(blank) + 1);
  }
  return std::nullopt;
}

}  // namespace visitd
