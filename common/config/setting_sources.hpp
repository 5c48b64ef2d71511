// The first pass of reading the settings: what file and environment give, in order, as it stands there. The names of
// keys are checked here, their values are not.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "common/config/setting_rows.hpp"

namespace visitd::setting {

/// A value as a file or the environment gives it, and as an error shows it. monostate: of a type that no key has.
struct Input {
  std::variant<std::monostate, std::int64_t, bool, std::string, std::vector<std::string>> value;
  std::string shown;
};

enum class Source : std::uint8_t { built_in, file, environment };

/// What gave a value; `where` is for people, and empty for a default.
struct Origin {
  Source source = Source::built_in;
  std::string where{};
};

/// One key that a source sets.
struct Given {
  const Key* key;
  Input input;
  Origin origin;
};

/// One [[redis.shard]], or one entry of redis.shards.
struct ShardTable {
  std::string where{};
  std::string name{};
  std::string url{};
  std::string password{};
  std::string password_file{};
  std::string tls_ca_file{};
  std::string tls_certificate_file{};
  std::string tls_key_file{};
  std::string tls_server_name{};
};

struct Sources {
  std::vector<Given> given;  ///< the later wins
  std::vector<ShardTable> shard_tables;

  /// What gave the value of a key that counts.
  [[nodiscard]] Origin origin(std::string_view section, std::string_view name) const;
};

/// Adds what the settings file gives. Throws Error with file and line.
void read_settings_file(const std::string& path, Sources& sources);

/// Adds what the environment gives. Throws Error that names the variable.
void read_environment(OriginalNames originals, Sources& sources);

}  // namespace visitd::setting
