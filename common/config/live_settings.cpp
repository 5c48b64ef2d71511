#include "common/config/live_settings.hpp"

#include <fmt/ranges.h>
#include <pthread.h>

#include <csignal>
#include <exception>
#include <filesystem>

#include "common/config/setting_rows.hpp"
#include "common/config/setting_text.hpp"
#include "common/os/log.hpp"
#include "common/os/shell_word.hpp"

namespace visitd {

namespace {

using setting::Change;
using setting::Draft;
using setting::Key;

void set_signal(int how) noexcept {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGHUP);
  pthread_sigmask(how, &signals, nullptr);
}

}  // namespace

SettingsChange change_settings(const Settings& in_use, const Settings& read) {
  Draft now(in_use);
  const Draft next(read);
  SettingsChange change;
  for (const Key& key : setting::setting_rows()) {
    if (key.part_of_shard) continue;
    std::visit(
        [&](auto place) {
          if (place.of(now) == place.of(next)) return;
          if (key.change.how == Change::reload) {
            place.in(now) = place.of(next);
            change.taken.push_back(setting::full_name(key));
          } else {
            change.later.push_back({setting::full_name(key), setting::literal(now, key), setting::literal(next, key),
                                    std::string(setting::programs_text(key.change.by))});
          }
        },
        key.place);
  }
  // What becomes part of the shards: addresses and passwords, which are not for the log.
  if (in_use.redis.shards != read.redis.shards) {
    const Key& key = setting::key_named("redis", in_use.redis.mode == RedisMode::cluster ? "nodes" : "shards");
    change.later.push_back({setting::full_name(key), "", "", std::string(setting::programs_text(key.change.by))});
  }
  change.settings = std::move(static_cast<Settings&>(now));
  return change;
}

std::string LiveSettings::visitctl() const {
  if (!path_.empty()) return "visitctl --config " + shell_word(std::filesystem::absolute(path_).string());
  if (settings_.paths.runtime_directory == Settings().paths.runtime_directory) return "visitctl";
  return fmt::format("VISITD_PATHS_RUNTIME_DIRECTORY={} visitctl", shell_word(settings_.paths.runtime_directory));
}

void LiveSettings::use_shards(std::vector<ShardSettings> shards) {
  settings_.redis.shards = std::move(shards);
}

bool LiveSettings::read_again() try {
  Settings in_use = settings_;
  in_use.redis.shards = named_shards_;
  SettingsChange change = change_settings(in_use, load_settings(path_, secrets_));
  change.settings.redis.shards = settings_.redis.shards;
  settings_ = std::move(change.settings);
  log::set_debug(settings_.log.debug);
  for (const SettingsChange::Later& later : change.later) {
    if (later.in_use.empty()) {
      log::warning("{} changed in the settings, addresses or passwords: counts after a restart of {}", later.key,
                   later.restart);
    } else {
      log::warning("{} changed in the settings, from {} to {}: counts after a restart of {}", later.key, later.in_use,
                   later.read, later.restart);
    }
  }
  if (change.taken.empty()) {
    log::info("read the settings again: nothing changes at once");
  } else {
    log::info("read the settings again: {} changed", fmt::join(change.taken, ", "));
  }
  return !change.taken.empty();
} catch (const std::exception& fault) {
  log::error("the settings were not read again, those in use stay: {}", fault.what());
  return false;
}

void hold_reload_signal() noexcept {
  set_signal(SIG_BLOCK);
}

void release_reload_signal() noexcept {
  set_signal(SIG_UNBLOCK);
}

}  // namespace visitd
