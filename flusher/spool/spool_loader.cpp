#include "flusher/spool/spool_loader.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "common/shm/page_id.hpp"
#include "flusher/spool/schema_steps.hpp"
#include "flusher/spool/spool_rows.hpp"

namespace visitd {

SpoolState SpoolLoader::load(const Incarnation& incarnation) {
  SpoolState state;
  state.incarnation = incarnation;

  SpoolStatement writer(database_, "SELECT value FROM meta WHERE key = 'writer'");
  if (!writer.row()) throw database_.damaged("table meta", "no writer");
  state.writer = writer.bytes(0);

  SpoolStatement history(database_, "SELECT number, random FROM incarnation WHERE number <> ? ORDER BY number");
  history.bind(incarnation.number);
  while (history.row()) {
    Incarnation past{history.number(0), 0};
    if (!parse_hex(history.bytes(1), past.random)) {
      throw database_.damaged(fmt::format("row {} of table incarnation", past.number), "no number");
    }
    state.history.push_back(past);
  }

  load_rings(state);
  load_open(state);
  load_batches(state);

  SpoolStatement marks(database_, "SELECT bucket, seq, field FROM bucket ORDER BY bucket");
  while (marks.row()) {
    state.marks.push_back({marks.bucket(0), marks.number(1), std::string(marks.bytes(2))});
  }
  SpoolStatement identities(database_, "SELECT shard, identity FROM identity ORDER BY shard");
  while (identities.row()) {
    state.identities.push_back({std::string(identities.bytes(0)), std::string(identities.bytes(1))});
  }
  SpoolStatement aside(database_, "SELECT bucket, page, visits, reason FROM set_aside ORDER BY number");
  while (aside.row()) {
    state.set_aside.push_back(
        {aside.bucket(0), {std::string(aside.bytes(1)), aside.number(2)}, std::string(aside.bytes(3))});
  }
  load_corrections(state);
  return state;
}

void SpoolLoader::load_corrections(SpoolState& state) {
  if (database_.number_of("PRAGMA user_version") < to_corrections.schema) return;
  SpoolStatement rows(database_,
                      "SELECT at, by, page, difference, count, given_to FROM correction ORDER BY number DESC LIMIT ?");
  rows.bind(std::uint64_t{corrections_shown});
  while (rows.row()) {
    CorrectedPage page;
    page.at = rows.number(0);
    page.by = rows.bytes(1);
    page.page = rows.bytes(2);
    page.difference = rows.integer(3);
    if (rows.integer(4) >= 0) page.count = rows.number(4);
    page.into = rows.bytes(5);
    state.corrected.push_front(std::move(page));
  }
  SpoolStatement imports(database_, "SELECT id FROM import ORDER BY number");
  while (imports.row()) state.imported.emplace_back(imports.bytes(0));
  if (database_.number_of("PRAGMA user_version") < to_questions.schema) return;
  SpoolStatement questions(database_, "SELECT id, bucket, count_before, count_after FROM question ORDER BY number");
  while (questions.row()) {
    QuestionNote note{std::string(questions.bytes(0)), QuestionNote::State::done, 0, questions.number(2),
                      questions.number(3)};
    if (questions.integer(1) >= 0) {
      note.state = QuestionNote::State::sealed;
      note.bucket = questions.bucket(1);
    }
    state.questions.push_back(std::move(note));
  }
}

void SpoolLoader::load_rings(SpoolState& state) {
  SpoolStatement rings(database_, "SELECT noted, id, segment, finished, positions, digest FROM ring ORDER BY noted");
  while (rings.row()) {
    const std::string row = fmt::format("row {} of table ring", rings.integer(0));
    RingNote ring;
    const std::string id(rings.bytes(1));
    const std::string positions(rings.bytes(4));
    if (ring_digest(id, positions) != rings.number(5)) throw database_.damaged(row, "digest");
    if (!parse_hex(id, ring.id) || !split(positions, ring.positions)) throw database_.damaged(row, "no numbers");
    ring.segment = static_cast<int>(rings.integer(2));
    ring.finished = rings.integer(3) != 0;
    state.rings.push_back(std::move(ring));
  }
}

void SpoolLoader::load_open(SpoolState& state) {
  // Before schema 2 a seal folded everything.
  const bool folds_buckets = database_.number_of("PRAGMA user_version") >= 2;
  SpoolStatement open(database_, folds_buckets ? "SELECT bucket, digest, folded, pages FROM open ORDER BY bucket"
                                               : "SELECT bucket, digest, 0, pages FROM open ORDER BY bucket");
  while (open.row()) {
    OpenRow row;
    row.bucket = open.bucket(0);
    row.folded = open.number(2);
    row.effects = open.bytes(3);
    if (row_digest(row.effects, row.bucket, row.folded) != open.number(1)) {
      throw database_.damaged(fmt::format("row {} of table open", row.bucket), "digest");
    }
    state.open.push_back(std::move(row));
  }
  SpoolStatement journal(database_, "SELECT number, digest, deltas FROM journal ORDER BY number");
  while (journal.row()) {
    JournalRow row;
    row.number = journal.number(0);
    row.deltas = journal.bytes(2);
    if (digest_of(row.deltas) != journal.number(1)) {
      throw database_.damaged(fmt::format("row {} of table journal", row.number), "digest");
    }
    state.journal.push_back(std::move(row));
  }
  state.each_spilled = [&database = database_,
                        folds_buckets](const std::function<void(std::uint32_t, std::string_view)>& use) {
    if (!folds_buckets) return;
    SpoolStatement rows(database, "SELECT number, digest, pages, bucket FROM spilled ORDER BY number");
    each_spilled_row(database, rows, use);
  };
}

void SpoolLoader::load_batches(SpoolState& state) {
  // In the order in which they lie in the file.
  SpoolStatement rows(
      database_,
      "SELECT bucket, seq, at, mark, expected, digest, pages FROM batch LEFT JOIN answered USING (number) "
      "ORDER BY batch.number");
  std::string scratch;
  while (rows.row()) {
    Batch batch;
    batch.bucket = rows.bucket(0);
    batch.mark.seq = rows.number(1);
    batch.expected = rows.bytes(4);
    const std::string_view mark = rows.bytes(3);
    const std::string_view pages = rows.bytes(6);
    const auto row = [&] { return fmt::format("row {}, {} of table batch", rows.integer(0), rows.integer(1)); };
    if (batch_digest(batch, mark, pages, scratch) != rows.number(5)) throw database_.damaged(row(), "digest");
    if (!parse_mark(mark, batch.mark)) throw database_.damaged(row(), "no mark");
    if (rows.is_null(2)) {
      decode_content(pages, batch);
      state.unanswered.push_back(std::move(batch));
    } else {
      state.kept.push_back({batch.bucket, batch.mark, std::move(batch.expected), std::string(pages), rows.number(2)});
    }
  }
  std::sort(state.kept.begin(), state.kept.end(), [](const KeptBatch& one, const KeptBatch& other) {
    return std::pair(one.bucket, one.mark.seq) < std::pair(other.bucket, other.mark.seq);
  });
}

std::uint64_t SpoolLoader::open_visits(std::uint32_t buckets) {
  SpoolState state;
  load_open(state);
  std::uint64_t visits = 0;
  const auto add = [&](std::string_view blob) {
    for (EffectReader reader(blob); reader.next();) visits += reader.operand();
  };
  std::vector<std::uint64_t> folded(buckets);
  for (const OpenRow& row : state.open) {
    add(row.effects);
    if (row.bucket < buckets) folded[row.bucket] = row.folded;
  }
  for (const JournalRow& row : state.journal) {
    for (EffectReader reader(row.deltas); reader.next();) {
      if (row.number > folded[page_bucket(reader.series(), buckets)]) visits += reader.operand();
    }
  }
  state.each_spilled([&](std::uint32_t, std::string_view blob) { add(blob); });
  return visits;
}

std::uint64_t SpoolLoader::unanswered_batches() {
  return static_cast<std::uint64_t>(
      database_.number_of("SELECT count(*) FROM batch WHERE number NOT IN (SELECT number FROM answered)"));
}

}  // namespace visitd
