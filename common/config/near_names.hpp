// What somebody may have meant by a name that is unknown: of a setting, a variable, a command.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace visitd {

/// How many bytes have to be added, taken out or replaced to make `b` of `a`.
[[nodiscard]] std::size_t edit_distance(std::string_view a, std::string_view b);

/// "; did you mean 'X'?", or "." where no candidate is near.
[[nodiscard]] std::string did_you_mean(std::string_view name, std::span<const std::string_view> candidates);

}  // namespace visitd
