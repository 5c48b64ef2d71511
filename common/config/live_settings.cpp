#include "common/config/live_settings.hpp"

#include <fmt/ranges.h>
#include <pthread.h>

#include <algorithm>
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

/// What becomes part of the shards: passwords and keys are taken at once where the servers are the same ones. Neither
/// they nor addresses are for the log.
void change_shards(Draft& now, const Settings& read, SettingsChange& change) {
  bool same_credentials = true;
  std::size_t same_servers = 0;
  for (ShardSettings& shard : now.redis.shards) {
    const auto next =
        std::ranges::find_if(read.redis.shards, [&](const auto& one) { return shard.is_same_server(one); });
    if (next == read.redis.shards.end()) continue;
    ++same_servers;
    same_credentials = same_credentials && shard.has_same_credentials(*next);
    shard = *next;
  }
  if (!same_credentials) change.taken.emplace_back("passwords or certificates of redis.shards");
  if (same_servers == now.redis.shards.size() && same_servers == read.redis.shards.size()) return;
  const Key& key = setting::key_named("redis", now.redis.mode == RedisMode::cluster ? "nodes" : "shards");
  change.later.push_back({setting::full_name(key), "", "", std::string(setting::programs_text(key.change.by))});
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
  if (now.owner.key != read.owner.key) {
    now.owner.key = read.owner.key;
    change.taken.emplace_back("the owner's key");
  }
  change_shards(now, read, change);
  change.settings = std::move(static_cast<Settings&>(now));
  return change;
}

std::string LiveSettings::visitctl() const {
  if (!path_.empty()) return "visitctl --config " + shell_word(std::filesystem::absolute(path_).string());
  if (settings_.paths.runtime_directory == Settings().paths.runtime_directory) return "visitctl";
  return fmt::format("VISITD_PATHS_RUNTIME_DIRECTORY={} visitctl", shell_word(settings_.paths.runtime_directory));
}

void LiveSettings::use_shards(ShardsInUse shards) {
  shards_in_use_ = std::move(shards);
  apply_shards();
}

void LiveSettings::apply_shards() {
  if (!shards_in_use_) return;
  settings_.redis.shards = shards_in_use_(named());
}

bool LiveSettings::read_again() try {
  Settings in_use = settings_;
  in_use.redis.shards = named_shards_;
  const Settings read = load_settings(path_, secrets_);
  SettingsChange change = change_settings(in_use, read);
  if (!read.redis.added_shard.has_same_credentials(in_use.redis.added_shard) && shards_in_use_) {
    change.taken.emplace_back("password or certificates of shards that redis.shards does not name");
  }
  settings_ = std::move(change.settings);
  settings_.redis.added_shard = read.redis.added_shard;
  named_shards_ = settings_.redis.shards;
  apply_shards();
  log::set_debug(settings_.log.debug);
  for (const SettingsChange::Later& later : change.later) {
    if (later.in_use.empty()) {
      log::warning("{} changed in the settings, which names other servers: counts after a restart of {}", later.key,
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
