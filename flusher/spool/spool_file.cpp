#include "flusher/spool/spool_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>

#include "common/os/advice.hpp"
#include "common/os/clock.hpp"
#include "common/os/errors.hpp"
#include "common/os/log.hpp"
#include "common/os/unique_fd.hpp"

namespace visitd {

namespace {

constexpr const char* log_ending = "-wal";
constexpr const char* index_ending = "-shm";

void rename_file(const std::string& from, const std::string& to) {
  if (std::rename(from.c_str(), to.c_str()) != 0) throw system_error("{}: cannot be renamed to {}", from, to);
}

}  // namespace

void sync_directory(const std::string& path) {
  const UniqueFd directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory || ::fsync(directory.get()) != 0) throw system_error("{}: cannot sync the directory", path);
}

std::string free_path(const std::string& base) {
  std::string path = base;
  for (unsigned next = 2; std::filesystem::exists(path); ++next) path = fmt::format("{}-{}", base, next);
  return path;
}

SpoolFile::SpoolFile(std::string directory) : directory_(std::move(directory)), path_(directory_ + "/spool.db") {}

void SpoolFile::make_directory() const {
  if (::mkdir(directory_.c_str(), 0700) == 0) {
    sync_directory(directory_ + "/..");
  } else if (errno != EEXIST) {
    throw system_error("the state directory {} (paths.state_directory) cannot be made; {}", directory_,
                       advice_for_path(errno, directory_));
  }
}

void SpoolFile::make() {
  make_directory();
  recover();
  // Never opened by us when it exists: closing it would drop the lock that SQLite may hold on it in this process.
  const UniqueFd made(::open(path_.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600));
  if (!made && errno != EEXIST)
    throw system_error("the spool {} cannot be made; {}", path_, advice_for_path(errno, path_));
  if (made) sync_directory(directory_);
}

void SpoolFile::recover() {
  if (!file_identity(path_ + ".rescued")) return;
  const std::string found = take_place();
  log::warning(
      "the spool {} had been removed or replaced under the former flusher, which had written it to a new file{}", path_,
      found.empty() ? "" : fmt::format("; what lay there is kept as {}", found));
}

void SpoolFile::note() {
  open_ = file_identity(path_);
  open_log_ = file_identity(path_ + log_ending);
}

bool SpoolFile::note_replacement() {
  if (!finished_ || file_identity(path_) != finished_) return false;
  open_ = finished_;
  open_log_ = file_identity(path_ + log_ending);
  return true;
}

std::string SpoolFile::displaced() const {
  const auto now = file_identity(path_);
  if (!now) return "was removed";
  if (now != open_) return "was replaced by another file";
  if (!open_log_ || file_identity(path_ + log_ending) != open_log_)
    return "has lost its write-ahead log (spool.db-wal)";
  return {};
}

std::string SpoolFile::draft() const {
  make_directory();
  const std::string path = path_ + ".rescuing";
  ::unlink(path.c_str());
  const UniqueFd made(::open(path.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600));
  if (!made) throw system_error("{} cannot be made; {}", path, advice_for_path(errno, path));
  return path;
}

void SpoolFile::finish_draft() {
  const std::string path = path_ + ".rescuing";
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd || ::fsync(fd.get()) != 0) throw system_error("{}: cannot be synced", path);
  finished_ = file_identity(path);
  rename_file(path, path_ + ".rescued");
  sync_directory(directory_);
}

std::string SpoolFile::make_way() const {
  // The log first: beside another file SQLite would take it for that one's.
  std::string kept;
  for (const char* ending : {log_ending, index_ending, ""}) {
    const std::string name = path_ + ending;
    const auto now = file_identity(name);
    if (!now) continue;
    if (now == open_ || now == open_log_ || now == finished_) {
      if (::unlink(name.c_str()) != 0) throw system_error("{}: cannot be removed", name);
      continue;
    }
    if (kept.empty()) kept = free_path(fmt::format("{}.found-{}", path_, unix_seconds()));
    rename_file(name, kept + ending);
  }
  return kept;
}

std::string SpoolFile::take_place() {
  std::string kept = make_way();
  rename_file(path_ + ".rescued", path_);
  sync_directory(directory_);
  return kept;
}

void SpoolFile::drop_draft() const noexcept {
  ::unlink((path_ + ".rescued").c_str());
  ::unlink((path_ + ".rescuing").c_str());
}

}  // namespace visitd
