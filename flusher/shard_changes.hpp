// What a running flusher does when it is asked to add, remove or replace shards, and how far buckets have moved.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "common/config/settings.hpp"
#include "flusher/control.hpp"
#include "flusher/counting/engine.hpp"
#include "flusher/flusher_loop.hpp"
#include "flusher/shard_probe.hpp"

namespace visitd {

class ShardChanges {
 public:
  /// `settings`: those in use; `named`: the shards that the settings file names. All of them outlive it.
  ShardChanges(FlusherLoop& loop, Engine& engine, const Settings& settings, const std::vector<ShardSettings>& named,
               std::string writer)
      : loop_(loop), engine_(engine), settings_(settings), named_(named), writer_(std::move(writer)) {}

  /// See ControlCommand::change_shards.
  void change(const ControlRequest& request, const ControlReply& reply);
  /// How far buckets have moved.
  [[nodiscard]] ControlAnswer progress() const;

 private:
  /// A change, and the server that has to be looked at first.
  struct Wanted {
    Layout layout;
    std::optional<ShardPlace> look_at = std::nullopt;
    bool is_new = true;  ///< the server must hold nothing; else it must be this shard at another address
  };

  /// See ControlCommand::change_shards.
  [[nodiscard]] Wanted wanted(std::string_view asked) const;
  [[nodiscard]] Wanted wanted(std::string_view verb, const std::string& what) const;
  [[nodiscard]] Wanted added(const ShardPlace& place) const;
  [[nodiscard]] Wanted removed(const std::string& name) const;
  [[nodiscard]] Wanted replaced(const ShardPlace& place) const;
  [[nodiscard]] Wanted as_settings_name() const;
  /// `fresh`: what the server says that was looked at.
  void go_on(const Wanted& wanted, const std::optional<Facts>& fresh, const ControlRequest& request,
             const ControlReply& reply);
  [[nodiscard]] std::string why_no_room_for(const Wanted& wanted, const std::optional<Facts>& fresh) const;
  [[nodiscard]] std::string fault_of(const Wanted& wanted, const ShardProbe::Seen& seen) const;
  [[nodiscard]] std::string fault_of_new(const ShardPlace& place, const ShardProbe::Seen& seen) const;

  FlusherLoop& loop_;
  Engine& engine_;
  const Settings& settings_;
  const std::vector<ShardSettings>& named_;
  std::string writer_;
  std::unique_ptr<ShardProbe> probe_;
  bool probing_ = false;
};

}  // namespace visitd
