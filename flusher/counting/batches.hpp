// Seal, send, acknowledge: which visits a batch holds, and what its answer changes. Decides; knows no clock, loop,
// socket or file. One transaction and, in each bucket, one unanswered batch at a time.
//
// Each shard is flushed on its own: buckets are sealed while their shard takes batches, and only as many pages as are
// on their way at a time. What waits for a shard that is away stays open, where it can be spilled.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/shm/statistics.hpp"
#include "flusher/counting/bucket.hpp"
#include "flusher/counting/flusher_view.hpp"
#include "flusher/counting/kept_order.hpp"
#include "flusher/counting/open_visits.hpp"
#include "flusher/counting/pending_series.hpp"
#include "flusher/counting/placement.hpp"
#include "flusher/counting/spool_state.hpp"

namespace visitd {

struct BatchLimits {
  std::uint32_t batch_pages = 0;
  std::uint64_t keep_batches_s = 0;
  std::uint64_t keep_batches_bytes = 0;
  std::uint64_t ttl_ms = 0;
  /// The most series in unanswered batches of a shard; below it one more is made.
  std::uint64_t series_in_flight = 131072;
};

/// Who is told what becomes of corrections.
class CorrectionListener {
 public:
  virtual ~CorrectionListener() = default;
  /// Redis has it, and from now on its entry says so; or the page is to be given what nobody loses.
  virtual void corrected(const CorrectedPage& page) = 0;
  /// The spool has that too, so that no later life takes it back.
  virtual void noted(const CorrectedPage& page) = 0;
  /// Entries show what a page was given; the spool has it. `loser`: the correction that took it from another page; none
  /// where nobody loses it.
  virtual void given(const std::string& page, std::uint64_t visits, const std::optional<Mark>& loser) = 0;
  /// So many pages of the bucket's correction were not changed, and never will be by this one.
  virtual void withdrawn(std::uint32_t bucket, std::size_t pages) = 0;
};

class Batches {
 public:
  Batches(const BatchLimits& limits, Incarnation incarnation, const Placement& placement, FlusherView& view,
          PendingSeries& pending, OpenVisits& open, FlusherStatistics statistics);

  /// What a kept batch takes besides its encoded effects, bytes: it, its place in the order, its mark as text, and what
  /// the allocator takes for both.
  static constexpr std::size_t bytes_beside_effects = 192;

  /// From the spool, before anything else: marks, kept and unanswered batches. Their series are in `pending` already.
  void recover_mark(const BucketMark& mark);
  void recover_kept(KeptBatch kept);
  /// After the last of them, which come by bucket, then seq. They are kept for their full time from `unix_now` on: what
  /// the wall clock said in former lives may be anything.
  void kept_recovered(std::uint64_t unix_now);
  void recover_unanswered(Batch batch, std::vector<std::uint32_t> series);

  /// Other limits, from now on.
  void use(const BatchLimits& limits) noexcept { limits_ = limits; }

  /// Where a sealed batch's salt comes from: two live copies of one flusher, which share its incarnation, seal equal
  /// visits under marks that differ. Without one it is 0.
  void use_salt(std::function<std::uint64_t()> salt) { salt_ = std::move(salt); }

  // -- corrections

  /// `hash_seed`: of the table of series.
  void use_corrections(CorrectionListener& listener, std::uint64_t hash_seed) noexcept {
    listener_ = &listener;
    hash_seed_ = hash_seed;
  }
  /// The next batch of the bucket is this correction. One at a time. `question`: the id of the one that asks for it,
  /// and that is noted with it; empty: none has an id.
  void correct(std::uint32_t bucket, std::vector<Effect> differences, Correction correction, std::string question);
  /// An earlier life has sealed the bucket's unanswered correction for this question.
  void recover_question(std::uint32_t bucket, std::string question) { asked_by_[bucket] = std::move(question); }
  /// False: it is sealed already.
  bool cancel_correction(std::uint32_t bucket) { return to_correct_.erase(bucket) != 0; }
  /// The page gets visits that came out of no lane. Told by given(). `question`: as of correct().
  void add(const std::string& page, std::uint64_t visits, const std::string& by, const std::string& question,
           std::uint64_t unix_now);
  /// Whether the page can be given so many visits: what waits for its shard stays a number that is a count.
  [[nodiscard]] bool can_add(std::string_view page, std::uint64_t visits) const noexcept;
  /// The same, as a part of an import, whose id note_imported() notes in the same transaction.
  void import(const std::string& page, std::uint64_t visits) { give(find_or_insert(page), visits); }
  void note_imported(CorrectedPage sum, std::string id);
  /// What is open in the bucket is due from now on, ahead of the next flush. Returns that one's number.
  std::uint64_t begin_flush_of_bucket(std::uint32_t bucket);
  /// Whether what was open in the bucket then has been answered.
  [[nodiscard]] bool is_bucket_flushed(std::uint32_t bucket, std::uint64_t flush) const;

  // -- flush

  /// Whether a shard takes batches now: only then are its buckets sealed.
  void set_takes_batches(std::uint32_t shard, bool takes);
  /// Every bucket of all shards that has open visits is due from now on. Returns the flush's number.
  std::uint64_t begin_flush();
  /// The same of one shard.
  std::uint64_t begin_flush(std::uint32_t shard);
  /// Whether all that was open at that flush has been answered.
  [[nodiscard]] bool flush_is_done(std::uint64_t flush) const;
  /// The oldest flush that wanted visits which the shard has not acknowledged; 0: one of an earlier life; nullopt: the
  /// shard has all that was wanted. Looks at each bucket.
  [[nodiscard]] std::optional<std::uint64_t> oldest_flush(std::uint32_t shard) const;
  /// Whether all that was open on the shard when its flush began has been answered.
  [[nodiscard]] bool is_flushed(std::uint32_t shard) const noexcept {
    return shards_[shard].due == 0 && shards_[shard].unanswered == 0;
  }
  /// Whether a due bucket could be sealed now.
  [[nodiscard]] bool wants_seal() const noexcept;

  // -- transactions

  /// What is to become durable now: visits since the last one, answers, and with `seal` due buckets as batches. Nothing
  /// else may be captured until committed().
  [[nodiscard]] Transaction capture(bool seal, const RingNote& ring, std::uint64_t unix_now);
  /// Whether capture(false, …) would hold anything besides positions and visits.
  [[nodiscard]] bool has_news() const noexcept {
    return !answered_.empty() || !accepted_.empty() || !changed_.empty() || !identities_.empty() ||
           !set_aside_.empty() || !corrected_.empty() || !given_.empty();
  }
  /// Whether it would hold what became of corrections.
  [[nodiscard]] bool has_corrected() const noexcept { return !corrected_.empty(); }
  /// The captured transaction is durable: entries show what it gave, and what it corrected is told. Before anything
  /// else of it is told.
  void show_corrections();
  /// The captured transaction is durable. Returns the buckets whose batch may be sent now.
  [[nodiscard]] std::vector<std::uint32_t> committed();
  /// So many shards: the last ones come, or go, of which no bucket is on those. What is kept is kept for its full time
  /// from `unix_now` on.
  void set_shards(std::size_t count, std::uint64_t unix_now);
  /// The bucket leaves its shard: before the placement says so; and is on another: afterwards.
  void leave_shard(std::uint32_t bucket);
  void enter_shard(std::uint32_t bucket);
  /// All open visits of the bucket are in memory again.
  void recalled(std::uint32_t bucket) { queue(bucket); }
  void note_identity(ShardIdentity identity) { identities_.push_back(std::move(identity)); }

  // -- what a shard says

  /// The unanswered, durable batch of a bucket; nullptr: none, or it is just being changed.
  [[nodiscard]] const Batch* unanswered(std::uint32_t bucket) const noexcept { return buckets_[bucket].to_send(); }
  /// What the bucket's unanswered batch counts, as numbers of pending series.
  [[nodiscard]] std::vector<std::uint32_t> sealed_series(std::uint32_t bucket) const {
    const UnansweredBatch* const sealed = buckets_[bucket].unanswered();
    return sealed == nullptr ? std::vector<std::uint32_t>() : sealed->series;
  }
  /// What the writer's field of the bucket holds in Redis, as far as we know.
  [[nodiscard]] const std::string& field(std::uint32_t bucket) const noexcept { return buckets_[bucket].field(); }
  /// Whether we ever wrote to the bucket, or may have.
  [[nodiscard]] bool was_written(std::uint32_t bucket) const noexcept { return buckets_[bucket].was_written(); }
  /// The unanswered batch was applied, now or before. `totals`: of its series, in order. `fix`: the number of the
  /// bucket's last correction; 0: none.
  void answered(std::uint32_t bucket, const std::vector<std::uint64_t>& totals, std::uint64_t fix, std::uint64_t now_ms,
                std::uint64_t unix_now);
  /// The shard does not take the unanswered correction: what it was worked out from has changed.
  void outdated(std::uint32_t bucket);
  /// The shard cannot take these pages of the unanswered batch: its fence is to be sent. Once that is applied, they are
  /// put aside, and the rest is sent when that is durable.
  void refused(std::uint32_t bucket, const std::vector<std::uint32_t>& bad_series, const std::string& why);
  [[nodiscard]] bool is_fencing(std::uint32_t bucket) const {
    return buckets_[bucket].state() == Bucket::State::fencing;
  }
  /// The unanswered batch's fence was applied, now or before.
  void fenced(std::uint32_t bucket, std::uint64_t unix_now);
  /// Whether the unanswered batch, or its fence, leaves this field.
  [[nodiscard]] bool may_leave(std::uint32_t bucket, const std::string& field) const {
    return buckets_[bucket].may_leave(field);
  }
  /// The bucket holds this field, as a new connection finds.
  void found(std::uint32_t bucket, const std::string& field) { buckets_[bucket].found(field); }
  /// The kept batches that come after the one whose mark is `held`, oldest first. nullopt: `held` is none of ours that
  /// is kept.
  [[nodiscard]] std::optional<std::vector<Batch>> lost_since(std::uint32_t bucket, const std::string& held) const {
    return buckets_[bucket].lost_since(held);
  }
  /// The shard cannot take these pages of a kept batch again: they are put aside, and out of `batch`.
  void set_aside_of_kept(Batch& batch, const std::vector<std::uint32_t>& bad_series, const std::string& why);
  /// The operator takes what the shard holds as the truth. False: nothing had to change.
  bool accept(std::uint32_t bucket, const std::string& held);
  /// The operator has this host go on though it was forgotten: the mark that the bucket's tombstone says may be put
  /// back, until it is; on whichever shard the bucket is then.
  void allow_rejoin(std::uint32_t bucket, const std::string& mark) { rejoins_[bucket] = mark; }
  [[nodiscard]] bool may_rejoin(std::uint32_t bucket, const std::string& mark) const {
    const auto allowed = rejoins_.find(bucket);
    return allowed != rejoins_.end() && allowed->second == mark;
  }
  /// It is put back, or there is no tombstone any more.
  void rejoined(std::uint32_t bucket) { rejoins_.erase(bucket); }
  /// What a shard has acknowledged, in all lives.
  struct Written {
    std::uint64_t batches = 0;
    std::uint64_t buckets = 0;  ///< that had any
  };
  [[nodiscard]] Written written_on(std::uint32_t shard) const noexcept;
  [[nodiscard]] std::uint64_t last_seq(std::uint32_t bucket) const noexcept { return buckets_[bucket].seq(); }

  [[nodiscard]] std::size_t buckets() const noexcept { return buckets_.size(); }
  [[nodiscard]] std::size_t unanswered_count() const noexcept { return unanswered_count_; }
  [[nodiscard]] std::size_t unanswered_on(std::uint32_t shard) const noexcept { return shards_[shard].unanswered; }

  // -- whether replicas have the kept batches, see KeptOrder

  void set_waits(std::uint32_t shard, bool waits) noexcept { kept_order_.set_waits(shard, waits); }
  void confirm(std::uint32_t shard, std::uint64_t up_to) noexcept;
  void unconfirm(std::uint32_t shard) noexcept { kept_order_.unconfirm(shard); }
  [[nodiscard]] const KeptOrder& kept() const noexcept { return kept_order_; }

 private:
  static_assert(sizeof(Bucket::Kept) + sizeof(KeptOrder::Entry) + 64 <= bytes_beside_effects);
  struct Shard {
    bool takes_batches = false;
    std::deque<std::uint32_t> to_seal;  ///< due buckets that have no unanswered batch and are in memory
    std::size_t due = 0;                ///< buckets
    std::size_t unanswered = 0;         ///< batches
    std::uint64_t series_in_flight = 0;
  };

  [[nodiscard]] Shard& shard_with(const Bucket& bucket) noexcept {
    return shards_[placement_.shard_of(bucket.number())];
  }
  void make_due(std::uint32_t shard);
  void seal_due(Transaction& transaction);
  /// The first bucket to seal of a shard. Returns how many pages its batch holds.
  std::size_t seal_next(Shard& shard, Transaction& transaction);
  /// Returns how many pages it holds.
  std::size_t seal(std::uint32_t number, Transaction& transaction);
  /// Where the bucket is due and can be sealed: it will be. One that is spilled is asked for.
  void queue(std::uint32_t number);
  /// An unanswered batch was made, or is answered.
  void count_unanswered(const Bucket& bucket, std::size_t pages, bool made) noexcept;
  void keep(std::uint32_t bucket, Bucket::Kept kept, std::uint64_t answered_at);
  [[nodiscard]] static KeptOrder::Entry entry_of(std::uint32_t bucket, const Bucket::Kept& kept,
                                                 std::uint64_t answered_at);
  /// In the next transaction.
  void give(std::uint32_t page, std::uint64_t visits, const std::optional<Mark>& loser = std::nullopt);
  [[nodiscard]] std::uint32_t find_or_insert(std::string_view page);
  void seal_corrections(Transaction& transaction);
  /// What became of the question that asked for the bucket's unanswered correction, if one did.
  void note_question(std::uint32_t bucket, QuestionNote::State state, std::uint64_t before, std::uint64_t after,
                     std::vector<QuestionNote>& notes);
  void keep_sealed(std::uint32_t number, UnansweredBatch sealed, Transaction& transaction);
  /// What the answer to a batch of visits, or to a correction, changes in its pages.
  void settle_visits(const UnansweredBatch& done, const std::vector<std::uint64_t>& totals, std::uint64_t fix,
                     std::uint64_t expires);
  void settle_correction(const UnansweredBatch& done, const std::vector<std::uint64_t>& totals, std::uint64_t fix,
                         std::uint64_t expires, std::uint64_t unix_now);
  void forget_old(Transaction& transaction, std::uint64_t unix_now);
  void set_due(Bucket& bucket, std::uint64_t flush) noexcept;
  /// The transaction holds the bucket's batch as it is now.
  void rewrite(Bucket& bucket, Transaction& transaction);
  void update_statistics() noexcept;

  BatchLimits limits_;
  /// What tells a mark from others of its incarnation and seq.
  [[nodiscard]] std::uint64_t salted_digest(const std::string& blob) const {
    return digest_of(blob) ^ (salt_ ? salt_() : 0);
  }

  Incarnation incarnation_;
  CorrectionListener* listener_ = nullptr;
  std::uint64_t hash_seed_ = 0;
  const Placement& placement_;
  std::function<std::uint64_t()> salt_;
  FlusherView& view_;
  PendingSeries& pending_;
  OpenVisits& open_;
  FlusherStatistics statistics_;
  std::vector<Bucket> buckets_;
  std::vector<Shard> shards_;
  std::uint64_t flush_ = 0;
  std::size_t unanswered_count_ = 0;

  // for the next transaction
  std::vector<BucketMark> answered_;
  std::vector<BucketMark> accepted_;
  std::vector<std::uint32_t> changed_;  ///< buckets whose unanswered batch has to be rewritten
  std::vector<ShardIdentity> identities_;
  std::vector<SetAside> set_aside_;  ///< of kept batches
  std::vector<CorrectedPage> corrected_;
  std::vector<std::string> imported_;
  struct Given {
    std::uint32_t page;
    std::uint64_t visits;
    std::optional<Mark> loser;  ///< see CorrectionListener
  };
  std::vector<Given> given_;
  std::vector<QuestionNote> questions_;
  struct ToCorrect {
    std::vector<Effect> differences;
    Correction correction;
    std::string question;
  };
  std::map<std::uint32_t, ToCorrect> to_correct_;  ///< by bucket
  std::map<std::uint32_t, std::string> asked_by_;  ///< by bucket: the question of its unanswered correction
  std::vector<std::pair<std::uint32_t, std::uint64_t>> forgotten_;

  // of the captured transaction: buckets
  std::vector<std::uint32_t> sealing_;
  std::vector<std::uint32_t> rewriting_;
  std::vector<CorrectedPage> noting_;
  std::vector<Given> giving_;

  /// Pages of kept batches that were put aside in this life: bucket, seq, page.
  std::set<std::tuple<std::uint32_t, std::uint64_t, std::string>> set_aside_before_;
  KeptOrder kept_order_;
  std::unordered_map<std::uint32_t, std::string> rejoins_;  ///< by bucket: the mark that may be put back
};

}  // namespace visitd
