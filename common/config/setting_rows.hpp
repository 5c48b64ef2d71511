// The table of settings, a row a key: where its value is, what it may be, who applies a change and how, and what it is
// for. Reading, bounds, reloading, --help-settings and documentation are made from the rows; the defaults are those of
// a Draft that is made. For the files of this room alone.
#pragma once

#include <cstdint>
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
  std::vector<std::string> nodes;
  std::string password;
  std::string password_file;
  std::uint32_t database = 0;
  std::string tls_ca_file;
  std::string tls_certificate_file;
  std::string tls_key_file;
  std::string tls_server_name;
  std::string sentinel_username;
  std::string sentinel_password_file;
};

/// The settings while they are read.
struct Draft : Settings {
  Draft() = default;
  explicit Draft(const Settings& settings) : Settings(settings) {}

  ForShards for_shards;
  std::vector<std::string> shard_places;  ///< where each of redis.shards was named
};

/// Where the value of a key is: to be changed, and to be read.
template <typename Type>
struct Place {
  using Value = Type;
  Value& (*in)(Draft&);
  const Value& (*of)(const Draft&);
};

using AnyPlace = std::variant<Place<std::uint32_t>, Place<std::uint64_t>, Place<bool>, Place<HotRoutes>,
                              Place<RedisMode>, Place<std::string>, Place<std::vector<std::string>>>;

/// Whether one text, or one entry of a list, has the form that its key wants.
using Form = bool (*)(std::string_view);

enum class Programs : std::uint8_t { frontends, flusher, all };

/// Who applies a changed value, and how: `reload()` of the process, which hands it to the use() of its parts, or the
/// next start.
struct Change {
  enum How : std::uint8_t { reload, restart };
  Programs by;
  How how;
};

/// One row of the table.
struct Key {
  std::string_view section;
  std::string_view name;  ///< ends with the unit, where the value has one: _ms, _s, _bytes
  AnyPlace place;
  std::uint64_t least = 0;  ///< of a number; of a text its bytes, of a list its entries
  std::uint64_t most = 0;
  bool power_of_two = false;
  Form form = nullptr;         ///< of a text, or of each entry of a list
  std::string_view allowed{};  ///< `form` in words
  bool secret = false;         ///< its value is shown nowhere
  bool part_of_shard = false;  ///< ends in the shards, not in a member of its own
  Change change;
  std::string_view original{};  ///< the original service's environment variable
  std::string_view help;

  /// Whether the value may be written with a unit, such as "32MiB".
  [[nodiscard]] constexpr bool is_bytes() const noexcept { return name.ends_with("_bytes"); }
};

/// The table, section by section.
[[nodiscard]] std::span<const Key> setting_rows() noexcept;

/// The row of a key that exists.
[[nodiscard]] const Key& key_named(std::string_view section, std::string_view name);

/// The sections in the order of the table, and the keys of one.
[[nodiscard]] std::vector<std::string_view> section_names();
[[nodiscard]] std::vector<std::string_view> key_names(std::string_view section);

/// SECTION.KEY, and VISITD_SECTION_KEY.
[[nodiscard]] std::string full_name(const Key& key);
[[nodiscard]] std::string environment_name(const Key& key);

/// In words: "the frontends".
[[nodiscard]] std::string_view programs_text(Programs programs) noexcept;

}  // namespace visitd::setting
