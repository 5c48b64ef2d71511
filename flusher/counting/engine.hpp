// The deciders of one flusher, put together: events in, actions out through EnginePort. One ring, one view, one life.
// Knows no loop, socket, clock or file, so that the simulation runs this very code.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/shm/cache.hpp"
#include "flusher/counting/askable_shards.hpp"
#include "flusher/counting/batches.hpp"
#include "flusher/counting/bucket_mover.hpp"
#include "flusher/counting/bucket_sums.hpp"
#include "flusher/counting/corrections.hpp"
#include "flusher/counting/counting_memory.hpp"
#include "flusher/counting/deployment.hpp"
#include "flusher/counting/drain.hpp"
#include "flusher/counting/flush_schedule.hpp"
#include "flusher/counting/flusher_view.hpp"
#include "flusher/counting/layout.hpp"
#include "flusher/counting/lookups.hpp"
#include "flusher/counting/open_visits.hpp"
#include "flusher/counting/page_scan.hpp"
#include "flusher/counting/placement.hpp"
#include "flusher/counting/recovery.hpp"
#include "flusher/counting/shard_session.hpp"
#include "flusher/counting/writer_book.hpp"

namespace visitd {

struct EngineSettings {
  std::vector<std::string> shards;  ///< names; those of a cluster's primaries come last
  std::uint32_t virtual_nodes = 100;
  std::uint32_t buckets = 8192;
  std::optional<Layout> changed = std::nullopt;  ///< of a deployment whose shards have been changed; `shards` are all
                                                 ///< that it names
  std::optional<ClusterMap> cluster = std::nullopt;  ///< where buckets are in a cluster, or go to one, or leave one
  std::uint32_t page_id_limit = 1024;
  std::uint64_t memory_limit_bytes = 256U << 20U;
  std::uint64_t journal_limit_bytes = 16U << 20U;
  std::uint64_t flush_interval_ms = 30000;
  std::uint64_t commit_interval_ms = 1000;
  BatchLimits batches;
  std::uint32_t batches_in_flight = 256;
  std::uint64_t reconnect_ms = 500;
  std::uint64_t held_recheck_ms = 5000;
  bool accept_eviction = false;
  bool accept_no_append_only = false;
  std::uint64_t check_ms = 5000;
  struct Server {
    std::string address;  ///< for people
    std::uint32_t database = 0;
  };
  std::vector<Server> servers = {};     ///< one a shard; empty: not known
  std::string visitctl = "visitctl";    ///< how its commands begin, for people
  std::string host;                     ///< its name, for people
  std::string version;                  ///< of this program, for people
  std::function<std::uint64_t()> salt;  ///< random numbers for Batches::use_salt; none: 0
  std::uint32_t buckets_moved_at_once = 128;
  std::uint64_t durable_after_ms = 2500;  ///< these two: see MoverSettings
  std::uint64_t move_turn_ms = 5000;
  std::uint32_t wait_replicas = 0;  ///< these three: see ReplicaWatch
  bool wait_aof = false;
  std::uint64_t wait_ms = 3000;
  std::uint64_t unix_ahead_ms = 0;         ///< Unix time in milliseconds, when the clock of the turns began
  std::uint32_t scan_pages_per_s = 80000;  ///< see AskableShards
  std::function<std::uint64_t()> now_us;   ///< a clock that never goes back; none: that of the turns
};

/// What the engine makes happen outside.
class EnginePort {
 public:
  virtual ~EnginePort() = default;
  /// Makes it durable; on_committed() or on_spool_full() follows. One at a time.
  virtual void submit(Transaction transaction) = 0;
  virtual void connect(std::uint32_t shard) = 0;
  /// These two as a SessionPort has them.
  virtual void close(std::uint32_t shard) = 0;
  virtual void send(std::uint32_t shard, const ShardCommand& command, Completion done) = 0;
  virtual void shard_changed(std::uint32_t shard, ShardState state, const std::string& why) = 0;
  virtual void shard_unfit(std::uint32_t shard, const std::string& why) = 0;
  virtual void shard_warned(std::uint32_t shard, const std::string& what) = 0;
  /// The bucket is on that shard from now on.
  virtual void bucket_moved(std::uint32_t bucket, std::uint32_t shard) = 0;
  /// The deployment has another layout, which this life takes, or the next one: see Engine::look_at_layout.
  virtual void layout_changed(const std::string& layout) = 0;
  /// A bucket is on a node of the cluster that is none of this life's.
  virtual void node_unknown(const std::string& node) = 0;
  /// A correction changed a page.
  virtual void corrected(const CorrectedPage& page) = 0;
  /// A page was given visits that came out of no lane.
  virtual void given(const std::string& page, std::uint64_t visits) = 0;
  /// Rings the doorbells of these lanes' owners, a bit each.
  virtual void wake_lanes(std::uint64_t lanes) = 0;
};

/// What becomes of another layout of the deployment.
enum class LayoutStep : std::uint8_t {
  take,       ///< the running engine takes it
  wait,       ///< the same in a moment: a batch is on its way to a bucket's former shard
  next_life,  ///< only the next life can
};

/// The time of an event.
struct Now {
  std::uint64_t ms = 0;    ///< monotonic
  std::uint64_t unix = 0;  ///< seconds, only to note down
};

class Engine {
 public:
  /// Builds the view that is not shown from the spool and shows it; free_space() follows before anything else.
  /// `shown`: by the view until now. `new_identities`: one random text a shard, for shards that have none.
  /// Throws Error where the spool does not fit the ring.
  Engine(const EngineSettings& settings, const CountingMemory& memory, SpoolState spool, ShownUntilNow shown,
         std::vector<std::string> new_identities, EnginePort& port);
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  ~Engine();

  /// The view is the one that readers use: what the spool holds of the lanes is free from now on.
  void free_space() { store_heads(); }

  /// Takes intervals and limits from these settings; shards, layout and the longest page id are as they were.
  void use(const EngineSettings& settings, Now now);

  /// Applies a burst of each lane and takes the requests. True: there was something.
  bool drain(Now now);
  /// Up to where the lanes are written at this moment.
  [[nodiscard]] std::vector<std::uint64_t> tails() const { return drain_.tails(); }
  /// Whether the lanes are applied up to there.
  [[nodiscard]] bool has_applied(const std::vector<std::uint64_t>& tails) const noexcept {
    return drain_.has_applied(tails);
  }
  /// Whether lanes and requests are empty at this moment.
  [[nodiscard]] bool is_idle() const noexcept { return drain_.is_empty() && lookups_.is_empty(); }
  /// Commits, seals, connects, when it is time.
  void tick(Now now);

  void on_committed(const SpoolResult& result, Now now);
  /// There is no room for the transaction: it is submitted again in a while.
  void on_spool_full(Transaction transaction, Now now);
  void on_connected(std::uint32_t shard);
  void on_answer(std::uint32_t shard, const Completion& done, ShardAnswer answer, Now now);
  void on_broken(std::uint32_t shard, const std::string& why, Now now);
  void on_turned_away(std::uint32_t shard, const std::string& why, Now now);

  /// Seals and sends everything that is applied by now, as far as the shards take batches; see flush_is_done.
  std::uint64_t begin_flush(Now now);
  [[nodiscard]] bool flush_is_done(std::uint64_t flush) const { return batches_.flush_is_done(flush); }
  /// What accepting a held shard would give up. Throws Error where it cannot be accepted.
  [[nodiscard]] AcceptOffer offer(const std::string& shard) const;
  /// Takes what a held shard holds as the truth, if that is what was offered. Throws Error where it cannot be accepted.
  void accept(const std::string& shard, std::uint64_t token, Now now);
  /// The cluster says that all is well: what waits for it waits no longer. `map`: with the primaries of this life.
  void cluster_is_well(const ClusterMap& map, Now now);
  /// The cluster says that it takes no commands; `why` is for people.
  void cluster_is_down(const std::string& why, Now now);

  /// Everything up to the lanes' tails is durable, and the answers too.
  [[nodiscard]] bool is_durable() const noexcept;
  /// The same of the lanes alone.
  [[nodiscard]] bool lanes_are_durable() const noexcept;
  /// Up to where each lane is durable.
  [[nodiscard]] const std::vector<std::uint64_t>& durable() const noexcept { return durable_; }
  /// Makes what is there durable without waiting for the commit interval.
  void commit_soon() noexcept { commit_soon_ = true; }
  /// Submits what no transaction holds yet. False: a transaction is under way; call this again once it has ended.
  [[nodiscard]] bool commit_last(Now now);
  /// Nobody can add to the ring any more: once all of it is durable, the spool notes that it is finished.
  void finish_ring() noexcept { finishing_ = Finishing::wanted; }
  [[nodiscard]] bool ring_is_finished() const noexcept { return finishing_ == Finishing::done; }

  [[nodiscard]] const Placement& placement() const noexcept { return placement_; }
  /// The deployment's; empty: it has none yet.
  [[nodiscard]] const std::string& identity() const noexcept { return deployment_.identity(); }
  [[nodiscard]] const Layout& layout() const noexcept { return layout_; }
  /// The map of the layout's cluster; nullopt: it has none.
  [[nodiscard]] const std::optional<ClusterMap>& cluster() const noexcept { return settings_.cluster; }
  /// How far buckets have moved; nullopt: the layout moves none.
  [[nodiscard]] std::optional<BucketMover::Progress> move_progress() const;
  /// Why the layout cannot be changed now, for people; empty: it can.
  [[nodiscard]] std::string why_layout_stays() const;
  /// Tells shards that these buckets have left them. `done`: why that is not known of all, for people; empty: it is.
  void mark_left(const std::vector<LeftBucket>& left, std::function<void(const std::string& why)> done);
  /// Makes this the layout of the deployment, if nobody has made another one; layout_changed() follows. `done`: why
  /// not, for people; empty: it is. Throws Error where it cannot be tried now.
  void change_layout(const Layout& layout, std::function<void(const std::string& why)> done);
  /// Whether this life can take the layout. It does where the shards keep their numbers: new ones come last, or the
  /// last ones go. If the layout ends a change, this leads every bucket to where it went: other hosts may have moved it
  /// unseen. Neither this nor take_layout() is called from within an answer.
  [[nodiscard]] LayoutStep look_at_layout(const Layout& layout);
  /// Takes the layout that `settings.changed` is, where look_at_layout() has said so just now. The port has connections
  /// to new shards before this, and to those that go until it returns.
  void take_layout(const EngineSettings& settings, Now now);
  [[nodiscard]] ShardState shard_state(std::uint32_t shard) const noexcept;
  /// A shard, for people.
  struct ShardReport {
    std::string address;
    std::optional<Facts> server;  ///< as it last said; nullopt: it was never asked
    std::optional<std::uint64_t>
        oldest_wait_ms;  ///< how long the oldest visits wait that it should have; nullopt: none
    std::optional<ReplicaWatch::Report> replicas;  ///< nullopt: nobody wants to know
  };
  [[nodiscard]] ShardReport shard_report(std::uint32_t shard, Now now) const;
  [[nodiscard]] std::vector<Drain::Damage> take_damage() { return drain_.take_damage(); }
  [[nodiscard]] std::vector<UncountablePages::News> take_uncountable() { return lookups_.uncountable().take_news(); }
  /// The first pages that cannot be counted, at most so many.
  [[nodiscard]] std::vector<std::string> uncountable_pages(std::size_t most) const {
    return lookups_.uncountable().names(most);
  }
  [[nodiscard]] std::uint64_t recovered_pages() const noexcept { return recovered_pages_; }
  /// The writers of the deployment.
  [[nodiscard]] const WriterBook& writers() const noexcept { return writers_; }
  [[nodiscard]] WriterBook& writers() noexcept { return writers_; }
  /// Lists pages: see PageScan::begin.
  void list_pages(const ScanPlace& from, std::uint64_t until_ms, std::size_t answer_bytes,
                  std::function<void(PageScan::Told)> done) {
    scan_.begin(from, until_ms, answer_bytes, std::move(done));
  }
  [[nodiscard]] bool lists_pages() const noexcept { return !scan_.is_idle() || !sums_.is_idle(); }
  /// The sum of all counts, and the best pages: see BucketSums.
  void total(std::uint64_t until_ms, std::function<void(BucketSums::Told)> done) {
    sums_.total(until_ms, std::move(done));
  }
  void top(std::size_t limit, std::uint64_t until_ms, std::function<void(BucketSums::Told)> done) {
    sums_.top(limit, until_ms, std::move(done));
  }
  /// What is pending of a page; for people.
  struct PageState {
    std::uint32_t bucket = 0;
    std::uint32_t shard = 0;
    std::uint64_t open = 0;
    std::uint64_t inflight = 0;
    std::string field;
    std::uint64_t set_aside = 0;  ///< visits that the shard could not take
    bool spilled = false;         ///< the spool alone holds open visits of its bucket, maybe of the page
    std::string_view fault;       ///< why the page cannot be counted; empty: it can, as far as is known
  };
  [[nodiscard]] PageState page_state(const std::string& page) const;
  /// Changes counts; see Corrections.
  void correct(ChangeOrder order, Corrections::Told told, Now now) {
    corrections_->ask(std::move(order), std::move(told), now.unix);
    commit_soon_ = true;
  }
  [[nodiscard]] bool is_correcting() const noexcept { return !corrections_->is_idle(); }
  [[nodiscard]] std::uint32_t page_id_limit() const noexcept { return settings_.page_id_limit; }
  [[nodiscard]] const std::deque<CorrectedPage>& corrected() const noexcept { return corrections_->done(); }
  /// What Redis says of a page; nullopt: its shard cannot be asked now, or went away.
  void inspect(const std::string& page, ShardSession::Inspection done);

 private:
  class Session;    ///< a ShardSession with its port
  class Scanner;    ///< the port of what reads many pages
  class Mover;      ///< a BucketMover with its port
  class Corrector;  ///< the port of Corrections

  [[nodiscard]] Session& session_of(const std::string& shard) const;
  void submit(bool seal, Now now);
  void submit_finished_ring(Now now);
  void flush_when_due(Now now);
  void tell_flushed(Now now);
  void note_begin(std::uint64_t flush, Now now);
  [[nodiscard]] std::optional<std::uint64_t> waits_since_ms(std::uint32_t shard) const;
  void seal_at_once(Now now) noexcept;
  [[nodiscard]] Lookups::Asked ask_shard(std::uint32_t page);
  [[nodiscard]] std::uint32_t deciding_shard_index() const;
  void note_cluster();
  void move_bucket(std::uint32_t bucket, std::uint32_t to);
  /// A node of the cluster says that another one serves the bucket.
  void follow(std::uint32_t bucket, const std::string& node);
  /// Sends the command to that node, where it can be reached; otherwise it is Lost.
  void ask_node(const std::string& node, const ShardCommand& command, Completion done);
  /// Of the bucket's move to its next shard.
  [[nodiscard]] std::string marker_of(std::uint32_t bucket) const;
  /// See SessionPort.
  void look_at_next(std::uint32_t bucket, std::function<void(bool is_here)> done);
  /// One step of the bucket's move, without content. `done` gets what the shard says; nullopt: it said nothing of that.
  void ask_to_move(std::uint32_t bucket, MoveBucket::Step step, std::uint32_t shard,
                   std::function<void(std::optional<MoveAnswer::Kind>)> done);
  [[nodiscard]] bool is_node(std::uint32_t shard) const noexcept { return placement_.is_node(shard); }
  /// Every shard to which buckets go has been told the layout.
  [[nodiscard]] bool next_shards_know() const;
  void note_set_aside(const std::vector<SetAside>& pages);
  void store_heads();
  void wake();
  [[nodiscard]] bool positions_moved() const noexcept;

  EngineSettings settings_;
  CountingMemory memory_;
  EnginePort& port_;
  FlusherStatistics statistics_;
  Layout layout_;
  Placement placement_;
  FlusherView view_;
  PendingSeries pending_;
  OpenVisits open_;
  Batches batches_;
  Drain drain_;
  Lookups lookups_;
  Deployment deployment_;
  std::vector<std::unique_ptr<Session>> sessions_;
  std::unique_ptr<Corrector> corrector_;
  std::unique_ptr<Corrections> corrections_;
  std::unique_ptr<Mover> mover_;                       ///< where the layout moves buckets
  std::vector<std::unique_ptr<Mover>> former_movers_;  ///< of former layouts, that wait for answers
  std::vector<std::uint64_t> may_follow_ms_;           ///< by bucket, of a cluster
  std::uint64_t now_ms_ = 0;                           ///< of the last turn
  std::uint64_t asked_ms_ = 0;                         ///< when clients last wanted a count that a shard has to say
  bool changing_layout_ = false;
  bool cluster_is_known_ = false;  ///< the cluster says that its primaries are those of this life
  WriterBook writers_;
  std::unique_ptr<Scanner> scanner_;
  AskableShards askable_;
  PageScan scan_;
  BucketSums sums_;

  std::vector<std::uint64_t> durable_;  ///< positions in the spool
  bool committing_ = false;             ///< a transaction is captured and not durable yet
  std::vector<std::uint64_t> committing_positions_;
  std::optional<Transaction> to_retry_;  ///< the captured one, while it waits for room
  std::uint64_t retry_at_ms_ = 0;
  std::uint64_t last_commit_ms_ = 0;
  std::uint64_t last_seal_ms_ = 0;
  FlushSchedule flushes_;
  std::uint64_t recovered_pages_ = 0;
  bool commit_soon_ = false;
  bool ask_waiting_ = false;  ///< buckets were recalled, or a shard can be asked now, or no more
  enum class Finishing : std::uint8_t { no, wanted, submitted, done };
  Finishing finishing_ = Finishing::no;
};

/// The one of the shards where they were changed, else the one of the settings.
[[nodiscard]] Layout layout_of(const EngineSettings& settings);
/// Of a deployment that was made in a cluster, and never changed.
[[nodiscard]] Layout layout_in_cluster(std::uint32_t buckets, std::uint32_t virtual_nodes);
/// The map of this cluster that a spool knows; nullopt: it knows none.
[[nodiscard]] std::optional<ClusterMap> known_cluster(const SpoolState& spool, const ShardPlace& cluster);
/// Whether the shard is a node of the cluster.
[[nodiscard]] bool is_node(const EngineSettings& settings, std::uint32_t shard);
/// What the layout calls the shard, or the cluster of which it is a node.
[[nodiscard]] const std::string& place_name(const EngineSettings& settings, std::uint32_t shard);
/// The layout that a spool knows of a deployment whose shards were changed; nullopt: it knows none.
[[nodiscard]] std::optional<Layout> known_layout(const SpoolState& spool);

}  // namespace visitd
