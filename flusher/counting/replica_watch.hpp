// Whether the replicas of one shard, and the disks, have what it answered: asked a while after batches were answered,
// one question at a time, which covers all of them. Until they have it, kept batches stay kept. Nothing waits for the
// answer: neither batches nor reads, for the question goes over a connection of its own. Decides; knows no clock, loop
// or socket.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "flusher/counting/batches.hpp"
#include "flusher/counting/batches_in_flight.hpp"
#include "flusher/counting/placement.hpp"
#include "flusher/counting/session_link.hpp"

namespace visitd {

class ReplicaWatch {
 public:
  /// For people.
  struct Report {
    std::uint32_t wanted = 0;
    std::optional<std::uint32_t> have = std::nullopt;  ///< replicas, as last answered; nullopt: not known
    std::uint64_t behind_ms = 0;  ///< how long the oldest batch waits that they do not have; 0: they have all
  };

  ReplicaWatch(ShardBuckets buckets, Batches& batches, SessionLink& link, const BatchesInFlight& in_flight);

  /// The settings may be others.
  void use();
  /// While the shard is up: asks, when it is time. `server`: what it last said of itself.
  void tick(const std::optional<Facts>& server);
  /// What the shard has said holds no more: another connection, or another bucket on it.
  void begin_anew();
  /// nullopt: nobody wants to know.
  [[nodiscard]] std::optional<Report> report() const;

 private:
  [[nodiscard]] bool is_wanted() const noexcept;
  [[nodiscard]] bool wants_disk() const noexcept { return link_.settings().wait_aof && !no_disk_; }
  void follow_refusals();
  void ask(const std::string& run_id);
  void on_answer(const ShardAnswer& answer);
  void on_refused(const std::string& error);
  void note_behind(const std::string& what);
  void note_dropped();
  void warn(const std::string& what);

  ShardBuckets buckets_;
  std::uint32_t shard_;
  Batches& batches_;
  SessionLink& link_;
  const BatchesInFlight& in_flight_;
  std::pair<std::uint32_t, bool> wanted_{0, false};  ///< replicas, disks
  std::uint64_t ask_at_ms_ = 0;
  std::uint64_t behind_since_ms_ = 0;  ///< since when a batch is not confirmed; 0: all are
  std::optional<std::uint32_t> have_;
  std::uint64_t dropped_ = 0;  ///< of the shard's, that were told
  bool told_behind_ = false;
  std::string warned_;  ///< the last refusal

  bool asking_ = false;
  std::uint64_t question_ = 0;  ///< number of the last one; an answer to another one says nothing
  std::uint64_t covers_ = 0;    ///< the newest batch that the question covers
  std::uint64_t asked_at_ms_ = 0;
  bool asked_disk_ = false;

  // what the server refused; asked again after a while
  bool no_disk_ = false;
  bool no_replicas_ = false;
  std::uint64_t refused_until_ms_ = 0;
};

}  // namespace visitd
