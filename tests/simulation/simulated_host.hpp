// One host in memory: a ring, a cache, a spool, producers and readers around the flusher's real deciders. The flusher
// may die at every store to a view and between any two events.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/counter/count_reader.hpp"
#include "common/shm/cache_layout.hpp"
#include "common/shm/lane.hpp"
#include "common/shm/view.hpp"
#include "flusher/counting/engine.hpp"
#include "flusher/counting/ring_handover.hpp"
#include "flusher/counting/shutdown.hpp"
#include "tests/simulation/simulated_spool.hpp"
#include "tests/simulation/stage.hpp"

namespace visitd {

class SimulatedHost : public EnginePort {
 public:
  /// So many of the first pages fit into a view at once.
  static constexpr std::uint32_t entries = 4;
  static constexpr std::uint32_t cells = 10;

  SimulatedHost(Stage& stage, std::size_t number, std::size_t hosts);
  SimulatedHost(const SimulatedHost&) = delete;
  SimulatedHost& operator=(const SimulatedHost&) = delete;
  ~SimulatedHost() override = default;

  // -- events

  void publish(std::size_t page, std::uint32_t visits);
  void post_request(std::size_t page);
  void start_flusher();
  void kill_flusher();
  /// No flusher starts before, unless all is calm.
  void stay_off(std::uint64_t until_ms) noexcept { off_until_ms_ = until_ms; }
  /// It ends some turns later.
  void stop_flusher();
  /// Frontends go to another ring, the last of them a while later.
  void leave_ring();
  void flusher_turn();
  void run_spool();
  void tell_spool();
  /// What the loop would find on the connection to a shard: connected, an answer, or none in time.
  void look_at_connection(std::uint32_t shard);
  void break_connection(std::uint32_t shard, const std::string& why);
  /// No connection of this host to the shard succeeds before.
  void keep_away(std::uint32_t shard, std::uint64_t until_ms) { away_until_ms_[shard] = until_ms; }
  /// The spool's thread needs until then for what it was given, and for what it is given meanwhile.
  void slow_disk(std::uint64_t until_ms) noexcept { disk_slow_until_ms_ = until_ms; }

  /// The flusher is dead: its state directory is wiped. False: that would cost visits.
  bool wipe();
  void keep_copy() { copy_ = spool_; }
  /// Puts the copy in the place of the spool; the flusher must be dead. False: there is no copy, or visits would be
  /// lost.
  bool restore();
  /// Goes on with the spool of another host. `alive`: in the middle of its life.
  void go_on_as(const SimulatedHost& other, bool alive);
  /// Asks for one shard more, or less.
  void change_shards();
  /// Asks that the buckets go into the cluster, or out of it.
  void migrate();
  /// The nodes of the cluster say where buckets are: where these are others than this life's, it ends.
  void look_at_cluster();
  /// Asks its shards to forget another host, as far as they can be asked.
  void forget(const SimulatedHost& other);
  /// Somebody sees that shards are held, and has the host take what they hold.
  void accept_held();
  /// Sets counts, gives a page what another one has, or adds to one.
  void correct();
  /// An owner asks that a count is changed. It is asked of every life until it is answered.
  void ask_question();
  /// Asks what all counts come to, or for the best pages, as people do: who may not wait for the answer.
  void add_up();
  /// The same, to be checked. False: not before its lanes are applied.
  [[nodiscard]] bool ask_sums(std::size_t limit);
  [[nodiscard]] bool sums_are_told() const noexcept { return total_ && top_; }
  /// Its flusher has ended since: nobody will be told.
  [[nodiscard]] bool sums_are_lost() const noexcept { return engine_ == nullptr || life_asked_ != life_; }
  [[nodiscard]] bool sums_lack_a_shard() const noexcept {
    return sums_are_told() && (total_->unknown_buckets != 0 || top_->unknown_buckets != 0);
  }
  /// Throws Broken where what was told is not so.
  void check_sums(const std::array<std::uint64_t, Stage::pages>& truth, std::size_t limit);
  /// Only reads from now on.
  void publish_nothing() noexcept { publishes_ = false; }

  // -- checks

  /// A read of a known page is exact, to the visit: all of this host's, and of another's what its shard had in time.
  void read(std::size_t page, std::size_t reader);
  [[nodiscard]] static constexpr std::size_t readers() noexcept { return 3; }
  [[nodiscard]] std::uint64_t shown(std::size_t page);
  /// Whether a read shows what the shards held at `ms`.
  [[nodiscard]] bool knows_since(std::size_t page, std::uint64_t ms);
  /// Whether the spool and the lanes hold no visit that the shards lack.
  [[nodiscard]] bool all_in_shards() const;
  /// Every visit of the host is in a shard, in its spool or in its lanes, and in one of them only. Throws Broken.
  void check_nothing_lost() const;
  /// Nothing will change any more on its own.
  [[nodiscard]] bool is_settled() const;
  [[nodiscard]] bool is_held(std::uint32_t shard) const {
    const auto number = number_of(shard);
    return number && engine_->shard_state(*number) == ShardState::held;
  }
  [[nodiscard]] bool lives() const noexcept { return engine_ != nullptr; }
  /// It lives, and so does every shard to it.
  [[nodiscard]] bool is_up() const;
  [[nodiscard]] const std::string& writer() const noexcept { return spool_.writer(); }
  /// Visits of a page that the host recorded, and that a shard could take.
  [[nodiscard]] std::uint64_t recorded(std::size_t page) const { return recorded_[page] - aside(page); }
  /// A page of which visits were put aside just now, not yet durably.
  [[nodiscard]] std::optional<std::size_t> being_put_aside() const;
  /// The field of a page that was put aside was mended.
  void mended(std::size_t page) noexcept { aside_since_[page] = false; }
  /// The end of a ring, and of a cache: what is recorded now is not to be seen from here, and no reader shows less.
  void leave_ring_and_cache();

  /// Somebody has raised the page in its shard, in the name of this host.
  void raised(std::size_t page, std::uint64_t visits) {
    recorded_[page] += visits;
    raises_.push_back({page, visits, stage_.now.ms});
  }

 private:
  static constexpr std::uint32_t lanes = 2;
  static constexpr std::size_t lane_words = 2048;  // 16 KiB: wraps and fills often

  struct alignas(cache_line_bytes) Line {
    std::array<Word, 8> words{};
  };
  struct Lane {
    LonelyWord tail;
    LonelyWord requests_tail;
    Word freed{0};
    std::array<Word, lane_words> records{};
    std::array<Word, lane_words> requests{};
    std::unique_ptr<LaneProducer> producer;
    std::unique_ptr<LaneProducer> asker;
  };
  /// Counts never fall as long as nobody forgets them: the flusher's life, the view shown (until the life has built its
  /// own, the former one's), and how many entries it evicted.
  struct LastRead {
    std::uint64_t life = 0;
    std::uint64_t view = 0;
    std::uint64_t evicted = 0;
    std::uint64_t went_on = 0;  ///< what a shard holds was taken as the truth
    std::uint64_t count = 0;
    std::uint64_t asked_ms = 0;  ///< the shard was asked then, or later
  };

  struct Question {
    ChangeOrder order;
    std::uint64_t done = 0;  ///< times
  };

  // EnginePort
  void submit(Transaction transaction) override;
  void connect(std::uint32_t shard) override;
  void close(std::uint32_t shard) override;
  void send(std::uint32_t shard, const ShardCommand& command, Completion done) override;
  void shard_changed(std::uint32_t shard, ShardState state, const std::string& why) override;
  void shard_unfit(std::uint32_t shard, const std::string& why) override;
  void shard_warned(std::uint32_t, const std::string&) override {}
  void corrected(const CorrectedPage& page) override;
  void given(const std::string& page, std::uint64_t visits) override;
  void wake_lanes(std::uint64_t) override {}
  void bucket_moved(std::uint32_t, std::uint32_t) override { ++stage_.statistics.moved; }
  void layout_changed(const std::string& layout) override;
  void node_unknown(const std::string& node) override;
  /// Takes a layout that was told, in this life if it can.
  void follow_layout();

  /// The server that the engine counts as this shard; and how it counts that server, if at all.
  [[nodiscard]] std::uint32_t server_of(std::uint32_t shard) const { return servers_[shard]; }
  [[nodiscard]] std::optional<std::uint32_t> number_of(std::uint32_t server) const;
  void number_servers(const EngineSettings& settings);
  [[nodiscard]] ClusterMap cluster_known_to(const SpoolState& spool, const ShardPlace& cluster);
  /// The shards are those of the settings, unless the spool, or this process, knows that they have changed.
  void take_layout(const SpoolState& spool, EngineSettings& settings);

  [[nodiscard]] std::uint64_t chance(std::uint64_t of) { return stage_.chance(of); }
  [[nodiscard]] CacheHeader& cache() noexcept { return *reinterpret_cast<CacheHeader*>(cache_memory_.data()); }
  [[nodiscard]] const CacheHeader& cache() const noexcept {
    return *reinterpret_cast<const CacheHeader*>(cache_memory_.data());
  }
  [[nodiscard]] std::uint64_t statistic(FlusherStatistic which) const {
    return cache().statistics[static_cast<std::size_t>(which)].load();
  }
  /// Of another ring than any other host's.
  [[nodiscard]] std::uint64_t ring_id() const noexcept { return 7 + number_ + hosts_ * rings_; }
  [[nodiscard]] CountingMemory memory();
  [[nodiscard]] ShownUntilNow shown_until_now();
  /// Visits above each lane's head.
  [[nodiscard]] std::array<std::uint64_t, Stage::pages> in_lanes() const;
  void end_flusher();
  void go_on_stopping();
  void look_at_ring();
  void look_at_end_of_ring();
  void take_next_ring();
  [[nodiscard]] bool is_deserted() const noexcept { return must_leave_ && stage_.now.ms >= deserted_at_ms_; }
  void make_lanes();
  void check_stopped(const Shutdown::Progress& progress) const;
  void forget_cache();
  /// The spool has it.
  void note_durable(const Transaction& transaction);
  void settle_doubts(const Transaction& transaction);
  /// How much less, or more, a page may count than was recorded, because of corrections that are in doubt.
  [[nodiscard]] std::pair<std::int64_t, std::int64_t> doubts(std::size_t page) const;
  void check_durable(const std::string& by, const ChangedPage& told) const;
  void renew_spool();
  [[nodiscard]] SpoolState load_spool();
  [[nodiscard]] EngineSettings settings();
  /// A batch goes as soon as the shard says that disk and replica have it.
  static void trust_confirmations(EngineSettings& settings);
  /// Visits that no shard could take, durably or as the spool is just told.
  [[nodiscard]] std::uint64_t aside(std::size_t page) const;
  [[nodiscard]] std::uint64_t durably_aside(std::size_t page) const;
  /// The reader that reads all pages together.
  static constexpr std::size_t list_reader = 2;
  void check_moves() const;
  void read_one(std::size_t page, std::size_t reader);
  void check_read(std::size_t page, std::size_t reader, const CountReader::Reading& reading);
  /// Notes what a look at the marks tells of tombstones.
  [[nodiscard]] Completion noting_tombstones(std::vector<std::uint32_t> asked, Completion done);
  void note_rejoin(const Batch& rejoin);
  void check_on_their_way(std::uint32_t shard, const ShardCommand& command) const;
  void order(ChangeOrder order, Corrections::Told told);
  void ask_again();
  void hand(Question& question);
  void check_answer(const Question& question, const ChangedPage& changed) const;
  void note_done(const CorrectedPage& page);
  void flusher_event(const std::function<void()>& event);

  Stage& stage_;
  std::size_t number_;
  std::size_t hosts_;
  bool publishes_ = true;
  std::array<std::uint64_t, Stage::pages> recorded_{};  ///< and what corrections made of it, modulo 2^64
  std::array<std::uint64_t, Stage::pages> gained_{};    ///< recorded, and given
  std::deque<Lane> lanes_;
  CacheShape shape_;
  std::vector<Line> cache_memory_;
  ShownUntilNow shown_of_former_;  ///< by the former ring's cache, until this one's is in use
  Word superseded_{0};
  std::array<bool, Stage::pages> aside_since_{};  ///< since it was spoiled visits were put aside
  std::set<std::string> told_;                    ///< marks and pages of corrections that were answered
  /// Corrections whose answer the spool does not have yet. If the shard loses one, the next life sends it again; if
  /// another host has corrected the bucket by then, that life works the correction out again, or gives it up.
  struct Undurable {
    CorrectedPage page;
    bool in_doubt = false;  ///< the life that had the answer is over
  };
  std::map<std::string, Undurable> undurable_;  ///< by mark and page
  std::uint64_t orders_ = 0;                    ///< that were given
  std::set<std::pair<std::string, std::string>>
      durably_done_;  ///< changes that the spool has: who asked for it, and its page
  std::array<std::uint64_t, Stage::pages> durably_given_{};  ///< the spool has it, and no entry shows it yet
  struct Raise {
    std::size_t page = 0;
    std::uint64_t visits = 0;
    std::uint64_t at_ms = 0;
  };
  std::vector<Raise> raises_;                                               ///< in the name of this host
  std::map<std::pair<std::string, std::string>, std::uint64_t> to_become_;  ///< what who asked for it set a page to
  std::map<std::string, std::uint64_t> captured_aside_;  ///< in the transaction that is not durable yet
  std::uint64_t captured_number_ = 0;                    ///< of the transaction captured last
  std::deque<CountReader> readers_;
  std::array<LastRead, Stage::pages> last_read_{};
  std::uint64_t evicted_before_ = 0;  ///< entries, by former lives
  std::uint64_t life_ = 0;
  SimulatedSpool spool_;
  std::uint64_t spools_ = 0;
  std::optional<SimulatedSpool> copy_;
  bool must_refuse_ = false;   ///< the spool is older than the ring, as the cache says
  bool in_same_life_ = false;  ///< the next start goes on in the middle of the life that was copied
  std::vector<std::deque<SimulatedShard::Received>> former_answers_;

  std::optional<Transaction> submitted_;
  std::optional<Transaction> refused_;  ///< by a full disk, not yet told
  bool committed_ = false;              ///< submitted and durable, not yet told
  SpoolResult result_;                  ///< of what is durable
  std::vector<bool> connecting_;
  std::vector<bool> accepted_;                               ///< by shard: since it was held
  std::map<std::uint32_t, std::string> tombstones_;          ///< by bucket: the last one that this host was told of
  std::set<std::pair<std::uint32_t, std::string>> allowed_;  ///< buckets and marks to put back, as somebody said
  std::uint64_t went_on_ = 0;                                ///< times that an accepted shard was up again
  std::vector<std::uint64_t> away_until_ms_;                 ///< by shard
  std::uint64_t disk_slow_until_ms_ = 0;
  std::uint64_t off_until_ms_ = 0;
  std::unique_ptr<Engine> engine_;
  std::vector<std::uint32_t> servers_;      ///< by the engine's numbers
  std::optional<Layout> next_layout_;       ///< that this process has heard of
  std::optional<ClusterMap> next_cluster_;  ///< the same
  bool must_end_ = false;                   ///< this life, for another layout
  std::uint64_t rings_ = 0;                 ///< that were left
  bool must_leave_ = false;
  std::uint64_t deserted_at_ms_ = 0;  ///< no frontend writes into the ring from then on
  RingHandover handover_;
  Shutdown shutdown_;
  std::uint64_t stop_deadline_ms_ = 0;     ///< of its last flush
  std::map<std::string, Question> asked_;  ///< by id
  std::set<std::string> standing_;         ///< ids of questions that the owner has no answer to yet
  struct LastFlush {
    std::uint64_t number = 0;
    std::array<std::uint64_t, Stage::pages> gained{};  ///< when it began, where the lanes were empty
  };
  std::optional<LastFlush> last_flush_;    ///< of the shutdown
  std::optional<BucketSums::Told> total_;  ///< these two: as told last
  std::optional<BucketSums::Told> top_;
  std::uint64_t life_asked_ = 0;  ///< for them
};

}  // namespace visitd
