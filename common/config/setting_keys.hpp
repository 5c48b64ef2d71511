// The table of settings: what parsing, bounds, reloading, help and documentation know about each key. For settings.cpp
// and live_settings.cpp alone.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/config/settings.hpp"

namespace visitd::setting {

inline constexpr std::uint64_t kib = 1024;
inline constexpr std::uint64_t mib = 1024 * kib;
inline constexpr std::uint64_t gib = 1024 * mib;

/// The keys of [redis] that become part of each shard.
struct ForShards {
  std::vector<std::string> addresses = {"redis://127.0.0.1:7070", "redis://127.0.0.1:7071"};
  std::string password;
  std::string password_file;
  std::uint32_t database = 0;
};

/// The settings while they are read.
struct Draft : Settings {
  ForShards for_shards;
};

/// Where the value of a key is: to be changed, and to be read.
template <typename Type>
struct Place {
  using Value = Type;
  Value& (*in)(Draft&);
  const Value& (*of)(const Draft&);
};

using AnyPlace = std::variant<Place<std::uint32_t>, Place<std::uint64_t>, Place<bool>, Place<HotRoutes>,
                              Place<std::string>, Place<std::vector<std::string>>>;

/// Whether one text, or one entry of a list, has the form that its key wants.
using Form = bool (*)(std::string_view);

/// What a changed value takes to count: a reload alone, or a restart of who uses it.
enum class Takes : std::uint8_t { nothing, frontends, flusher, all };

/// One row of the table of keys: all that parsing, bounds, help and documentation know about a key.
struct Key {
  std::string_view section;
  std::string_view name;
  AnyPlace place;
  std::string_view unit{};
  std::uint64_t least = 0;  ///< of a number; of a text its bytes, of a list its entries
  std::uint64_t most = 0;
  bool power_of_two = false;
  Takes takes = Takes::nothing;
  Form form = nullptr;          ///< of a text, or of each entry of a list
  std::string_view allowed{};   ///< `form` in words
  bool secret = false;          ///< its value is shown nowhere
  bool part_of_shard = false;   ///< ends in the shards, not in a member of its own
  std::string_view original{};  ///< the original service's environment variable
  std::string_view help;
};

/// The table, section by section.
[[nodiscard]] std::span<const Key> setting_keys() noexcept;

/// The row of a key that exists.
[[nodiscard]] const Key& key_named(std::string_view section, std::string_view name);

/// The sections in the order of the table, and the keys of one.
[[nodiscard]] std::vector<std::string_view> section_names();
[[nodiscard]] std::vector<std::string_view> key_names(std::string_view section);

/// SECTION.KEY, and VISITD_SECTION_KEY.
[[nodiscard]] std::string full_name(const Key& key);
[[nodiscard]] std::string environment_name(const Key& key);

/// Who is to be restarted, in words: "the frontends".
[[nodiscard]] std::string_view restart_text(Takes takes) noexcept;

/// A key's value as TOML writes it, and in words what it may be.
[[nodiscard]] std::string literal(const Draft& draft, const Key& key);
[[nodiscard]] std::string allowed(const Key& key);

/// A TOML string.
[[nodiscard]] std::string in_quotes(std::string_view text);
/// A number of bytes in the largest of GiB, MiB, KiB that divides it, else digits alone; and read, also with B.
[[nodiscard]] std::string bytes_text(std::uint64_t bytes);
[[nodiscard]] std::optional<std::uint64_t> parse_bytes(std::string_view text);
[[nodiscard]] std::string_view to_text(HotRoutes routes) noexcept;
[[nodiscard]] bool is_utf8(std::string_view text) noexcept;
/// Whether a text can be a password: Redis takes any, C strings end at a NUL.
[[nodiscard]] bool is_password(std::string_view text) noexcept;

}  // namespace visitd::setting
