// The way of a shard until it is up: whether the server is fit, who it is by its topology, what it holds of ours, and
// how the deployment is made on it. Afterwards, now and then, what it has become. Decides; knows no clock, loop or
// socket.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "flusher/counting/batches.hpp"
#include "flusher/counting/batches_in_flight.hpp"
#include "flusher/counting/deployment.hpp"
#include "flusher/counting/session_link.hpp"
#include "flusher/counting/shard_marks.hpp"

namespace visitd {

/// Why the server may lose counts, for people; empty: it keeps them, as far as it says. `server`: how it is called.
[[nodiscard]] std::string why_unfit(std::string_view server, const Facts& facts, bool accept_eviction,
                                    bool accept_no_append_only);

class ShardAdmission {
 public:
  /// `identity`: what the spool knows of the shard; empty: nothing. `new_identity`: for a deployment that has none yet.
  ShardAdmission(std::string identity, std::string new_identity, Deployment& deployment, Batches& batches,
                 SessionLink& link, ShardMarks& marks, BatchesInFlight& in_flight);

  /// The first question on a connection.
  void ask();
  /// While the deployment has no identity yet: asks again, once something has changed.
  void ask_when_due();
  /// While the shard is up: looks at what it has become, and ends the making of the deployment, when it is time.
  void check_when_due();
  /// Nothing of the old connection survives.
  void leave();
  /// Makes this layout the deployment's, if nobody has made another one since the shard was looked at. `done`: what
  /// visits:topology says afterwards; nullopt: nobody knows.
  using Changed = std::function<void(const std::optional<TopologyText>&)>;
  void change_layout(const std::string& layout, std::uint64_t version, Changed done);
  /// The settings have another layout since now: the shard is told.
  void take_layout();
  /// A marker on the shard names a later layout: asks the shard for it. If the shard knows of none, this connects anew;
  /// `why`, for people.
  void expect_later_layout(std::string why);
  /// Whether the shard is up, and has said that it has the layout.
  [[nodiscard]] bool knows_layout() const noexcept { return knows_layout_; }
  /// What visits:topology holds on this shard is known.
  [[nodiscard]] bool holds_topology() const noexcept { return !topology_.empty() && !topology_elsewhere_; }
  /// What the server last said of itself; nullopt: it was never asked.
  [[nodiscard]] const std::optional<Facts>& server() const noexcept { return server_; }

 private:
  void on_facts(const Facts& facts);
  void on_check(ShardAnswer answer);
  [[nodiscard]] bool hold_if_unfit(const Facts& facts);
  void note_role(const Facts& facts);
  void note_server(const Facts& facts);
  void on_topology(const std::string& text);
  void on_no_topology();
  void on_topology_elsewhere();
  void tell_layout();
  /// What visits:topology on a server that is in use has become.
  void follow_topology(const std::string& text);
  [[nodiscard]] std::string why_topology_is_missed() const;
  /// The shard says another layout. True: nothing more is to be done with it now.
  [[nodiscard]] bool follow_layout(const TopologyText& topology);
  void on_former(const TopologyText& topology);
  void on_deployment(const TopologyText& topology);
  void wait_for_identity();
  [[nodiscard]] MakeTopology topology_of(const std::string& identity, bool made) const;
  void make_topology(const std::string& identity);
  void finish_making();
  void ask_marks();
  void on_marks_known();
  void go_on();
  void come_up();
  void note_identity();
  [[nodiscard]] bool hold_if_of_other_mode(const Facts& facts);

  std::string identity_;
  std::string new_identity_;
  Deployment& deployment_;
  Batches& batches_;
  SessionLink& link_;
  ShardMarks& marks_;
  BatchesInFlight& in_flight_;
  std::optional<Facts> server_;
  bool warned_ = false;  ///< that the server does not say how it is set up

  // of the current connection
  std::string topology_;             ///< as it stands on the shard
  bool topology_elsewhere_ = false;  ///< on another node of the cluster
  bool stamp_ = false;               ///< buckets may lack the identity
  bool made_ = false;                ///< the topology says that every bucket has it
  bool making_ended_ = false;
  bool knows_layout_ = false;
  std::string later_expected_;  ///< empty: no later layout is expected; else why this connects again if there is none
  std::uint64_t changes_seen_ = 0;  ///< of the deployment
  std::uint64_t check_at_ms_ = 0;
  bool checking_ = false;
};

}  // namespace visitd
