// What a request of another counter's client says: its parameters, the page that sends it, the name of a callback.
// Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/pages/site_page.hpp"

namespace visitd {

/// The longest name of a JSONP callback, in bytes.
inline constexpr std::size_t callback_limit_bytes = 64;

/// The value of the first parameter of this name in a form-urlencoded query, decoded; nullopt: there is none, or its
/// value is badly encoded.
[[nodiscard]] std::optional<std::string> parameter_of(std::string_view query, std::string_view name);

/// nullopt: the text is no whole number of 64 bits. A minus may stand before it.
[[nodiscard]] std::optional<std::int64_t> whole_number(std::string_view text) noexcept;

/// Whether a script may be told to call this: identifiers of ASCII with dots between them, at most
/// callback_limit_bytes.
[[nodiscard]] bool is_callback(std::string_view name) noexcept;

/// The page of an address over http or https, as imports name it; nullopt: it is no such address, or its host is none.
[[nodiscard]] std::optional<SitePage> web_page_of(std::string_view url);

/// The digits of a count in groups of three, with GoatCounter's usual separator between them: a narrow space.
[[nodiscard]] std::string grouped(std::uint64_t count);

}  // namespace visitd
