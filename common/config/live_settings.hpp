// The settings of a running program, which SIGHUP lets it read again. What cannot change while it runs stays as it is,
// and the log says what it takes.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "common/config/settings.hpp"

namespace visitd {

/// What reading the settings again comes to.
struct SettingsChange {
  struct Later {
    std::string key;      ///< SECTION.KEY
    std::string in_use;   ///< as TOML writes it; empty: it is not shown
    std::string read;     ///< the same
    std::string restart;  ///< who is to be restarted, in words
  };
  Settings settings;               ///< in use from now on
  std::vector<std::string> taken;  ///< SECTION.KEY of what changes at once
  std::vector<Later> later;        ///< what differs and stays
};

/// `in_use`: the settings that count; `read`: those that the file has now, read with the same Secrets.
[[nodiscard]] SettingsChange change_settings(const Settings& in_use, const Settings& read);

class LiveSettings {
 public:
  /// Reads them as load_settings does, and again from the same file. Throws Error.
  LiveSettings(std::string path, Secrets secrets)
      : path_(std::move(path)),
        secrets_(secrets),
        settings_(load_settings(path_, secrets)),
        named_shards_(settings_.redis.shards) {}
  LiveSettings(const LiveSettings&) = delete;
  LiveSettings& operator=(const LiveSettings&) = delete;

  /// The same object for ever; its values change within read_again() alone.
  [[nodiscard]] const Settings& get() const noexcept { return settings_; }

  /// The shards that are in use instead of those that the settings name, as the deployment says it: now, and whenever
  /// the settings are read again.
  using ShardsInUse = std::function<std::vector<ShardSettings>(const RedisSettings& named)>;
  void use_shards(ShardsInUse shards);
  /// Those that the settings name.
  [[nodiscard]] const std::vector<ShardSettings>& named_shards() const noexcept { return named_shards_; }
  /// What they say of Redis, with those shards.
  [[nodiscard]] RedisSettings named() const {
    RedisSettings redis = settings_.redis;
    redis.shards = named_shards_;
    return redis;
  }

  /// The beginning of a visitctl command for this instance, as a shell takes it: with the settings file, or the
  /// environment, that names it.
  [[nodiscard]] std::string visitctl() const;

  /// Reads the file again, sets what may change, and says in the log what came of it. A file that is not right changes
  /// nothing. True: something changed.
  bool read_again();

 private:
  void apply_shards();

  std::string path_;
  Secrets secrets_;
  Settings settings_;
  std::vector<ShardSettings> named_shards_;
  ShardsInUse shards_in_use_;
};

/// Holds SIGHUP back in this thread and in those that it starts: it waits until release_reload_signal().
void hold_reload_signal() noexcept;
void release_reload_signal() noexcept;

}  // namespace visitd
