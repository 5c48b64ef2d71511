// One bucket's part in the protocol: what its writer's field in Redis holds as far as we know, its
// one unanswered batch, and the answered ones that are kept for a shard that loses its tail. Decides; Batches joins
// the buckets to transactions and flushes.
//
//   quiet --seal--> sealing --committed--> ready --answered--> quiet
//                      |                    |  ^
//                      |                    |  +--- fencing ---> changed   (the shard refused pages)
//                      +----- changed <-----+                              (the operator accepted it as it is)
//                                |
//                                +--captured--> rewriting --committed--> ready
//
// A batch of which the shard refused pages may have been sent before, over a connection that is gone: if the pages'
// fields are mended, that copy can still be executed. So an empty batch, its fence, takes its number first. Where the
// shard has taken that, no copy can be executed any more, and the rest becomes the next batch. Where a copy was faster,
// the batch is applied in whole.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "flusher/counting/batch.hpp"
#include "flusher/counting/spool_state.hpp"

namespace visitd {

/// A sealed batch that its shard has not answered.
struct UnansweredBatch {
  Batch batch;
  std::vector<std::uint32_t> series;  ///< the same, as numbers of pending series; none of a correction
  std::string blob;                   ///< its content, encoded, as it is kept
  std::uint64_t flush = 0;            ///< that wanted it
  // What the shard refused of it, until a transaction holds it without.
  std::vector<std::uint32_t> bad_series = {};  ///< indexes
  std::string why_bad = {};
  std::optional<Batch> fence = std::nullopt;  ///< took, or is to take, the number before its own
};

/// The empty batch that takes the number of this one: with the same mark each time.
[[nodiscard]] Batch fence_of(const Batch& batch);

/// Takes the elements at these indexes out; both come and stay in their order.
template <typename Element>
[[nodiscard]] std::vector<Element> take_at(std::vector<Element>& elements, const std::vector<std::uint32_t>& indexes) {
  std::vector<Element> taken;
  std::vector<Element> left;
  for (std::uint32_t i = 0; i < elements.size(); ++i) {
    const bool is_taken = std::ranges::find(indexes, i) != indexes.end();
    (is_taken ? taken : left).push_back(std::move(elements[i]));
  }
  elements = std::move(left);
  return taken;
}

class Bucket {
 public:
  enum class State : std::uint8_t {
    quiet,      ///< no batch is unanswered
    sealing,    ///< the captured transaction makes its batch durable
    ready,      ///< its batch is durable: it is sent until it is answered
    fencing,    ///< its batch's fence is sent until it is answered
    changed,    ///< its batch has to be rewritten by the next transaction, and is not sent before
    rewriting,  ///< the captured transaction rewrites it
  };
  /// An answered batch.
  struct Kept {
    Mark mark;
    std::string expected;
    std::string content;  ///< encode_content blob
  };

  explicit Bucket(std::uint32_t number) noexcept : number_(number) {}

  [[nodiscard]] std::uint32_t number() const noexcept { return number_; }
  [[nodiscard]] State state() const noexcept { return state_; }
  /// Of the newest answered batch.
  [[nodiscard]] std::uint64_t seq() const noexcept { return seq_; }
  /// What the writer's field holds in Redis, as far as we know; empty: there is none.
  [[nodiscard]] const std::string& field() const noexcept { return field_; }
  /// Whether we ever wrote to it, or may have.
  [[nodiscard]] bool was_written() const noexcept { return !field_.empty() || seq_ != 0 || unanswered_; }

  // -- its unanswered batch

  /// Its batch, whatever its state; nullptr: none.
  [[nodiscard]] const UnansweredBatch* unanswered() const noexcept { return unanswered_ ? &*unanswered_ : nullptr; }
  /// Its batch or that one's fence, where it may be sent; nullptr: none, or it is not durable as it stands.
  [[nodiscard]] const Batch* to_send() const noexcept;
  /// Whether its batch, or that one's fence, left this field.
  [[nodiscard]] bool may_leave(const std::string& field) const;
  /// The next batch; `digest` makes its mark. quiet → sealing.
  void seal(UnansweredBatch sealed, Incarnation incarnation, std::uint64_t digest);
  /// The shard cannot take these pages of it. ready → fencing.
  void refuse(const std::vector<std::uint32_t>& bad_series, const std::string& why);
  /// The shard holds this field: the batch was applied (fencing → ready), or its fence was (ready → fencing).
  void found(const std::string& field);
  /// The shard has applied the fence. What the shard can take becomes the next batch. fencing → changed.
  void fenced(Incarnation incarnation);
  /// The captured transaction holds it as it is now; `digest` of its content. Returns the fence that took the number
  /// before, where the spool does not have it yet. changed → rewriting.
  std::optional<Batch> rewrite(std::uint64_t digest);
  /// What the shard refused of it.
  struct BadSeries {
    std::vector<Effect> effects;
    std::vector<std::uint32_t> numbers;  ///< the same, as numbers of pending series
  };
  /// Takes these pages out.
  [[nodiscard]] BadSeries take_bad_series();
  /// The captured transaction is durable. sealing, rewriting → ready.
  void committed() noexcept;
  /// The shard has applied it, now or before. ready → quiet.
  [[nodiscard]] UnansweredBatch answered();

  // -- what is kept

  void keep(Kept kept) { kept_.push_back(std::move(kept)); }
  /// Forgets the oldest, if it is that one. False: it was forgotten before.
  bool forget(std::uint64_t seq);
  /// The kept batches that come after the one whose mark is `held`, oldest first. nullopt: `held` is none that is kept.
  [[nodiscard]] std::optional<std::vector<Batch>> lost_since(const std::string& held) const;
  /// The operator takes what the shard holds as the truth: nothing is kept, and an unanswered batch expects that.
  /// Returns the seqs of what was kept. nullopt: nothing had to change.
  [[nodiscard]] std::optional<std::vector<std::uint64_t>> accept(const std::string& held);

  // -- recovery

  void recover_mark(std::uint64_t seq, const std::string& field);
  void recover_unanswered(UnansweredBatch unanswered);

  // -- flush

  std::uint64_t due = 0;  ///< the oldest flush that wants its open visits sealed; 0: none
  bool queued = false;    ///< among its shard's buckets to seal

 private:
  std::uint32_t number_;
  State state_ = State::quiet;
  std::uint64_t seq_ = 0;
  std::string field_;
  std::optional<UnansweredBatch> unanswered_;
  std::vector<Kept> kept_;  ///< a chain: each expects its predecessor's mark
};

}  // namespace visitd
