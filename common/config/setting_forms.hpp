// The forms that texts among the settings must have. An empty text has a form only where its name says so.
#pragma once

#include <string_view>

namespace visitd::setting {

[[nodiscard]] bool is_absolute_path(std::string_view text);
[[nodiscard]] bool is_absolute_path_or_empty(std::string_view text);
[[nodiscard]] bool is_host_name_or_empty(std::string_view text);
/// Empty, or a path of unreserved characters below which no page id can be mistaken.
[[nodiscard]] bool is_api_prefix(std::string_view text);
/// HOST:PORT, [IPV6]:PORT or unix:/PATH.
[[nodiscard]] bool is_listen_address(std::string_view text);
/// ADDRESS or ADDRESS/BITS.
[[nodiscard]] bool is_network(std::string_view text);
/// SCHEME://HOST[:PORT] as browsers write it, or "*".
[[nodiscard]] bool is_origin(std::string_view text);
/// The same without "*".
[[nodiscard]] bool is_one_origin(std::string_view text);
[[nodiscard]] bool is_not_empty(std::string_view text);
/// Of page ids: not longer than these can be, UTF-8.
[[nodiscard]] bool is_pattern(std::string_view text);
/// Of names of pages.
[[nodiscard]] bool is_page_rule(std::string_view text);
/// /NAME.js
[[nodiscard]] bool is_script_path(std::string_view text);
/// Empty, or /NAME/ that is no route's.
[[nodiscard]] bool is_visit_path(std::string_view text);
[[nodiscard]] bool is_shape(std::string_view text);
/// 1 to 256 bytes that a User-Agent may hold.
[[nodiscard]] bool is_agent_part(std::string_view text);
/// Whether a text can be a password: Redis takes any, C strings end at a NUL.
[[nodiscard]] bool is_password(std::string_view text) noexcept;
[[nodiscard]] bool is_utf8(std::string_view text) noexcept;

}  // namespace visitd::setting
