#include "flusher/spool/spool_writer.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include "flusher/spool/spool_rows.hpp"

namespace visitd {

namespace {

constexpr int rings_kept = 64;
constexpr std::int64_t corrections_kept = 10'000;
constexpr std::int64_t imports_kept = 100'000;
// A lane asks one question at a time, and asks it again as long as somebody waits for its answer. Imports may be said
// again much later: they are counted apart.
constexpr std::int64_t questions_kept = 10'000;

/// Pages of 4 KiB from which on the write-ahead log is carried into the file, after a commit. Redis waits for a seal:
/// it leaves this to the next commit, as long as the log is not very long.
constexpr int log_limit = 2048;
constexpr int log_limit_after_seal = 16384;

/// Sums effects by series over blobs that may name one more than once.
class SeriesSums {
 public:
  SeriesSums() { rebuild(); }

  void add(std::string_view series, std::uint64_t operand) {
    if (2 * (effects_.size() + 1) > slots_.size()) rebuild();
    const std::uint64_t hash = digest_of(series);
    for (std::size_t at = hash & mask();; at = (at + 1) & mask()) {
      Slot& slot = slots_[at];
      if (slot.index == none) {
        slot = {hash, static_cast<std::uint32_t>(effects_.size())};
        effects_.push_back({std::string(series), operand});
        return;
      }
      if (slot.hash == hash && effects_[slot.index].series == series) {
        effects_[slot.index].operand += operand;
        return;
      }
    }
  }

  [[nodiscard]] std::vector<Effect> take() && { return std::move(effects_); }

 private:
  static constexpr std::uint32_t none = 0xffff'ffffU;
  struct Slot {
    std::uint64_t hash = 0;
    std::uint32_t index = none;  ///< of the effect
  };

  [[nodiscard]] std::size_t mask() const noexcept { return slots_.size() - 1; }

  void rebuild() {
    std::size_t size = 1024;
    while (size < 4 * effects_.size()) size *= 2;
    slots_.assign(size, {});
    for (std::size_t index = 0; index < effects_.size(); ++index) {
      const std::uint64_t hash = digest_of(effects_[index].series);
      std::size_t at = hash & mask();
      while (slots_[at].index != none) at = (at + 1) & mask();
      slots_[at] = {hash, static_cast<std::uint32_t>(index)};
    }
  }

  std::vector<Effect> effects_;
  std::vector<Slot> slots_;
};

}  // namespace

SpoolWriter::Statements::Statements(SpoolDatabase& database)
    : begin(database, "BEGIN IMMEDIATE"),
      commit(database, "COMMIT"),
      rollback(database, "ROLLBACK"),
      note_ring(
          database,
          "INSERT INTO ring (id, segment, finished, positions, digest) VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO "
          "UPDATE SET segment = excluded.segment, finished = excluded.finished, positions = excluded.positions, "
          "digest = excluded.digest"),
      forget_rings(database, "DELETE FROM ring WHERE noted <= (SELECT max(noted) FROM ring) - ?"),
      append_deltas(database, "INSERT INTO journal (number, digest, deltas) VALUES (?, ?, ?)"),
      shorten_journal(database, "DELETE FROM journal WHERE number <= ?"),
      seal(database, "INSERT INTO batch (mark, expected, digest, pages, bucket, seq) VALUES (?, ?, ?, ?, ?, ?)"),
      replace_open(database, "INSERT OR REPLACE INTO open (bucket, digest, folded, pages) VALUES (?, ?, ?, ?)"),
      spill(database, "INSERT INTO spilled (bucket, digest, pages) VALUES (?, ?, ?)"),
      unspill(database, "DELETE FROM spilled WHERE bucket = ?"),
      read_spilled(database, "SELECT number, digest, pages, bucket FROM spilled WHERE bucket = ? ORDER BY number"),
      answer(database,
             "INSERT OR REPLACE INTO answered (number, at) SELECT number, ? FROM batch WHERE bucket = ? AND seq = ?"),
      note_mark(database, "INSERT OR REPLACE INTO bucket (bucket, seq, field) VALUES (?, ?, ?)"),
      replace_batch(database,
                    "UPDATE batch SET mark = ?, expected = ?, digest = ?, pages = ? WHERE bucket = ? AND seq = ? AND "
                    "number NOT IN (SELECT number FROM answered)"),
      find_answered(
          database,
          "SELECT number FROM batch WHERE bucket = ? AND seq = ? AND number IN (SELECT number FROM answered)"),
      forget_batch(database, "DELETE FROM batch WHERE number = ?"),
      forget_answer(database, "DELETE FROM answered WHERE number = ?"),
      note_identity(database, "INSERT OR REPLACE INTO identity (shard, identity) VALUES (?, ?)"),
      note_correction(database,
                      "INSERT INTO correction (at, by, page, difference, count, given_to) VALUES (?, ?, ?, ?, ?, ?)"),
      forget_corrections(database, "DELETE FROM correction WHERE number <= (SELECT max(number) FROM correction) - ?"),
      note_import(database, "INSERT INTO import (id) VALUES (?)"),
      forget_imports(database, "DELETE FROM import WHERE number <= (SELECT max(number) FROM import) - ?"),
      note_question(database,
                    "INSERT INTO question (id, bucket, count_before, count_after) VALUES (?, ?, ?, ?) "
                    "ON CONFLICT (id) DO UPDATE SET bucket = excluded.bucket, count_before = excluded.count_before, "
                    "count_after = excluded.count_after"),
      withdraw_question(database, "DELETE FROM question WHERE id = ?"),
      forget_questions(database, "DELETE FROM question WHERE number <= (SELECT max(number) FROM question) - ?"),
      need_corrections(database,
                       "UPDATE meta SET value = '3' WHERE key = 'least_schema' AND CAST(value AS INTEGER) < 3"),
      set_aside(database, "INSERT INTO set_aside (bucket, page, visits, reason) VALUES (?, ?, ?, ?)") {}

SpoolResult SpoolWriter::apply(const Transaction& transaction) {
  SpoolResult result;
  run_.begin.reset().run();
  try {
    write(transaction);
    result = give_back(transaction);
    run_.commit.reset().run();
  } catch (...) {
    // SQLite may have rolled back by itself already.
    if (database_.in_transaction()) run_.rollback.reset().run();
    throw;
  }
  database_.carry_log(transaction.sealed.empty() ? log_limit : log_limit_after_seal);
  return result;
}

void SpoolWriter::write(const Transaction& transaction) {
  if (transaction.ring) write_ring(*transaction.ring);
  write_journal(transaction);
  for (const Batch& batch : transaction.sealed) write_batch(run_.seal, batch);
  write_open(transaction);
  for (const Batch& batch : transaction.replaced) replace(batch);
  write_answers(transaction);
  for (const auto& [bucket, seq] : transaction.forgotten) forget(bucket, seq);
  for (const ShardIdentity& identity : transaction.identities) {
    run_.note_identity.reset().text(identity.shard).text(identity.identity).run();
  }
  write_corrections(transaction);
  for (const SetAside& aside : transaction.set_aside) {
    run_.set_aside.reset()
        .bind(aside.bucket)
        .blob(aside.effect.series)
        .bind(aside.effect.operand)
        .text(aside.reason)
        .run();
  }
}

void SpoolWriter::write_ring(const RingNote& ring) {
  const std::string id = hex(ring.id);
  const std::string positions = join(ring.positions);
  run_.note_ring.reset()
      .text(id)
      .bind(std::int64_t{ring.segment})
      .bind(std::int64_t{ring.finished ? 1 : 0})
      .text(positions)
      .bind(ring_digest(id, positions))
      .run();
  if (database_.changes() != 0) run_.forget_rings.reset().bind(std::int64_t{rings_kept}).run();
}

void SpoolWriter::write_journal(const Transaction& transaction) {
  const std::string& deltas = transaction.deltas;
  if (!deltas.empty()) {
    run_.append_deltas.reset().bind(transaction.number).bind(digest_of(deltas)).blob(deltas).run();
  }
  if (transaction.journal_until != 0) run_.shorten_journal.reset().bind(transaction.journal_until).run();
}

void SpoolWriter::write_open(const Transaction& transaction) {
  for (const auto& [bucket, pages] : transaction.open) {
    run_.replace_open.reset()
        .bind(bucket)
        .bind(row_digest(pages, bucket, transaction.number))
        .bind(transaction.number)
        .blob(pages)
        .run();
  }
  for (const std::uint32_t bucket : transaction.unspilled) run_.unspill.reset().bind(bucket).run();
  for (const auto& [bucket, pages] : transaction.spilled) spill(bucket, pages);
}

void SpoolWriter::write_answers(const Transaction& transaction) {
  for (const BucketMark& mark : transaction.answered) {
    run_.answer.reset().bind(transaction.answered_at).bind(mark.bucket).bind(mark.seq).run();
    if (database_.changes() != 1) {
      throw error("{}: batch {} of bucket {} was answered but is not there", database_.path(), mark.seq, mark.bucket);
    }
    run_.note_mark.reset().bind(mark.bucket).bind(mark.seq).text(mark.field).run();
  }
  for (const BucketMark& mark : transaction.accepted) {
    run_.note_mark.reset().bind(mark.bucket).bind(mark.seq).text(mark.field).run();
  }
}

void SpoolWriter::write_corrections(const Transaction& transaction) {
  for (const CorrectedPage& page : transaction.corrected) {
    SpoolStatement& row = run_.note_correction.reset();
    row.bind(page.at).text(page.by).blob(page.page).bind(page.difference);
    // Redis holds no negative count.
    row.bind(page.count ? static_cast<std::int64_t>(*page.count) : -1).blob(page.into).run();
  }
  if (!transaction.corrected.empty()) run_.forget_corrections.reset().bind(corrections_kept).run();
  for (const std::string& id : transaction.imported) run_.note_import.reset().text(id).run();
  if (!transaction.imported.empty()) run_.forget_imports.reset().bind(imports_kept).run();
  for (const QuestionNote& note : transaction.questions) write_question(note);
  if (!transaction.questions.empty()) run_.forget_questions.reset().bind(questions_kept).run();
  const auto corrects = [](const Batch& batch) { return batch.correction.has_value(); };
  if (std::ranges::any_of(transaction.sealed, corrects)) run_.need_corrections.reset().run();
}

void SpoolWriter::write_question(const QuestionNote& note) {
  if (note.state == QuestionNote::State::withdrawn) return run_.withdraw_question.reset().text(note.id).run();
  const bool is_sealed = note.state == QuestionNote::State::sealed;
  run_.note_question.reset()
      .text(note.id)
      .bind(is_sealed ? std::int64_t{note.bucket} : -1)
      .bind(note.before)
      .bind(note.after)
      .run();
}

void SpoolWriter::write_batch(SpoolStatement& statement, const Batch& batch) {
  const std::string content = encode_content(batch);
  const std::string mark = to_text(batch.mark);
  statement.reset()
      .text(mark)
      .text(batch.expected)
      .bind(batch_digest(batch, mark, content, scratch_))
      .blob(content)
      .bind(batch.bucket)
      .bind(batch.mark.seq)
      .run();
}

void SpoolWriter::replace(const Batch& batch) {
  write_batch(run_.replace_batch, batch);
  if (database_.changes() != 1) {
    throw error("{}: batch {} of bucket {} is to be replaced but is not waiting", database_.path(), batch.mark.seq,
                batch.bucket);
  }
}

void SpoolWriter::forget(std::uint32_t bucket, std::uint64_t seq) {
  if (!run_.find_answered.reset().bind(bucket).bind(seq).row()) return;
  const std::int64_t number = run_.find_answered.integer(0);
  run_.find_answered.reset();
  run_.forget_batch.reset().bind(number).run();
  run_.forget_answer.reset().bind(number).run();
}

SpoolResult SpoolWriter::give_back(const Transaction& transaction) {
  SpoolResult result;
  for (const std::uint32_t bucket : transaction.compacted) result.compacted.emplace_back(bucket, compact(bucket));
  for (const std::uint32_t bucket : transaction.recalled) {
    std::string pages;
    each_spilled_row(database_, run_.read_spilled.reset().bind(bucket),
                     [&](std::uint32_t, std::string_view blob) { pages += blob; });
    result.recalled.emplace_back(bucket, std::move(pages));
  }
  return result;
}

void SpoolWriter::spill(std::uint32_t bucket, std::string_view effects) {
  run_.spill.reset().bind(bucket).bind(row_digest(effects, bucket, 0)).blob(effects).run();
}

std::uint64_t SpoolWriter::compact(std::uint32_t bucket) {
  SeriesSums sums;
  each_spilled_row(database_, run_.read_spilled.reset().bind(bucket), [&](std::uint32_t, std::string_view blob) {
    for (EffectReader reader(blob); reader.next();) sums.add(reader.series(), reader.operand());
  });
  const std::string effects = encode_effects(std::move(sums).take());
  run_.unspill.reset().bind(bucket).run();
  spill(bucket, effects);
  return effects.size();
}

}  // namespace visitd
