#include "common/os/file_lease.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <thread>

#include "common/os/advice.hpp"
#include "common/os/errors.hpp"

namespace visitd {

namespace {

constexpr std::chrono::milliseconds take_pause{10};

FileIdentity identity_of(const struct stat& state) noexcept {
  return {state.st_dev, state.st_ino};
}

/// Opens for reading, makes it where missing and where we may.
UniqueFd open_lock_file(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  for (int tries = 0; !fd && errno == ENOENT && tries < 100; ++tries) {
    // Exclusively: of two users who make it at once only the owner may set its mode.
    fd.reset(open(path.c_str(), O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640));
    if (fd) {
      if (fchmod(fd.get(), 0640) != 0) throw system_error("{}: cannot set its mode to 0640", path);
    } else if (errno == EEXIST) {
      fd.reset(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    }
  }
  if (!fd) throw system_error("the lock file {} cannot be opened; {}", path, advice_for_path(errno, path));
  return fd;
}

FileIdentity identity_of(const UniqueFd& fd, const std::string& path) {
  struct stat state{};
  if (fstat(fd.get(), &state) != 0) throw system_error("{}: cannot be looked at", path);
  return identity_of(state);
}

}  // namespace

std::optional<FileIdentity> file_identity(const std::string& path) {
  struct stat state{};
  if (stat(path.c_str(), &state) != 0) {
    if (errno == ENOENT || errno == ENOTDIR) return std::nullopt;
    throw system_error("{}: cannot be looked at", path);
  }
  return identity_of(state);
}

FileIdentity ensure_lock_file(const std::string& path) {
  return identity_of(open_lock_file(path), path);
}

std::optional<FileLease> FileLease::try_take(const std::string& path) {
  for (int tries = 0; tries < 100; ++tries) {
    UniqueFd fd = open_lock_file(path);
    while (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno == EINTR) continue;
      if (errno == EWOULDBLOCK) return std::nullopt;
      throw system_error("{}: cannot be locked", path);
    }
    FileLease lease(path, std::move(fd), {});
    lease.identity_ = identity_of(lease.fd_, path);
    if (lease.still_named()) return lease;  // else it was replaced between open and lock
  }
  throw error("{}: the lock file is replaced again and again; something removes it", path);
}

std::optional<FileLease> FileLease::take(const std::string& path, std::chrono::milliseconds patience) {
  for (std::chrono::milliseconds waited{0};; waited += take_pause) {
    if (auto lease = try_take(path)) return lease;
    if (waited >= patience) return std::nullopt;
    std::this_thread::sleep_for(take_pause);
  }
}

bool FileLease::still_named() const {
  const auto now = file_identity(path_);
  return now && *now == identity_;
}

LockWatch::LockWatch(const std::string& path, FileIdentity expected) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd && identity_of(fd, path) == expected) fd_ = std::move(fd);
}

bool LockWatch::is_free() const {
  if (!fd_ || flock(fd_.get(), LOCK_SH | LOCK_NB) != 0) return false;
  flock(fd_.get(), LOCK_UN);
  return true;
}

}  // namespace visitd
