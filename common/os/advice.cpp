#include "common/os/advice.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <vector>

#include "common/os/user_names.hpp"

namespace visitd {

namespace {

/// Puts errno back when it goes.
class KeptErrno {
 public:
  KeptErrno() noexcept = default;
  KeptErrno(const KeptErrno&) = delete;
  KeptErrno& operator=(const KeptErrno&) = delete;
  ~KeptErrno() { errno = number_; }

 private:
  int number_ = errno;
};

/// "user visitd-frontend of the groups visitd, adm".
std::string this_process() {
  std::vector<gid_t> groups(static_cast<std::size_t>(std::max(getgroups(0, nullptr), 0)));
  const int count = getgroups(static_cast<int>(groups.size()), groups.data());
  groups.resize(static_cast<std::size_t>(std::max(count, 0)));
  if (std::find(groups.begin(), groups.end(), getegid()) == groups.end()) groups.insert(groups.begin(), getegid());
  std::vector<std::string> names;
  names.reserve(groups.size());
  for (const gid_t id : groups) names.push_back(group_name(id));
  return fmt::format("user {} of the groups {}", user_name(geteuid()), fmt::join(names, ", "));
}

std::string parent_of(const std::string& path) {
  const std::size_t slash =
      path.find_last_not_of('/') == std::string::npos ? 0 : path.rfind('/', path.find_last_not_of('/'));
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

/// The nearest of `path` and what it stands in that exists.
std::string nearest(std::string path, struct stat& state) {
  constexpr int most_steps = 64;
  for (int steps = 0; steps < most_steps && ::stat(path.c_str(), &state) != 0 && path != "/" && path != "."; ++steps) {
    path = parent_of(path);
  }
  return path;
}

struct SegmentOwner {
  uid_t user = 0;
  gid_t group = 0;
  std::string mode;
};

/// What the kernel shows of a segment to everybody.
std::optional<SegmentOwner> owner_of_segment(int id) {
  std::ifstream table("/proc/sysvipc/shm");
  table.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  for (std::string line; std::getline(table, line);) {
    // key shmid perms size cpid lpid nattch uid gid …
    std::istringstream fields(line);
    std::string key;
    std::string mode;
    int segment = -1;
    std::uint64_t skipped = 0;
    SegmentOwner owner;
    fields >> key >> segment >> mode >> skipped >> skipped >> skipped >> skipped >> owner.user >> owner.group;
    if (!fields || segment != id) continue;
    owner.mode = mode;
    return owner;
  }
  return std::nullopt;
}

}  // namespace

std::string advice_for_path(int number, const std::string& path) {
  const KeptErrno kept;
  struct stat state{};
  const std::string exists = nearest(path, state);
  switch (number) {
    case EACCES:
    case EPERM:
      return fmt::format("{} belongs to user {} and group {}, mode {:o}; this process is {}", exists,
                         user_name(state.st_uid), group_name(state.st_gid), state.st_mode & 07777U, this_process());
    case ENOSPC:
    case EDQUOT:
      return fmt::format("the file system of {} is full: make room there (df {} and df -i {} show it)", exists, exists,
                         exists);
    case EROFS:
      return fmt::format("{} is read-only for this process (of a unit, ReadWritePaths= may say otherwise)", exists);
    case ENOENT:
    case ENOTDIR:
      return exists == parent_of(path) || exists == path
                 ? fmt::format("{} is there, and refuses the new name", exists)
                 : fmt::format("{} does not exist, {} does", parent_of(path), exists);
    default:
      return fmt::format("look at {}", exists);
  }
}

std::string advice_for_segment(int id) {
  const KeptErrno kept;
  const std::optional<SegmentOwner> owner = owner_of_segment(id);
  if (!owner) return fmt::format("this process is {}", this_process());
  return fmt::format("it belongs to user {} and group {}, mode {}; this process is {}", user_name(owner->user),
                     group_name(owner->group), owner->mode, this_process());
}

}  // namespace visitd
