// Ownership by file lock: whoever holds the lock of a small file owns what it stands for. The kernel releases it when
// the owner dies. flock on a read-only descriptor, so that a process that can write no file can hold one.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "common/os/unique_fd.hpp"

namespace visitd {

/// Device and inode: two files of one name are told apart.
struct FileIdentity {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  friend bool operator==(const FileIdentity&, const FileIdentity&) = default;
};

/// Of the file at `path` now; nullopt: there is none.
[[nodiscard]] std::optional<FileIdentity> file_identity(const std::string& path);

/// Makes the lock file (mode 0640) where it does not exist.
FileIdentity ensure_lock_file(const std::string& path);

/// An exclusive lock, held until it goes.
class FileLease {
 public:
  /// Takes the lock; nullopt: somebody holds it. The file is made where missing.
  [[nodiscard]] static std::optional<FileLease> try_take(const std::string& path);
  /// Takes the lock, waits for it; nullopt: somebody held it all the time.
  [[nodiscard]] static std::optional<FileLease> take(const std::string& path, std::chrono::milliseconds patience);

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] FileIdentity identity() const noexcept { return identity_; }
  /// False: the path now names another file or none, so another process could take a lock of the same name.
  [[nodiscard]] bool still_named() const;

 private:
  FileLease(std::string path, UniqueFd fd, FileIdentity identity) noexcept
      : path_(std::move(path)), fd_(std::move(fd)), identity_(identity) {}
  std::string path_;
  UniqueFd fd_;
  FileIdentity identity_;
};

/// Watches a lock file that others may hold: whether nobody does.
class LockWatch {
 public:
  /// `expected`: the file's identity. The watch is empty where the path names another file.
  LockWatch(const std::string& path, FileIdentity expected);
  /// True: nobody holds it at this moment. False also where the file is out of reach.
  [[nodiscard]] bool is_free() const;

 private:
  UniqueFd fd_;
};

}  // namespace visitd
