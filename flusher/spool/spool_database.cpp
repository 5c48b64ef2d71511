#include "flusher/spool/spool_database.hpp"

#include <fmt/format.h>
#include <sqlite3.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "common/os/advice.hpp"

namespace visitd {

namespace {

constexpr std::uint64_t log_page_bytes = 4096;

}  // namespace

void SpoolDatabase::Close::operator()(sqlite3* handle) const noexcept {
  sqlite3_close(handle);
}

void SpoolDatabase::open() {
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
        static_cast<SpoolDatabase*>(database)->log_pages_ = pages;
        return SQLITE_OK;
      },
      this);
}

void SpoolDatabase::keep_log() {
  const char* const has_log = "SELECT count(*) FROM pragma_journal_mode WHERE journal_mode = 'wal'";
  if (number_of(has_log) != 0) return;
  execute("PRAGMA journal_mode = WAL");
  if (number_of(has_log) == 0) {
    throw error("{}: SQLite cannot keep a write-ahead log on this file system: name another state directory", path_);
  }
}

void SpoolDatabase::leave_log() noexcept {
  sqlite3_db_config(handle(), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
}

void SpoolDatabase::execute(const char* sql) {
  check(sqlite3_exec(handle(), sql, nullptr, nullptr, nullptr), sql);
}

std::int64_t SpoolDatabase::number_of(const char* sql) {
  SpoolStatement statement(*this, sql);
  return statement.row() ? statement.integer(0) : 0;
}

int SpoolDatabase::changes() const noexcept {
  return sqlite3_changes(handle());
}

bool SpoolDatabase::in_transaction() const noexcept {
  return sqlite3_get_autocommit(handle()) == 0;
}

void SpoolDatabase::carry_log(int limit) {
  if (log_pages_ < limit && !log_may_fill_disk()) return;
  try {
    check(sqlite3_wal_checkpoint_v2(handle(), nullptr, SQLITE_CHECKPOINT_PASSIVE, nullptr, nullptr), "checkpoint");
    log_pages_ = 0;
  } catch (const SpoolFull&) {  // NOLINT(bugprone-empty-catch)
    // What was committed is in the log; the file takes it when there is room.
  }
}

/// What is carried may need as much room again: a log that takes it itself could never be carried.
bool SpoolDatabase::log_may_fill_disk() const noexcept {
  std::error_code failed;
  const std::filesystem::space_info room = std::filesystem::space(path_, failed);
  return !failed && room.available < 2 * static_cast<std::uint64_t>(log_pages_) * log_page_bytes;
}

Error SpoolDatabase::damaged(std::string_view row, std::string_view how) const {
  return error("{}: {} is damaged ({}): put a copy back, or set it aside with visit-flusher --renew-spool", path_, row,
               how);
}

void SpoolDatabase::check(int result, const char* doing) {
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

SpoolStatement::SpoolStatement(SpoolDatabase& database, const char* sql) : database_(database) {
  sqlite3_stmt* prepared = nullptr;
  database.check(sqlite3_prepare_v3(database.handle(), sql, -1, SQLITE_PREPARE_PERSISTENT, &prepared, nullptr), sql);
  statement_.reset(prepared);
}

void SpoolStatement::Finalize::operator()(sqlite3_stmt* statement) const noexcept {
  sqlite3_finalize(statement);
}

SpoolStatement& SpoolStatement::reset() noexcept {
  sqlite3_reset(statement_.get());
  next_ = 1;
  return *this;
}

SpoolStatement& SpoolStatement::bind(std::int64_t value) {
  return checked(sqlite3_bind_int64(statement_.get(), next_++, value));
}

SpoolStatement& SpoolStatement::text(std::string_view value) {
  return checked(
      sqlite3_bind_text64(statement_.get(), next_++, value.data(), value.size(), SQLITE_STATIC, SQLITE_UTF8));
}

SpoolStatement& SpoolStatement::blob(std::string_view value) {
  return checked(
      sqlite3_bind_blob64(statement_.get(), next_++, value.empty() ? "" : value.data(), value.size(), SQLITE_STATIC));
}

bool SpoolStatement::row() {
  const int result = sqlite3_step(statement_.get());
  if (result == SQLITE_ROW) return true;
  sqlite3_reset(statement_.get());
  if (result != SQLITE_DONE) database_.check(result, sqlite3_sql(statement_.get()));
  return false;
}

std::int64_t SpoolStatement::integer(int column) const noexcept {
  return sqlite3_column_int64(statement_.get(), column);
}

bool SpoolStatement::is_null(int column) const noexcept {
  return sqlite3_column_type(statement_.get(), column) == SQLITE_NULL;
}

std::string_view SpoolStatement::bytes(int column) const noexcept {
  const void* data = sqlite3_column_blob(statement_.get(), column);
  const int size = sqlite3_column_bytes(statement_.get(), column);
  return data == nullptr ? std::string_view{}
                         : std::string_view{static_cast<const char*>(data), static_cast<std::size_t>(size)};
}

SpoolStatement& SpoolStatement::checked(int result) {
  database_.check(result, sqlite3_sql(statement_.get()));
  return *this;
}

}  // namespace visitd
