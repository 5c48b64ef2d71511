// How the values of settings are written, and their rows in words.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/config/setting_rows.hpp"

namespace visitd::setting {

/// A key's value as TOML writes it, and in words what it may be.
[[nodiscard]] std::string literal(const Draft& draft, const Key& key);
[[nodiscard]] std::string allowed(const Key& key);

/// A TOML string.
[[nodiscard]] std::string in_quotes(std::string_view text);
/// A number of bytes in the largest of GiB, MiB, KiB that divides it, else digits alone; and read, also with B.
[[nodiscard]] std::string bytes_text(std::uint64_t bytes);
[[nodiscard]] std::optional<std::uint64_t> parse_bytes(std::string_view text);
/// The values of a choice among names, in order.
template <typename Choice>
inline constexpr std::array<std::string_view, 0> choice_names{};
template <>
inline constexpr std::array<std::string_view, 2> choice_names<HotRoutes>{"direct", "httplib"};
template <>
inline constexpr std::array<std::string_view, 2> choice_names<RedisMode>{"shards", "cluster"};

}  // namespace visitd::setting
