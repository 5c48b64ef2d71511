// Request targets: their form, their path, and the page id in it. Pure.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string_view>

namespace visitd {

struct TargetParts {
  std::string_view path;   ///< percent-encoded; "/" for an absolute form that names none, "*" for the asterisk form
  std::string_view query;  ///< what follows the question mark
};

/// nullopt: neither origin-form, nor absolute-form over http or https, nor "*".
[[nodiscard]] std::optional<TargetParts> parts_of_target(std::string_view target) noexcept;

/// Whether this is a host with an optional port, as in a Host field: no user information, no spaces, a port of digits.
[[nodiscard]] bool is_host(std::string_view text) noexcept;

/// Whether a form-urlencoded query names this parameter, as it stands: "a=1&name" and "name=" do.
[[nodiscard]] bool names_parameter(std::string_view query, std::string_view name) noexcept;

/// Percent-decodes a part of a path, once: "%2F" becomes a slash, and a slash stays one. The result is `encoded` itself
/// where nothing is encoded, else lies in `buffer`, which must be at least as large. nullopt: an escape that is not two
/// hex digits.
[[nodiscard]] std::optional<std::string_view> decode_path(std::string_view encoded, std::span<char> buffer) noexcept;

/// The same for a name or value of a form-urlencoded query, where "+" stands for a space.
[[nodiscard]] std::optional<std::string_view> decode_form(std::string_view text, std::span<char> buffer) noexcept;

}  // namespace visitd
