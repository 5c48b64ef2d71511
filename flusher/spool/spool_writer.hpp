// Writes what a transaction says, all of it or nothing.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "flusher/counting/spool_state.hpp"
#include "flusher/spool/spool_database.hpp"

namespace visitd {

class SpoolWriter {
 public:
  /// The tables are there. `database` outlives it.
  explicit SpoolWriter(SpoolDatabase& database) : database_(database), run_(database) {}

  /// One transaction, synced when this returns. Throws as SpoolDatabase does.
  SpoolResult apply(const Transaction& transaction);

 private:
  /// Prepared once.
  struct Statements {
    explicit Statements(SpoolDatabase& database);
    SpoolStatement begin, commit, rollback, note_ring, forget_rings, append_deltas, shorten_journal, seal, replace_open,
        spill, unspill, read_spilled, answer, note_mark, replace_batch, find_answered, forget_batch, forget_answer,
        note_identity, note_correction, forget_corrections, note_import, forget_imports, note_question,
        withdraw_question, forget_questions, need_corrections, set_aside;
  };

  void write(const Transaction& transaction);
  void write_ring(const RingNote& ring);
  void write_journal(const Transaction& transaction);
  void write_open(const Transaction& transaction);
  void write_answers(const Transaction& transaction);
  void write_corrections(const Transaction& transaction);
  void write_question(const QuestionNote& note);
  void write_batch(SpoolStatement& statement, const Batch& batch);
  void replace(const Batch& batch);
  void forget(std::uint32_t bucket, std::uint64_t seq);
  [[nodiscard]] SpoolResult give_back(const Transaction& transaction);
  void spill(std::uint32_t bucket, std::string_view effects);
  /// Makes the spilled rows of a bucket one, in which no series appears twice. Returns its bytes.
  std::uint64_t compact(std::uint32_t bucket);

  SpoolDatabase& database_;
  Statements run_;
  std::string scratch_;
};

}  // namespace visitd
