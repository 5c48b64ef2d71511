#include "flusher/spool.hpp"

#include <fmt/format.h>
#include <sqlite3.h>
#include <sys/random.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <string_view>
#include <utility>

#include "common/advice.hpp"
#include "common/clock.hpp"
#include "common/log.hpp"
#include "common/page_id.hpp"
#include "flusher/spool_file.hpp"

namespace visitd {

namespace {

#ifndef VISITD_NEXT_LAYOUTS
constexpr int schema_version = 2;
#else
constexpr int schema_version = 3;
#endif
constexpr int application_id = 0x76697374;  // "vist"
constexpr int rings_kept = 64;

/// Pages of 4 KiB from which on the write-ahead log is carried into the file, after a commit. Redis waits for a seal:
/// it leaves this to the next commit, as long as the log is not very long.
constexpr int log_limit = 2048;
constexpr int log_limit_after_seal = 16384;
constexpr std::uint64_t log_page_bytes = 4096;

constexpr const char* schema = R"sql(
  CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE incarnation (number INTEGER PRIMARY KEY, random TEXT NOT NULL);
  CREATE TABLE ring (noted INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, segment INTEGER NOT NULL,
                     finished INTEGER NOT NULL, positions TEXT NOT NULL, digest INTEGER NOT NULL);
  CREATE TABLE journal (number INTEGER PRIMARY KEY, digest INTEGER NOT NULL, deltas BLOB NOT NULL);
  CREATE TABLE open (bucket INTEGER PRIMARY KEY, digest INTEGER NOT NULL, pages BLOB NOT NULL);
  CREATE TABLE batch (number INTEGER PRIMARY KEY, bucket INTEGER NOT NULL, seq INTEGER NOT NULL, mark TEXT NOT NULL,
                      expected TEXT NOT NULL, digest INTEGER NOT NULL, pages BLOB NOT NULL, UNIQUE (bucket, seq));
  -- When a batch was answered. Beside it, so that the batch is not written anew.
  CREATE TABLE answered (number INTEGER PRIMARY KEY, at INTEGER NOT NULL);
  CREATE TABLE bucket (bucket INTEGER PRIMARY KEY, seq INTEGER NOT NULL, field TEXT NOT NULL);
  CREATE TABLE identity (shard TEXT PRIMARY KEY, identity TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE set_aside (number INTEGER PRIMARY KEY, bucket INTEGER NOT NULL, page BLOB NOT NULL,
                          visits INTEGER NOT NULL, reason TEXT NOT NULL);
)sql";

/// What makes a spool of the schema before into one of `schema`. Older versions go on with it from `least_schema` on,
/// as with additions that they do not look at.
struct SchemaStep {
  int schema;
  int least_schema;
  const char* sql;
};
constexpr std::initializer_list<SchemaStep> schema_steps = {
    // Buckets are folded one by one, and spilled. A program of schema 1 would count what the journal says of a folded
    // bucket a second time.
    {2, 2,
     "ALTER TABLE open ADD COLUMN folded INTEGER NOT NULL DEFAULT 0;"
     "CREATE TABLE spilled (number INTEGER PRIMARY KEY, bucket INTEGER NOT NULL, digest INTEGER NOT NULL,"
     " pages BLOB NOT NULL);"
     "CREATE INDEX spilled_bucket ON spilled (bucket)"},
#ifdef VISITD_NEXT_LAYOUTS
    {3, 2, "ALTER TABLE batch ADD COLUMN made_by TEXT NOT NULL DEFAULT 'nobody'; CREATE TABLE added (number INTEGER)"},
#endif
};

/// Another process has the file open.
struct SpoolHeld : Error {
  using Error::Error;
};

std::int64_t as_signed(std::uint64_t value) noexcept {
  return static_cast<std::int64_t>(value);
}
std::uint64_t as_unsigned(std::int64_t value) noexcept {
  return static_cast<std::uint64_t>(value);
}

std::uint64_t random_number() {
  std::uint64_t number = 0;
  if (getrandom(&number, sizeof number, 0) != sizeof number) throw system_error("no random number from the kernel");
  return number;
}

std::string hex(std::uint64_t number) {
  return fmt::format("{:016x}", number);
}

bool parse_hex(std::string_view text, std::uint64_t& number) noexcept {
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number, 16);
  return failed == std::errc{} && end == text.data() + text.size();
}

std::string join(const std::vector<std::uint64_t>& numbers) {
  std::string text;
  for (const std::uint64_t number : numbers) fmt::format_to(std::back_inserter(text), "{} ", number);
  return text;
}

/// Of a row of table open or spilled: a blob under another bucket or number is damaged too.
std::uint64_t row_digest(std::string_view pages, std::uint32_t bucket, std::uint64_t folded) {
  return digest_of(pages) + bucket + folded * 0x9e37'79b9'7f4a'7c15U;
}

std::uint64_t ring_digest(std::string_view id, std::string_view positions) {
  return digest_of(fmt::format("{} {}", id, positions));
}

bool split(std::string_view text, std::vector<std::uint64_t>& numbers) {
  while (!text.empty()) {
    std::uint64_t number = 0;
    const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (failed != std::errc{} || end == text.data() + text.size() || *end != ' ') return false;
    numbers.push_back(number);
    text.remove_prefix(static_cast<std::size_t>(end - text.data()) + 1);
  }
  return true;
}

/// Sums visits by page over blobs that may name a page more than once.
class PageSums {
 public:
  PageSums() { rebuild(); }

  void add(std::string_view page, std::uint64_t visits) {
    if (2 * (pages_.size() + 1) > slots_.size()) rebuild();
    const std::uint64_t hash = digest_of(page);
    for (std::size_t at = hash & mask();; at = (at + 1) & mask()) {
      Slot& slot = slots_[at];
      if (slot.page == none) {
        slot = {hash, static_cast<std::uint32_t>(pages_.size())};
        pages_.push_back({std::string(page), visits});
        return;
      }
      if (slot.hash == hash && pages_[slot.page].page == page) {
        pages_[slot.page].visits += visits;
        return;
      }
    }
  }

  [[nodiscard]] std::vector<PageVisits> take() && { return std::move(pages_); }

 private:
  static constexpr std::uint32_t none = 0xffff'ffffU;
  struct Slot {
    std::uint64_t hash = 0;
    std::uint32_t page = none;  ///< index
  };

  [[nodiscard]] std::size_t mask() const noexcept { return slots_.size() - 1; }

  void rebuild() {
    std::size_t size = 1024;
    while (size < 4 * pages_.size()) size *= 2;
    slots_.assign(size, {});
    for (std::size_t index = 0; index < pages_.size(); ++index) {
      const std::uint64_t hash = digest_of(pages_[index].page);
      std::size_t at = hash & mask();
      while (slots_[at].page != none) at = (at + 1) & mask();
      slots_[at] = {hash, static_cast<std::uint32_t>(index)};
    }
  }

  std::vector<PageVisits> pages_;
  std::vector<Slot> slots_;
};

}  // namespace

/// The open file and its statements.
class Spool::Database {
 public:
  enum class Purpose { keep, look };

  /// keep: makes what is missing and begins an incarnation. look: only an existing spool, and nothing is changed.
  Database(const std::string& directory, Purpose purpose, const std::optional<SpoolLayout>& layout = std::nullopt);
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;
  ~Database();

  /// Where the file under the name is no longer the open one: writes all to a new file there, and goes on with that.
  /// Throws SpoolFull where that is not possible now.
  void look();

  [[nodiscard]] SpoolState load();
  SpoolResult apply(const Transaction& transaction);
  [[nodiscard]] std::string note_machine(const std::string& machine);
  [[nodiscard]] std::uint64_t open_visits(std::uint32_t buckets);
  [[nodiscard]] std::uint64_t unanswered_batches();
  /// All of the write-ahead log goes into the file itself.
  void checkpoint() { execute("PRAGMA wal_checkpoint(TRUNCATE)"); }

 private:
  /// A prepared statement, used again and again. Its values are bound in order: reset() first.
  class Statement {
   public:
    Statement(Database& database, const char* sql) : database_(database) {
      sqlite3_stmt* prepared = nullptr;
      database.check(sqlite3_prepare_v3(database.handle(), sql, -1, SQLITE_PREPARE_PERSISTENT, &prepared, nullptr),
                     sql);
      statement_.reset(prepared);
    }

    Statement& reset() noexcept {
      sqlite3_reset(statement_.get());
      next_ = 1;
      return *this;
    }
    Statement& bind(std::int64_t value) { return checked(sqlite3_bind_int64(statement_.get(), next_++, value)); }
    Statement& bind(std::uint64_t value) { return bind(as_signed(value)); }
    Statement& bind(std::uint32_t value) { return bind(std::int64_t{value}); }
    /// The text lives until the statement has run.
    Statement& text(std::string_view value) {
      return checked(
          sqlite3_bind_text64(statement_.get(), next_++, value.data(), value.size(), SQLITE_STATIC, SQLITE_UTF8));
    }
    /// The bytes live until the statement has run.
    Statement& blob(std::string_view value) {
      return checked(sqlite3_bind_blob64(statement_.get(), next_++, value.empty() ? "" : value.data(), value.size(),
                                         SQLITE_STATIC));
    }

    /// True: there is a row. After the last one the statement is reset.
    [[nodiscard]] bool row() {
      const int result = sqlite3_step(statement_.get());
      if (result == SQLITE_ROW) return true;
      sqlite3_reset(statement_.get());
      if (result != SQLITE_DONE) database_.check(result, sqlite3_sql(statement_.get()));
      return false;
    }
    /// Runs a statement that gives no rows.
    void run() {
      while (row()) {
      }
    }

    [[nodiscard]] std::int64_t integer(int column) const noexcept {
      return sqlite3_column_int64(statement_.get(), column);
    }
    [[nodiscard]] bool is_null(int column) const noexcept {
      return sqlite3_column_type(statement_.get(), column) == SQLITE_NULL;
    }
    /// A text or blob; valid until the next row.
    [[nodiscard]] std::string_view bytes(int column) const noexcept {
      const void* data = sqlite3_column_blob(statement_.get(), column);
      const int size = sqlite3_column_bytes(statement_.get(), column);
      return data == nullptr ? std::string_view{}
                             : std::string_view{static_cast<const char*>(data), static_cast<std::size_t>(size)};
    }

   private:
    struct Finalize {
      void operator()(sqlite3_stmt* statement) const noexcept { sqlite3_finalize(statement); }
    };
    Statement& checked(int result) {
      database_.check(result, sqlite3_sql(statement_.get()));
      return *this;
    }

    Database& database_;
    std::unique_ptr<sqlite3_stmt, Finalize> statement_;
    int next_ = 1;
  };

  /// What apply() runs. Prepared once the tables are there.
  struct Statements {
    explicit Statements(Database& database);
    Statement begin, commit, rollback, note_ring, forget_rings, append_deltas, shorten_journal, seal, replace_open,
        spill, unspill, read_spilled, answer, note_mark, replace_batch, find_answered, forget_batch, forget_answer,
        note_identity, set_aside;
  };

  struct Close {
    void operator()(sqlite3* handle) const noexcept { sqlite3_close(handle); }
  };

  [[nodiscard]] sqlite3* handle() const noexcept { return handle_.get(); }
  void open();
  void reopen();
  void make_tables();
  void change_schema(const SchemaStep& step);
  void begin_incarnation();
  /// Notes the layout where there is no note. Throws Error where the spool was made with another.
  void keep_layout(const SpoolLayout& layout);
  /// Of a spool that has no note: whether its rows lie where this layout puts them.
  void check_places(const SpoolLayout& layout);
  void check(int result, const char* doing);
  void execute(const char* sql) { check(sqlite3_exec(handle(), sql, nullptr, nullptr, nullptr), sql); }
  [[nodiscard]] std::int64_t number_of(const char* sql);
  [[nodiscard]] Error damaged(std::string_view row, std::string_view how) const;
  [[nodiscard]] std::uint64_t batch_digest(const Batch& batch, std::string_view mark, std::string_view pages);
  [[nodiscard]] SpoolResult write(const Transaction& transaction);
  void spill(std::uint32_t bucket, std::string_view pages);
  /// Makes the spilled rows of a bucket one, in which no page appears twice. Returns its bytes.
  std::uint64_t compact(std::uint32_t bucket);
  /// Calls use(bucket, blob) for each row that `rows` gives: number, digest, blob, bucket.
  template <typename Use>
  void each_spilled(Statement& rows, const Use& use);
  /// From `limit` pages of the write-ahead log on, copies them into the file.
  void carry_log(int limit);
  [[nodiscard]] bool log_may_fill_disk() const noexcept;
  void write_batch(Statement& statement, const Batch& batch);
  void load_rings(SpoolState& state);
  void load_open(SpoolState& state);
  void load_batches(SpoolState& state);

  SpoolFile file_;
  std::string path_;
  std::unique_ptr<sqlite3, Close> handle_;
  std::unique_ptr<Statements> statements_;
  std::string scratch_;
  std::string pages_;
  int log_pages_ = 0;
  bool created_ = false;
  Incarnation incarnation_;
};

Spool::Database::Statements::Statements(Database& database)
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
      set_aside(database, "INSERT INTO set_aside (bucket, page, visits, reason) VALUES (?, ?, ?, ?)") {}

Spool::Database::Database(const std::string& directory, Purpose purpose, const std::optional<SpoolLayout>& layout)
    : file_(directory), path_(file_.path()) {
  if (purpose == Purpose::keep) file_.make();
  open();

  const std::int64_t version = number_of("PRAGMA user_version");
  const std::int64_t application = number_of("PRAGMA application_id");
  const bool empty = number_of("SELECT count(*) FROM sqlite_schema") == 0;
  if (empty ? application != 0 || version != 0 || purpose == Purpose::look : application != application_id) {
    throw error("{} is not a spool of visitd: move it away, or name another state directory (paths.state_directory)",
                path_);
  }
  if (version > schema_version) {
    const std::int64_t least = number_of("SELECT value FROM meta WHERE key = 'least_schema'");
    if (least == 0 || least > schema_version) {
      throw error("{} was written by a newer visitd (schema {}, this one knows {}): run that version", path_, version,
                  schema_version);
    }
  }
  if (number_of("SELECT count(*) FROM pragma_journal_mode WHERE journal_mode = 'wal'") == 0) {
    execute("PRAGMA journal_mode = WAL");
    if (number_of("SELECT count(*) FROM pragma_journal_mode WHERE journal_mode = 'wal'") == 0) {
      throw error("{}: SQLite cannot keep a write-ahead log on this file system: name another state directory", path_);
    }
  }
  if (empty) make_tables();
  if (purpose == Purpose::keep) {
    if (layout) keep_layout(*layout);
    for (const SchemaStep& step : schema_steps) {
      if (step.schema > number_of("PRAGMA user_version")) change_schema(step);
    }
    statements_ = std::make_unique<Statements>(*this);
    begin_incarnation();
    file_.note();  // the write-ahead log is there since something was written
  }
}

Spool::Database::~Database() {
  if (handle() == nullptr) return;
  try {
    look();
  } catch (const std::exception& failure) {
    log::error("{}", failure.what());
  }
  // Closing it would remove the log that lies under its name, which is not ours.
  if (!file_.displaced().empty()) sqlite3_db_config(handle(), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
}

void Spool::Database::open() {
  sqlite3* opened = nullptr;
  const int result = sqlite3_open_v2(path_.c_str(), &opened, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr);
  handle_.reset(opened);
  check(result, "open");
  sqlite3_extended_result_codes(handle(), 1);
  // Exclusive before anything is read: then the index of the write-ahead log is in our memory, and the file is ours
  // alone.
  execute("PRAGMA locking_mode = EXCLUSIVE");
  execute("PRAGMA synchronous = FULL");
  execute("PRAGMA temp_store = MEMORY");
  execute("PRAGMA cache_size = -32768");            // KiB: a whole seal stays in memory until its commit
  execute("PRAGMA journal_size_limit = 33554432");  // bytes: a burst does not leave its size behind for ever
  sqlite3_wal_hook(
      handle(),
      [](void* database, sqlite3* /*unused*/, const char* /*unused*/, int pages) {
        static_cast<Database*>(database)->log_pages_ = pages;
        return SQLITE_OK;
      },
      this);
}

void Spool::Database::look() {
  const std::string how = file_.displaced();
  if (how.empty()) return;
  std::string kept;
  try {
    const std::string draft = file_.draft();
    Statement(*this, "VACUUM INTO ?").text(draft).run();
    file_.finish_draft();
    kept = file_.take_place();
  } catch (const std::exception& failure) {
    file_.drop_draft();
    throw SpoolFull(
        fmt::format("the spool {} {} under the running flusher, which cannot write what it has open to a new file "
                    "there: {}; it tries again once a second. Do not end it before that is put right",
                    path_, how, failure.what()));
  }
  log::warning("the spool {} {} under the running flusher; all that it held was written to a new file there{}", path_,
               how,
               kept.empty() ? ""
                            : fmt::format(". The file that was found is kept as {}: to restore a copy, stop the "
                                          "flusher first",
                                          kept));
  file_.note();
  reopen();
}

void Spool::Database::reopen() {
  statements_.reset();
  sqlite3_db_config(handle(), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);  // the new file's log has the same name
  open();
  execute("PRAGMA journal_mode = WAL");
  statements_ = std::make_unique<Statements>(*this);
  // Something is written, so that the log is there to be noted.
  execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('rescued', 'yes')");
  file_.note();
}

void Spool::Database::make_tables() {
  execute("BEGIN IMMEDIATE");
  execute(schema);
  Statement(*this, "INSERT INTO meta (key, value) VALUES ('writer', ?)").text(hex(random_number())).run();
  execute(fmt::format("PRAGMA application_id = {}", application_id).c_str());
  execute("PRAGMA user_version = 1");  // what follows is changed step by step
  execute("COMMIT");
  created_ = true;
}

void Spool::Database::change_schema(const SchemaStep& step) {
  execute("BEGIN IMMEDIATE");
  execute(step.sql);
  execute(
      fmt::format("INSERT OR REPLACE INTO meta (key, value) VALUES ('least_schema', '{}')", step.least_schema).c_str());
  execute(fmt::format("PRAGMA user_version = {}", step.schema).c_str());
  execute("COMMIT");
}

void Spool::Database::begin_incarnation() {
  incarnation_.number = as_unsigned(number_of("SELECT coalesce(max(number), 0) + 1 FROM incarnation"));
  incarnation_.random = random_number();
  const std::string random = hex(incarnation_.random);
  Statement(*this, "INSERT INTO incarnation (number, random) VALUES (?, ?)")
      .bind(incarnation_.number)
      .text(random)
      .run();
}

std::string Spool::Database::note_machine(const std::string& machine) {
  std::string former;
  {
    Statement noted(*this, "SELECT value FROM meta WHERE key = 'machine'");
    if (noted.row()) former = noted.bytes(0);
  }
  if (former == machine) return former;
  Statement(*this, "INSERT OR REPLACE INTO meta (key, value) VALUES ('machine', ?)").text(machine).run();
  return former;
}

void Spool::Database::keep_layout(const SpoolLayout& layout) {
  Statement noted(*this, "SELECT value FROM meta WHERE key = 'layout'");
  if (noted.row()) {
    SpoolLayout known;
    if (!parse_layout(noted.bytes(0), known)) throw damaged("table meta", "no layout");
    if (const std::string fault = layout_fault(known, layout); !fault.empty()) {
      throw error("the spool {} cannot be used with these settings: {}", path_, fault);
    }
    return;
  }
  check_places(layout);
  const std::string text = to_text(layout);
  Statement(*this, "INSERT INTO meta (key, value) VALUES ('layout', ?)").text(text).run();
}

void Spool::Database::check_places(const SpoolLayout& layout) {
  const auto refuse = [&](std::int64_t bucket) {
    return error(
        "the spool {} cannot be used with these settings: it holds visits in bucket {} which are in another bucket, or "
        "in none, with redis.buckets = {}. Set redis.buckets as it was when they were counted",
        path_, bucket, layout.buckets);
  };
  const std::int64_t largest = number_of(
      "SELECT max(coalesce((SELECT max(bucket) FROM batch), 0), coalesce((SELECT max(bucket) FROM open), 0), "
      "coalesce((SELECT max(bucket) FROM bucket), 0))");
  if (largest >= std::int64_t{layout.buckets}) throw refuse(largest);
  // Each page lies in the bucket of its hash: a few tell another number of buckets.
  for (const char* sql :
       {"SELECT bucket, pages FROM batch ORDER BY number DESC LIMIT 100", "SELECT bucket, pages FROM open LIMIT 100"}) {
    Statement rows(*this, sql);
    while (rows.row()) {
      PageReader pages(rows.bytes(1));
      if (pages.next() && page_bucket(pages.page(), layout.buckets) != rows.integer(0)) throw refuse(rows.integer(0));
    }
  }
}

void Spool::Database::check(int result, const char* doing) {
  if (result == SQLITE_OK) return;
  const int kind = result & 0xff;
  const int number = handle() == nullptr ? 0 : sqlite3_system_errno(handle());
  const bool sync_failed = result == SQLITE_IOERR_FSYNC || result == SQLITE_IOERR_DIR_FSYNC;
  if (kind == SQLITE_FULL || (kind == SQLITE_IOERR && !sync_failed && (number == ENOSPC || number == EDQUOT))) {
    throw SpoolFull(fmt::format("{}: the disk is full; {}", path_, advice_for_path(ENOSPC, path_)));
  }
  if (kind == SQLITE_BUSY || kind == SQLITE_LOCKED) {
    throw SpoolHeld(fmt::format("another flusher has {} open: stop it, or name another state directory", path_));
  }
  if (kind == SQLITE_CORRUPT || kind == SQLITE_NOTADB) {
    throw error("{} is damaged ({}): put a copy back, or set it aside with visit-flusher --renew-spool", path_,
                sqlite3_errstr(result));
  }
  throw error("{}: {}{}{} ({})", path_, handle() == nullptr ? sqlite3_errstr(result) : sqlite3_errmsg(handle()),
              number == 0 ? "" : ": ", number == 0 ? "" : std::generic_category().message(number), doing);
}

std::int64_t Spool::Database::number_of(const char* sql) {
  Statement statement(*this, sql);
  return statement.row() ? statement.integer(0) : 0;
}

Error Spool::Database::damaged(std::string_view row, std::string_view how) const {
  return error("{}: {} is damaged ({}): put a copy back, or set it aside with visit-flusher --renew-spool", path_, row,
               how);
}

std::uint64_t Spool::Database::batch_digest(const Batch& batch, std::string_view mark, std::string_view pages) {
  scratch_.clear();
  fmt::format_to(std::back_inserter(scratch_), "{} {} {} {} ", batch.bucket, batch.mark.seq, mark, batch.expected);
  scratch_ += pages;
  return digest_of(scratch_);
}

SpoolResult Spool::Database::apply(const Transaction& transaction) {
  SpoolResult result;
  statements_->begin.reset().run();
  try {
    result = write(transaction);
    statements_->commit.reset().run();
  } catch (...) {
    // SQLite may have rolled back by itself already.
    if (sqlite3_get_autocommit(handle()) == 0) statements_->rollback.reset().run();
    throw;
  }
  carry_log(transaction.sealed.empty() ? log_limit : log_limit_after_seal);
  return result;
}

void Spool::Database::carry_log(int limit) {
  if (log_pages_ < limit && !log_may_fill_disk()) return;
  try {
    check(sqlite3_wal_checkpoint_v2(handle(), nullptr, SQLITE_CHECKPOINT_PASSIVE, nullptr, nullptr), "checkpoint");
    log_pages_ = 0;
  } catch (const SpoolFull&) {  // NOLINT(bugprone-empty-catch)
    // What was committed is in the log; the file takes it when there is room.
  }
}

/// What is carried may need as much room again: a log that takes it itself could never be carried.
bool Spool::Database::log_may_fill_disk() const noexcept {
  std::error_code failed;
  const std::filesystem::space_info room = std::filesystem::space(path_, failed);
  return !failed && room.available < 2 * static_cast<std::uint64_t>(log_pages_) * log_page_bytes;
}

SpoolResult Spool::Database::write(const Transaction& transaction) {
  Statements& run = *statements_;
  if (transaction.ring) {
    const RingNote& ring = *transaction.ring;
    const std::string id = hex(ring.id);
    const std::string positions = join(ring.positions);
    run.note_ring.reset()
        .text(id)
        .bind(std::int64_t{ring.segment})
        .bind(std::int64_t{ring.finished ? 1 : 0})
        .text(positions)
        .bind(ring_digest(id, positions))
        .run();
    if (sqlite3_changes(handle()) != 0) run.forget_rings.reset().bind(std::int64_t{rings_kept}).run();
  }
  if (!transaction.deltas.empty()) {
    run.append_deltas.reset()
        .bind(transaction.number)
        .bind(digest_of(transaction.deltas))
        .blob(transaction.deltas)
        .run();
  }
  if (transaction.journal_until != 0) run.shorten_journal.reset().bind(transaction.journal_until).run();
  for (const Batch& batch : transaction.sealed) write_batch(run.seal, batch);
  for (const auto& [bucket, pages] : transaction.open) {
    run.replace_open.reset()
        .bind(bucket)
        .bind(row_digest(pages, bucket, transaction.number))
        .bind(transaction.number)
        .blob(pages)
        .run();
  }
  for (const std::uint32_t bucket : transaction.unspilled) run.unspill.reset().bind(bucket).run();
  for (const auto& [bucket, pages] : transaction.spilled) spill(bucket, pages);
  for (const BucketMark& mark : transaction.answered) {
    run.answer.reset().bind(transaction.answered_at).bind(mark.bucket).bind(mark.seq).run();
    if (sqlite3_changes(handle()) != 1) {
      throw error("{}: batch {} of bucket {} was answered but is not there", path_, mark.seq, mark.bucket);
    }
    run.note_mark.reset().bind(mark.bucket).bind(mark.seq).text(mark.field).run();
  }
  for (const BucketMark& mark : transaction.accepted) {
    run.note_mark.reset().bind(mark.bucket).bind(mark.seq).text(mark.field).run();
  }
  for (const Batch& batch : transaction.replaced) {
    write_batch(run.replace_batch, batch);
    if (sqlite3_changes(handle()) != 1) {
      throw error("{}: batch {} of bucket {} is to be replaced but is not waiting", path_, batch.mark.seq,
                  batch.bucket);
    }
  }
  for (const auto& [bucket, seq] : transaction.forgotten) {
    if (!run.find_answered.reset().bind(bucket).bind(seq).row()) continue;
    const std::int64_t number = run.find_answered.integer(0);
    run.find_answered.reset();
    run.forget_batch.reset().bind(number).run();
    run.forget_answer.reset().bind(number).run();
  }
  for (const ShardIdentity& identity : transaction.identities) {
    run.note_identity.reset().text(identity.shard).text(identity.identity).run();
  }
  for (const SetAside& aside : transaction.set_aside) {
    run.set_aside.reset().bind(aside.bucket).blob(aside.page.page).bind(aside.page.visits).text(aside.reason).run();
  }
  SpoolResult result;
  for (const std::uint32_t bucket : transaction.compacted) result.compacted.emplace_back(bucket, compact(bucket));
  for (const std::uint32_t bucket : transaction.recalled) {
    std::string pages;
    each_spilled(run.read_spilled.reset().bind(bucket), [&](std::uint32_t, std::string_view blob) { pages += blob; });
    result.recalled.emplace_back(bucket, std::move(pages));
  }
  return result;
}

void Spool::Database::spill(std::uint32_t bucket, std::string_view pages) {
  statements_->spill.reset().bind(bucket).bind(row_digest(pages, bucket, 0)).blob(pages).run();
}

std::uint64_t Spool::Database::compact(std::uint32_t bucket) {
  PageSums sums;
  each_spilled(statements_->read_spilled.reset().bind(bucket), [&](std::uint32_t, std::string_view blob) {
    for (PageReader reader(blob); reader.next();) sums.add(reader.page(), reader.visits());
  });
  const std::string pages = encode_pages(std::move(sums).take());
  statements_->unspill.reset().bind(bucket).run();
  spill(bucket, pages);
  return pages.size();
}

template <typename Use>
void Spool::Database::each_spilled(Statement& rows, const Use& use) {
  while (rows.row()) {
    const std::string_view blob = rows.bytes(2);
    const auto bucket = static_cast<std::uint32_t>(rows.integer(3));
    if (row_digest(blob, bucket, 0) != as_unsigned(rows.integer(1))) {
      throw damaged(fmt::format("row {} of table spilled", rows.integer(0)), "digest");
    }
    use(bucket, blob);
  }
}

void Spool::Database::write_batch(Statement& statement, const Batch& batch) {
  pages_.clear();
  for (const auto& [page, visits] : batch.pages) append_pages(pages_, page, visits);
  const std::string mark = to_text(batch.mark);
  statement.reset()
      .text(mark)
      .text(batch.expected)
      .bind(batch_digest(batch, mark, pages_))
      .blob(pages_)
      .bind(batch.bucket)
      .bind(batch.mark.seq)
      .run();
}

SpoolState Spool::Database::load() {
  SpoolState state;
  state.created = created_;
  state.incarnation = incarnation_;

  Statement writer(*this, "SELECT value FROM meta WHERE key = 'writer'");
  if (!writer.row()) throw damaged("table meta", "no writer");
  state.writer = writer.bytes(0);

  Statement history(*this, "SELECT number, random FROM incarnation WHERE number <> ? ORDER BY number");
  history.bind(incarnation_.number);
  while (history.row()) {
    Incarnation past{as_unsigned(history.integer(0)), 0};
    if (!parse_hex(history.bytes(1), past.random)) {
      throw damaged(fmt::format("row {} of table incarnation", past.number), "no number");
    }
    state.history.push_back(past);
  }

  load_rings(state);
  load_open(state);
  load_batches(state);

  Statement marks(*this, "SELECT bucket, seq, field FROM bucket ORDER BY bucket");
  while (marks.row()) {
    state.marks.push_back(
        {static_cast<std::uint32_t>(marks.integer(0)), as_unsigned(marks.integer(1)), std::string(marks.bytes(2))});
  }
  Statement identities(*this, "SELECT shard, identity FROM identity ORDER BY shard");
  while (identities.row()) {
    state.identities.push_back({std::string(identities.bytes(0)), std::string(identities.bytes(1))});
  }
  Statement aside(*this, "SELECT bucket, page, visits, reason FROM set_aside ORDER BY number");
  while (aside.row()) {
    state.set_aside.push_back({static_cast<std::uint32_t>(aside.integer(0)),
                               {std::string(aside.bytes(1)), as_unsigned(aside.integer(2))},
                               std::string(aside.bytes(3))});
  }
  return state;
}

void Spool::Database::load_rings(SpoolState& state) {
  Statement rings(*this, "SELECT noted, id, segment, finished, positions, digest FROM ring ORDER BY noted");
  while (rings.row()) {
    const std::string row = fmt::format("row {} of table ring", rings.integer(0));
    RingNote ring;
    const std::string id(rings.bytes(1));
    const std::string positions(rings.bytes(4));
    if (ring_digest(id, positions) != as_unsigned(rings.integer(5))) throw damaged(row, "digest");
    if (!parse_hex(id, ring.id) || !split(positions, ring.positions)) throw damaged(row, "no numbers");
    ring.segment = static_cast<int>(rings.integer(2));
    ring.finished = rings.integer(3) != 0;
    state.rings.push_back(std::move(ring));
  }
}

void Spool::Database::load_open(SpoolState& state) {
  // Before schema 2 a seal folded everything.
  const bool folds_buckets = number_of("PRAGMA user_version") >= 2;
  Statement open(*this, folds_buckets ? "SELECT bucket, digest, folded, pages FROM open ORDER BY bucket"
                                      : "SELECT bucket, digest, 0, pages FROM open ORDER BY bucket");
  while (open.row()) {
    OpenRow row;
    row.bucket = static_cast<std::uint32_t>(open.integer(0));
    row.folded = as_unsigned(open.integer(2));
    row.pages = open.bytes(3);
    if (row_digest(row.pages, row.bucket, row.folded) != as_unsigned(open.integer(1))) {
      throw damaged(fmt::format("row {} of table open", row.bucket), "digest");
    }
    state.open.push_back(std::move(row));
  }
  Statement journal(*this, "SELECT number, digest, deltas FROM journal ORDER BY number");
  while (journal.row()) {
    JournalRow row;
    row.number = as_unsigned(journal.integer(0));
    row.deltas = journal.bytes(2);
    if (digest_of(row.deltas) != as_unsigned(journal.integer(1))) {
      throw damaged(fmt::format("row {} of table journal", row.number), "digest");
    }
    state.journal.push_back(std::move(row));
  }
  state.each_spilled = [this, folds_buckets](const std::function<void(std::uint32_t, std::string_view)>& use) {
    if (!folds_buckets) return;
    Statement rows(*this, "SELECT number, digest, pages, bucket FROM spilled ORDER BY number");
    each_spilled(rows, use);
  };
}

void Spool::Database::load_batches(SpoolState& state) {
  // In the order in which they lie in the file.
  Statement rows(*this,
                 "SELECT bucket, seq, at, mark, expected, digest, pages FROM batch LEFT JOIN answered USING (number) "
                 "ORDER BY batch.number");
  while (rows.row()) {
    Batch batch;
    batch.bucket = static_cast<std::uint32_t>(rows.integer(0));
    batch.mark.seq = as_unsigned(rows.integer(1));
    batch.expected = rows.bytes(4);
    const std::string_view mark = rows.bytes(3);
    const std::string_view pages = rows.bytes(6);
    const auto row = [&] { return fmt::format("row {}, {} of table batch", rows.integer(0), rows.integer(1)); };
    if (batch_digest(batch, mark, pages) != as_unsigned(rows.integer(5))) throw damaged(row(), "digest");
    if (!parse_mark(mark, batch.mark)) throw damaged(row(), "no mark");
    if (rows.is_null(2)) {
      batch.pages = decode_pages(pages);
      state.unanswered.push_back(std::move(batch));
    } else {
      state.kept.push_back(
          {batch.bucket, batch.mark, std::move(batch.expected), std::string(pages), as_unsigned(rows.integer(2))});
    }
  }
  std::sort(state.kept.begin(), state.kept.end(), [](const KeptBatch& one, const KeptBatch& other) {
    return std::pair(one.bucket, one.mark.seq) < std::pair(other.bucket, other.mark.seq);
  });
}

std::uint64_t Spool::Database::open_visits(std::uint32_t buckets) {
  SpoolState state;
  load_open(state);
  std::uint64_t visits = 0;
  const auto add = [&](std::string_view blob) {
    for (PageReader reader(blob); reader.next();) visits += reader.visits();
  };
  std::vector<std::uint64_t> folded(buckets);
  for (const OpenRow& row : state.open) {
    add(row.pages);
    if (row.bucket < buckets) folded[row.bucket] = row.folded;
  }
  for (const JournalRow& row : state.journal) {
    for (PageReader reader(row.deltas); reader.next();) {
      if (row.number > folded[page_bucket(reader.page(), buckets)]) visits += reader.visits();
    }
  }
  state.each_spilled([&](std::uint32_t, std::string_view blob) { add(blob); });
  return visits;
}

std::uint64_t Spool::Database::unanswered_batches() {
  return as_unsigned(number_of("SELECT count(*) FROM batch WHERE number NOT IN (SELECT number FROM answered)"));
}

Spool::Spool(const std::string& state_directory, const std::optional<SpoolLayout>& layout)
    : database_(std::make_unique<Database>(state_directory, Database::Purpose::keep, layout)) {}
Spool::Spool(Spool&&) noexcept = default;
Spool& Spool::operator=(Spool&&) noexcept = default;
Spool::~Spool() = default;

SpoolState Spool::load() {
  return database_->load();
}

SpoolResult Spool::apply(const Transaction& transaction) {
  database_->look();
  SpoolResult result = database_->apply(transaction);
  // What is told to be durable lies under the name.
  try {
    database_->look();
  } catch (const SpoolFull& failure) {
    log::error("{}", failure.what());  // the next transaction waits until that is put right
  }
  return result;
}

std::string Spool::note_machine(const std::string& machine) {
  return database_->note_machine(machine);
}

void Spool::look() {
  database_->look();
}

SpoolAside Spool::set_aside_file(const std::string& state_directory, std::uint32_t buckets) {
  const std::string file = state_directory + "/spool.db";
  SpoolFile(state_directory).recover();
  if (!std::filesystem::exists(file)) throw error("{} does not exist: there is nothing to set aside", file);
  SpoolAside aside;
  try {
    Database database(state_directory, Database::Purpose::look);
    aside.open_visits = database.open_visits(buckets);
    aside.unanswered_batches = database.unanswered_batches();
    database.checkpoint();
  } catch (const SpoolHeld&) {
    throw;
  } catch (const Error&) {
    // What cannot be read is set aside with its write-ahead log, for somebody who can do more.
    aside.open_visits.reset();
    aside.unanswered_batches.reset();
  }
  aside.path = free_path(fmt::format("{}.aside-{}", file, unix_seconds()));
  for (const char* ending : {"-wal", "-shm", ""}) {
    if (std::rename((file + ending).c_str(), (aside.path + ending).c_str()) != 0 && errno != ENOENT) {
      throw system_error("{}{}: cannot be renamed", file, ending);
    }
  }
  sync_directory(state_directory);
  return aside;
}

}  // namespace visitd
