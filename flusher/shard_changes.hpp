// What a running flusher does when it is asked to add, remove or replace shards, or to go into a cluster or
// out of one; and how far buckets have moved.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/config/live_settings.hpp"
#include "flusher/control.hpp"
#include "flusher/counting/engine.hpp"
#include "flusher/flusher_loop.hpp"
#include "flusher/servers_probe.hpp"

namespace visitd {

class ShardChanges {
 public:
  /// `live`: of this flusher. All of them outlive it.
  ShardChanges(FlusherLoop& loop, Engine& engine, const LiveSettings& live, std::string writer)
      : loop_(loop), engine_(engine), live_(live), settings_(live.get()), writer_(std::move(writer)) {}

  /// See ControlCommand::change_shards.
  void change(const ControlRequest& request, const ControlReply& reply);
  /// How far buckets have moved.
  [[nodiscard]] ControlAnswer progress() const;

 private:
  /// A change, and the servers that have to be looked at first.
  struct Wanted {
    Layout layout;
    std::vector<ShardPlace> look_at = {};  ///< shards, or one cluster
    bool is_new = true;                    ///< they must hold nothing; else it must be this shard at another address
  };
  /// What they say.
  struct Found {
    std::optional<ClusterMap> cluster = std::nullopt;  ///< to which buckets go
    std::map<std::string, Facts> servers = {};         ///< by name
    std::vector<LeftBucket> left = {};                 ///< where they come back to, and are not marked as gone
  };
  /// A shard of the deployment to which buckets go.
  struct Receiver {
    std::uint32_t number;  ///< among the shards of this life
    std::vector<std::uint32_t> buckets;
  };

  /// See ControlCommand::change_shards.
  [[nodiscard]] Wanted wanted(std::string_view asked) const;
  [[nodiscard]] Wanted wanted(std::string_view verb, const std::string& what) const;
  [[nodiscard]] Wanted added(const ShardPlace& place) const;
  [[nodiscard]] Wanted removed(const std::string& name) const;
  [[nodiscard]] Wanted replaced(const ShardPlace& place) const;
  [[nodiscard]] Wanted as_settings_name() const;
  [[nodiscard]] std::vector<Receiver> receivers_of(const Layout& layout) const;
  void look_at_servers(const Wanted& wanted, const ControlRequest& request, const ControlReply& reply);
  void look_at_cluster(const Wanted& wanted, const ControlRequest& request, const ControlReply& reply);
  void look_at_primaries(const Wanted& wanted, const ClusterMap& map, const ControlRequest& request,
                         const ControlReply& reply);
  void probe(const std::vector<ServersProbe::Target>& targets, ServersProbe::Done done);
  void go_on(const Wanted& wanted, const Found& found, const ControlRequest& request, const ControlReply& reply);
  void make(const Wanted& wanted, const ControlAnswer& offer, const ControlRequest& request, const ControlReply& reply);
  [[nodiscard]] std::string why_no_room_for(const Wanted& wanted, const Found& found) const;
  [[nodiscard]] std::string fault_of(const ShardPlace& place, bool is_new, const ShardProbe::Seen& seen) const;

  FlusherLoop& loop_;
  Engine& engine_;
  const LiveSettings& live_;
  const Settings& settings_;  ///< live_'s: those in use
  std::string writer_;
  std::vector<std::unique_ptr<ServersProbe>> probes_;  ///< of the last change
  bool probing_ = false;
};

}  // namespace visitd
