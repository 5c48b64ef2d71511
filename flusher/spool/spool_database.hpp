// The spool's SQLite file, opened, and its statements. spool_database.cpp is the sole user of SQLite. Knows no table.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "common/os/errors.hpp"
#include "flusher/counting/spool_state.hpp"

struct sqlite3;
struct sqlite3_stmt;

namespace visitd {

/// Another process has the file open.
struct SpoolHeld : Error {
  using Error::Error;
};

/// WAL, synchronous=FULL, exclusive. Used from one thread at a time. Where SQLite fails, all of it throws SpoolFull,
/// SpoolHeld, or Error that names the file and what to do.
class SpoolDatabase {
 public:
  /// Opens nothing yet.
  explicit SpoolDatabase(std::string path) : path_(std::move(path)) {}
  SpoolDatabase(const SpoolDatabase&) = delete;
  SpoolDatabase& operator=(const SpoolDatabase&) = delete;

  /// Opens the file under the path, which exists.
  void open();
  /// The file gets a write-ahead log, if it has none.
  void keep_log();
  /// Whatever lies under the log's name is not ours: closing leaves it alone.
  void leave_log() noexcept;
  [[nodiscard]] bool is_open() const noexcept { return handle_ != nullptr; }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

  void execute(const char* sql);
  /// The first column of the first row; 0: there is no row.
  [[nodiscard]] std::int64_t number_of(const char* sql);
  /// Rows that the last statement changed.
  [[nodiscard]] int changes() const noexcept;
  [[nodiscard]] bool in_transaction() const noexcept;
  /// Copies the write-ahead log into the file, if it has at least so many pages, or if the disk would soon have no room
  /// to do so.
  void carry_log(int limit);
  /// All of the write-ahead log goes into the file itself.
  void checkpoint() { execute("PRAGMA wal_checkpoint(TRUNCATE)"); }

  [[nodiscard]] Error damaged(std::string_view row, std::string_view how) const;

 private:
  friend class SpoolStatement;
  struct Close {
    void operator()(sqlite3* handle) const noexcept;
  };

  [[nodiscard]] sqlite3* handle() const noexcept { return handle_.get(); }
  /// `result`: of a call of SQLite. Throws where it is a failure; `doing`: for the message.
  void check(int result, const char* doing);
  [[nodiscard]] bool log_may_fill_disk() const noexcept;

  std::string path_;
  std::unique_ptr<sqlite3, Close> handle_;
  int log_pages_ = 0;
};

/// A prepared statement, used again and again. Its values are bound in order: reset() first.
class SpoolStatement {
 public:
  SpoolStatement(SpoolDatabase& database, const char* sql);

  SpoolStatement& reset() noexcept;
  SpoolStatement& bind(std::int64_t value);
  SpoolStatement& bind(std::uint64_t value) { return bind(static_cast<std::int64_t>(value)); }
  SpoolStatement& bind(std::uint32_t value) { return bind(std::int64_t{value}); }
  /// The text lives until the statement has run.
  SpoolStatement& text(std::string_view value);
  /// The bytes live until the statement has run.
  SpoolStatement& blob(std::string_view value);

  /// True: there is a row. After the last one the statement is reset.
  [[nodiscard]] bool row();
  /// Runs a statement that gives no rows.
  void run() {
    while (row()) {
    }
  }

  [[nodiscard]] std::int64_t integer(int column) const noexcept;
  [[nodiscard]] std::uint64_t number(int column) const noexcept { return static_cast<std::uint64_t>(integer(column)); }
  [[nodiscard]] std::uint32_t bucket(int column) const noexcept { return static_cast<std::uint32_t>(integer(column)); }
  [[nodiscard]] bool is_null(int column) const noexcept;
  /// A text or blob; valid until the next row.
  [[nodiscard]] std::string_view bytes(int column) const noexcept;

 private:
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const noexcept;
  };
  SpoolStatement& checked(int result);

  SpoolDatabase& database_;
  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
  int next_ = 1;
};

}  // namespace visitd
