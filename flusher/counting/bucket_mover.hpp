// Moves buckets to the shards where the layout wants them, while hosts go on counting into them. Decides; knows no
// clock, loop or socket.
//
//   copy out → copy in → send away → (the next shard's disk and its replicas have the copy) → drop
//     → (the former shard's disk, and its replicas, have that)
//
// Either side may be a cluster: the node that has the bucket's slot is its shard then, and may become another one at
// any time. A copy counts once it was seen on one node before that node's disk had everything, and after.
//
// A bucket takes no batches from its copy on until its next shard has it: for the time of two answers. What it held
// stays where it was until the copy is durable; so a next shard that loses its copy gets it again. What hosts wrote to
// a copy that was lost, or to a shard that forgot that the bucket had left, comes again out of their kept batches, as
// after any lost tail. Each step looks first: any host may repeat any of them at any time, and goes on where another
// one stopped.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "flusher/counting/placement.hpp"
#include "flusher/counting/shard_protocol.hpp"

namespace visitd {

struct MoverSettings {
  std::string writer;                       ///< this host, among those that would move
  std::uint64_t version = 0;                ///< of the layout that moves buckets
  std::vector<std::string> shards;          ///< names, by index
  std::vector<std::string> places;          ///< the same as the layout calls them
  std::uint32_t buckets_at_once = 128;      ///< that are between copy out and send away, at most
  std::uint64_t content_bytes = 8U << 20U;  ///< of all of these, as the largest of late are
  std::uint32_t rate = 0;                   ///< buckets that begin to move in a second, at most; 0: no limit, but
  std::uint32_t rate_beside_reads = 400;    ///< where there is no rate, while clients read counts
  std::uint64_t durable_after_ms = 0;       ///< what was written so long ago has been given to the disk
  std::uint64_t patience_ms = 5000;         ///< so much longer than that nobody is told that it takes long
  std::uint64_t retry_ms = 1000;            ///< after an error
  std::uint64_t redirect_retry_ms = 100;    ///< after a node named another one
  std::uint64_t turn_ms = 5000;             ///< so long one host moves, unless it says so again
};

class MoverPort {
 public:
  virtual ~MoverPort() = default;
  /// Which connection to the shard this is; 0: there is none that could be used.
  [[nodiscard]] virtual std::uint64_t connection(std::uint32_t shard) const = 0;
  /// To a shard with a connection. `done` is called with Lost where that goes.
  virtual void send(std::uint32_t shard, const ShardCommand& command, Completion done) = 0;
  /// These two as a SessionPort has them.
  virtual void ask_node(const std::string& node, const ShardCommand& command, Completion done) = 0;
  virtual void redirected(std::uint32_t bucket, const std::string& node) = 0;
  /// The shard that says who moves, as far as is known.
  [[nodiscard]] virtual std::uint32_t deciding() const = 0;
  [[nodiscard]] virtual const std::string& bucket_id() const = 0;
  /// How many replicas a shard has to have before it is trusted with a copy alone.
  [[nodiscard]] virtual std::uint32_t least_replicas() const = 0;
  /// Whether clients have asked for counts of the shards just now: what moves makes them wait.
  [[nodiscard]] virtual bool reads_come() const = 0;
  /// The bucket is on its next shard.
  virtual void moved(std::uint32_t bucket) = 0;
  /// Every bucket is where it shall be, durably. Told again until somebody ends this.
  virtual void all_moved() = 0;
};

class BucketMover {
 public:
  BucketMover(MoverSettings settings, const Placement& placement, MoverPort& port);

  void tick(std::uint64_t now_ms);
  /// Sends no step any more: the layout is another one. It must outlive what has no answer yet.
  void stop() noexcept { stopped_ = true; }
  /// Whether all that was sent is answered.
  [[nodiscard]] bool is_answered() const noexcept;

  struct Progress {
    std::uint64_t buckets = 0;  ///< that move
    std::uint64_t moved = 0;    ///< that are durable where they shall be, as far as this host has seen
    bool ours = false;          ///< this host moves them
    std::string problem = {};   ///< what holds it up, for people; empty: nothing
  };
  [[nodiscard]] const Progress& progress() const noexcept { return progress_; }

 private:
  /// What a shard has done to a bucket, and may lose until its disk and its replicas have it.
  struct Done {
    std::uint32_t bucket;
    std::uint64_t connection;                              ///< over which it said so
    std::optional<std::uint64_t> since_ms = std::nullopt;  ///< the first turn since then; nullopt: there was none
    std::optional<std::uint64_t> written = std::nullopt;   ///< what replicas have to have; nullopt: not known yet
  };
  struct Disk {
    std::deque<Done> copies;  ///< oldest first; until it is safe here, the former shard keeps the content
    std::deque<Done> drops;   ///< oldest first
    bool asking = false;
    std::uint64_t ask_at_ms = 0;
  };

  void take_turn(std::uint64_t now_ms);
  /// Buckets that may begin to move in a second; 0: no limit.
  [[nodiscard]] std::uint64_t rate() const;
  /// How many buckets may begin to move now.
  [[nodiscard]] std::uint32_t room();
  void begin_more();
  void copy_out(std::uint32_t bucket);
  void copy_in(std::uint32_t bucket, std::string content);
  /// Its former shard, which has dropped it, says so.
  void look_for_dropped(std::uint32_t bucket, std::uint32_t former);
  /// `connection`: to the shard where the copy is, over which it came there.
  void send_away(std::uint32_t bucket, std::uint32_t copy_on, std::uint64_t connection);
  void ask_persistence(std::uint32_t shard);
  /// Whether the first of them had been done for so long at that time.
  [[nodiscard]] static bool is_old(const std::deque<Done>& done, std::uint64_t age_ms, std::uint64_t at_ms) noexcept;
  struct Asked {
    std::uint64_t at_ms;
    std::uint64_t connection;
  };
  [[nodiscard]] std::string why_not_safe(std::uint32_t shard, const Persistence& persistence) const;
  void on_persistence(std::uint32_t shard, const Persistence& persistence, const Asked& asked);
  /// Takes out what was done that cannot be lost any more, oldest first, and what has to be looked for again.
  [[nodiscard]] std::vector<std::uint32_t> take_safe(std::deque<Done>& done, std::uint64_t age_ms,
                                                     const Persistence& persistence, const Asked& asked);
  void look_and_drop(std::uint32_t bucket, std::uint32_t copy_on);
  void drop(std::uint32_t bucket);
  /// Sends a step to a shard of the bucket. `then` gets what it answered; anything else is tried again from the start.
  /// `by`: the shard that answered; in a cluster it may be the one to which the bucket's slot is on its way.
  using Then = std::function<void(const MoveAnswer&, std::uint32_t by)>;
  void step(MoveBucket::Step step, std::uint32_t bucket, std::string content, const Then& then);
  void on_step(std::uint32_t bucket, std::uint32_t shard, const Then& then, const ShardAnswer& answer);
  /// From the start.
  void again(std::uint32_t bucket, const std::string& problem);
  /// The same, a moment later.
  void later(std::uint32_t bucket);
  [[nodiscard]] std::string marker(std::uint32_t bucket) const;

  MoverSettings settings_;
  const Placement& placement_;
  MoverPort& port_;
  Progress progress_;
  std::uint64_t now_ms_ = 0;
  std::deque<std::uint32_t> to_move_;  ///< buckets
  struct Later {
    std::uint32_t bucket;
    std::uint64_t at_ms;
  };
  std::deque<Later> later_;            ///< in order
  std::vector<Disk> disks_;            ///< by shard
  std::uint32_t moving_ = 0;           ///< buckets on their way
  std::uint64_t large_content_bytes_;  ///< a bucket's: the largest one of late
  std::uint64_t retry_at_ms_ = 0;
  std::uint64_t credit_ = 1000;  ///< thousandths of buckets that may begin to move at the rate
  std::uint64_t credited_ms_ = 0;
  bool stopped_ = false;
  bool asking_turn_ = false;
  bool turn_refused_ = false;  ///< with an error
  std::uint64_t ask_turn_at_ms_ = 0;
  std::uint64_t turn_until_ms_ = 0;
};

}  // namespace visitd
