#include "flusher/spool/spool.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <utility>

#include "common/os/clock.hpp"
#include "common/os/log.hpp"
#include "common/shm/ring.hpp"
#include "flusher/spool/spool_database.hpp"
#include "flusher/spool/spool_file.hpp"
#include "flusher/spool/spool_loader.hpp"
#include "flusher/spool/spool_rows.hpp"
#include "flusher/spool/spool_schema.hpp"
#include "flusher/spool/spool_writer.hpp"

namespace visitd {

/// The open file, its database, and who writes it.
class Spool::Opened {
 public:
  Opened(const std::string& directory, const std::optional<SpoolLayout>& layout);
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;
  ~Opened();

  /// Where the file under the name is no longer the open one: writes all to a new file there, and goes on with that.
  /// Throws SpoolFull where that is not possible now.
  void look();

  [[nodiscard]] SpoolState load();
  SpoolResult apply(const Transaction& transaction) { return writer_->apply(transaction); }
  [[nodiscard]] std::string note_machine(const std::string& machine);

 private:
  void reopen();
  void begin_incarnation();

  SpoolFile file_;
  std::unique_ptr<SpoolDatabase> database_;
  std::unique_ptr<SpoolWriter> writer_;
  bool created_ = false;
  Incarnation incarnation_;
};

Spool::Opened::Opened(const std::string& directory, const std::optional<SpoolLayout>& layout)
    : file_(directory), database_(std::make_unique<SpoolDatabase>(file_.path())) {
  file_.make();
  database_->open();
  created_ = check_schema(*database_);
  database_->keep_log();
  if (created_) make_tables(*database_, hex(random_id()));
  if (layout) keep_layout(*database_, *layout);
  upgrade_schema(*database_);
  writer_ = std::make_unique<SpoolWriter>(*database_);
  begin_incarnation();
  file_.note();  // the write-ahead log is there since something was written
}

Spool::Opened::~Opened() {
  try {
    look();
  } catch (const std::exception& failure) {
    log::error("{}", failure.what());
  }
  // Closing it would remove the log that lies under its name, which is not ours.
  if (!file_.displaced().empty()) database_->leave_log();
}

void Spool::Opened::look() {
  const std::string how = file_.displaced();
  if (how.empty()) return;
  std::string kept;
  try {
    const std::string draft = file_.draft();
    SpoolStatement(*database_, "VACUUM INTO ?").text(draft).run();
    file_.finish_draft();
    kept = file_.take_place();
    reopen();
  } catch (const std::exception& failure) {
    file_.drop_draft();
    throw SpoolFull(
        fmt::format("the spool {} {} under the running flusher, which cannot write what it has open to a new file "
                    "there: {}; it tries again every few seconds. Do not end it before that is put right",
                    file_.path(), how, failure.what()));
  }
  log::warning("the spool {} {} under the running flusher; all that it held was written to a new file there{}",
               file_.path(), how,
               kept.empty() ? ""
                            : fmt::format(". The file that was found is kept as {}: to restore a copy, stop the "
                                          "flusher first",
                                          kept));
}

/// The former file holds everything, and stays open until the new one is open under its name: the process that removed
/// the former one may still be removing files, and the new one next.
void Spool::Opened::reopen() {
  auto next = std::make_unique<SpoolDatabase>(file_.path());
  std::unique_ptr<SpoolWriter> writer;
  try {
    next->open();
    next->keep_log();
    writer = std::make_unique<SpoolWriter>(*next);
    // Something is written, so that the log is there to be noted.
    next->execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('rescued', 'yes')");
    if (!file_.note_replacement()) throw error("{} was removed or replaced again", file_.path());
  } catch (const std::exception&) {
    if (next->is_open()) next->leave_log();
    throw;
  }
  writer_ = std::move(writer);
  database_->leave_log();  // the new file's log has the same name
  database_ = std::move(next);
}

void Spool::Opened::begin_incarnation() {
  incarnation_.number =
      static_cast<std::uint64_t>(database_->number_of("SELECT coalesce(max(number), 0) + 1 FROM incarnation"));
  incarnation_.random = random_id();
  const std::string random = hex(incarnation_.random);
  SpoolStatement(*database_, "INSERT INTO incarnation (number, random) VALUES (?, ?)")
      .bind(incarnation_.number)
      .text(random)
      .run();
}

SpoolState Spool::Opened::load() {
  SpoolState state = SpoolLoader(*database_).load(incarnation_);
  state.created = created_;
  return state;
}

std::string Spool::Opened::note_machine(const std::string& machine) {
  std::string former;
  {
    SpoolStatement noted(*database_, "SELECT value FROM meta WHERE key = 'machine'");
    if (noted.row()) former = noted.bytes(0);
  }
  if (former == machine) return former;
  SpoolStatement(*database_, "INSERT OR REPLACE INTO meta (key, value) VALUES ('machine', ?)").text(machine).run();
  return former;
}

Spool::Spool(const std::string& state_directory, const std::optional<SpoolLayout>& layout)
    : opened_(std::make_unique<Opened>(state_directory, layout)) {}
Spool::Spool(Spool&&) noexcept = default;
Spool& Spool::operator=(Spool&&) noexcept = default;
Spool::~Spool() = default;

SpoolState Spool::load() {
  return opened_->load();
}

SpoolResult Spool::apply(const Transaction& transaction) {
  opened_->look();
  SpoolResult result = opened_->apply(transaction);
  // What is told to be durable lies under the name.
  try {
    opened_->look();
  } catch (const SpoolFull& failure) {
    log::error("{}", failure.what());  // the next transaction waits until that is put right
  }
  return result;
}

std::string Spool::note_machine(const std::string& machine) {
  return opened_->note_machine(machine);
}

void Spool::look() {
  opened_->look();
}

SpoolPutAway Spool::put_away(const std::string& state_directory, std::uint32_t buckets) {
  const std::string file = state_directory + "/spool.db";
  SpoolFile(state_directory).recover();
  if (!std::filesystem::exists(file)) throw error("{} does not exist: there is nothing to put away", file);
  SpoolPutAway away;
  try {
    SpoolDatabase database(file);
    database.open();
    if (check_schema(database)) throw error("{} is empty", file);
    database.keep_log();
    SpoolLoader loader(database);
    away.open_visits = loader.open_visits(buckets);
    away.unanswered_batches = loader.unanswered_batches();
    database.checkpoint();
  } catch (const SpoolHeld&) {
    throw;
  } catch (const Error&) {
    // What cannot be read is put away with its write-ahead log, for somebody who can do more.
    away.open_visits.reset();
    away.unanswered_batches.reset();
  }
  away.path = free_path(fmt::format("{}.aside-{}", file, unix_seconds()));
  for (const char* ending : {"-wal", "-shm", ""}) {
    if (std::rename((file + ending).c_str(), (away.path + ending).c_str()) != 0 && errno != ENOENT) {
      throw system_error("{}{}: cannot be renamed", file, ending);
    }
  }
  sync_directory(state_directory);
  return away;
}

}  // namespace visitd
