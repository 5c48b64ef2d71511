// What the spool holds, and what a transaction changes in it: data alone, which deciders make and read without knowing
// of a file.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/os/errors.hpp"
#include "flusher/counting/batch.hpp"

namespace visitd {

/// A ring that the flusher drained from, and up to where each of its lanes is in the spool. Notes outlive their rings,
/// so that a ring that somebody still holds attached is never counted twice; the newest 64 are kept.
struct RingNote {
  std::uint64_t id = 0;
  int segment = -1;                      ///< System V id, to find the ring again when the runtime directory is gone
  bool finished = false;                 ///< all of it is in the spool and nobody can add to it
  std::vector<std::uint64_t> positions;  ///< one a lane, bytes
};

/// A batch that a shard has answered, kept for a shard that loses its tail.
struct KeptBatch {
  std::uint32_t bucket = 0;
  Mark mark;
  std::string expected;
  std::string content;            ///< encode_content blob: of many batches, most are never looked into
  std::uint64_t answered_at = 0;  ///< Unix seconds
};

/// What a bucket's field in Redis is to hold, as text, since its last answered batch (or since the operator accepted
/// it).
struct BucketMark {
  std::uint32_t bucket = 0;
  std::uint64_t seq = 0;  ///< the last answered batch's; the next one is seq + 1
  std::string field;      ///< empty: no field
};

struct ShardIdentity {
  std::string shard;     ///< the shard's name
  std::string identity;  ///< what visits:topology on it said
};

/// Visits that a shard can never take (its field is no integer), put aside for the operator.
struct SetAside {
  std::uint32_t bucket = 0;
  Effect effect;
  std::string reason;
};

/// A question of the owner that changes a count, by its id: noted in the transaction that makes the change durable. So
/// a life that is asked the same question again goes on with what an earlier one began, or says what came of it.
struct QuestionNote {
  enum class State : std::uint8_t {
    sealed,     ///< its correction is the bucket's unanswered batch
    done,       ///< it came to `before` and `after`, as ChangedPage says
    withdrawn,  ///< nothing was changed; the spool has no note of it any more
  };
  std::string id;
  State state = State::done;
  std::uint32_t bucket = 0;  ///< of a sealed one
  std::uint64_t before = 0;
  std::uint64_t after = 0;
};

/// A page that a correction changed.
struct CorrectedPage {
  std::uint32_t bucket = 0;
  Mark mark;  ///< of the correction
  std::string page;
  std::int64_t difference = 0;
  std::optional<std::uint64_t> count;  ///< in Redis, afterwards; nullopt: not yet there, like recorded visits
  std::string into;                    ///< the page that was given what this one lost; empty: none
  std::string by;                      ///< who asked for it
  std::uint64_t at = 0;                ///< Unix seconds
};

/// A bucket's open visits as of a transaction; what the journal says of the bucket up to there is in it, or sealed.
struct OpenRow {
  std::uint32_t bucket = 0;
  std::uint64_t folded = 0;  ///< the transaction's number
  std::string effects;       ///< encode_effects blob
};

/// Visits that one transaction made durable.
struct JournalRow {
  std::uint64_t number = 0;  ///< the transaction's
  std::string deltas;        ///< encode_effects blob
};

/// How many of them people are shown.
inline constexpr std::size_t corrections_shown = 1000;

/// Everything that recovery needs. What is open are the rows of `open`, of `journal` what is newer than its bucket's
/// row, and what is spilled.
struct SpoolState {
  bool created = false;              ///< the spool was made by this start
  std::uint64_t loaded_at = 0;       ///< Unix seconds, of the clock that the transactions to come have
  std::string writer;                ///< 16 hex digits, made with the spool
  Incarnation incarnation;           ///< of this start; already durable
  std::vector<Incarnation> history;  ///< earlier starts
  std::vector<RingNote> rings;       ///< in the order in which they were first noted
  std::vector<OpenRow> open;         ///< at most one a bucket
  std::vector<JournalRow> journal;   ///< by number
  /// Calls its argument with bucket and blob of each spilled row; a page may be in several. Valid as long as the spool
  /// is, until it is next written.
  std::function<void(const std::function<void(std::uint32_t, std::string_view)>&)> each_spilled;
  std::vector<Batch> unanswered;  ///< at most one a bucket
  std::deque<KeptBatch> kept;     ///< by bucket, then seq, ascending
  std::vector<BucketMark> marks;  ///< one a bucket that was ever answered or accepted
  std::vector<ShardIdentity> identities;
  std::vector<SetAside> set_aside;
  std::deque<CorrectedPage> corrected;  ///< the newest ones, the oldest first
  std::vector<std::string> imported;    ///< ids of parts of imports that were counted
  std::vector<QuestionNote> questions;  ///< of the owner, that were done or begun
};

/// What one SQLite transaction makes durable, in this order. Empty parts change nothing.
struct Transaction {
  std::optional<RingNote> ring;     ///< inserted or replaced, by id
  std::uint64_t number = 0;         ///< grows from transaction to transaction; 0: neither journal nor rows change
  std::uint64_t journal_until = 0;  ///< the journal's rows up to this number are deleted; 0: none
  std::string deltas;               ///< encode_effects blob, appended to the journal under the number
  std::vector<Batch> sealed;
  std::vector<std::pair<std::uint32_t, std::string>>
      open;  ///< bucket -> blob of all its open visits in memory: replaces its row, folded up to the number
  std::vector<std::uint32_t> unspilled;                        ///< buckets whose spilled rows are deleted, first
  std::vector<std::pair<std::uint32_t, std::string>> spilled;  ///< bucket -> blob, one more spilled row
  std::vector<std::uint32_t> compacted;                        ///< buckets whose spilled rows become one
  std::vector<std::uint32_t> recalled;                         ///< buckets whose spilled rows are given back
  std::vector<Batch> replaced;  ///< unanswered batches whose content or expectation changed, by bucket and seq
  std::vector<BucketMark>
      answered;                   ///< the bucket's batch of that seq moves from unanswered to kept; the mark is noted
  std::uint64_t answered_at = 0;  ///< Unix seconds, for all of `answered`
  std::vector<BucketMark> accepted;                                ///< marks set without a batch
  std::vector<std::pair<std::uint32_t, std::uint64_t>> forgotten;  ///< kept batches (bucket, seq) to delete
  std::vector<ShardIdentity> identities;
  std::vector<SetAside> set_aside;
  std::vector<CorrectedPage> corrected;  ///< for people
  std::vector<std::string> imported;     ///< ids of parts of imports: their visits are in this transaction
  std::vector<QuestionNote> questions;   ///< of one question, a later note replaces the earlier one

  /// Nothing to write.
  [[nodiscard]] bool empty() const noexcept {
    return !ring && deltas.empty() && journal_until == 0 && sealed.empty() && open.empty() && unspilled.empty() &&
           spilled.empty() && compacted.empty() && recalled.empty() && answered.empty() && accepted.empty() &&
           replaced.empty() && forgotten.empty() && identities.empty() && set_aside.empty() && corrected.empty() &&
           imported.empty() && questions.empty();
  }
};

/// What a transaction gave back.
struct SpoolResult {
  std::vector<std::pair<std::uint32_t, std::string>> recalled;  ///< bucket -> blob; a page may be in it several times
  std::vector<std::pair<std::uint32_t, std::uint64_t>> compacted;  ///< bucket -> bytes of its spilled row
};

/// The disk is full: nothing of the transaction was written; it may be tried again.
struct SpoolFull : Error {
  using Error::Error;
};

}  // namespace visitd
