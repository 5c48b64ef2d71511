#include "common/os/held_locks.hpp"

#include <fmt/format.h>
#include <sys/sysmacros.h>

#include <fstream>
#include <sstream>

namespace visitd {

namespace {

/// "fe:00:1234" as /proc/locks has it.
std::optional<FileIdentity> parse_file(const std::string& text) {
  std::istringstream fields(text);
  unsigned major_number = 0;
  unsigned minor_number = 0;
  std::uint64_t inode = 0;
  char first_colon = 0;
  char second_colon = 0;
  fields >> std::hex >> major_number >> first_colon >> minor_number >> second_colon >> std::dec >> inode;
  if (!fields || first_colon != ':' || second_colon != ':') return std::nullopt;
  return FileIdentity{makedev(major_number, minor_number), inode};
}

}  // namespace

HeldLocks::HeldLocks() {
  std::ifstream locks("/proc/locks");
  for (std::string line; std::getline(locks, line);) {
    std::istringstream fields(line);
    std::string number;
    std::string kind;
    std::string strictness;
    std::string access;
    int process = 0;
    std::string file;
    if (!(fields >> number >> kind >> strictness >> access >> process >> file)) continue;  // also those who wait
    if (kind != "FLOCK" || access != "WRITE") continue;
    if (const auto identity = parse_file(file)) held_.push_back({process, *identity});
  }
}

std::optional<int> HeldLocks::holder(const FileIdentity& file, std::uint64_t expected) const {
  for (const Held& held : held_) {
    if (held.file == file) return held.process;
  }
  for (const Held& held : held_) {
    if (held.file.inode == file.inode && held.process > 0 && static_cast<std::uint64_t>(held.process) == expected) {
      return held.process;
    }
  }
  return std::nullopt;
}

std::string process_name(int process) {
  std::string name;
  std::getline(std::ifstream(fmt::format("/proc/{}/comm", process)), name);
  return name;
}

std::string lock_holder(const std::string& path) {
  const auto file = file_identity(path);
  const auto holder = file ? HeldLocks().holder(*file) : std::nullopt;
  if (!holder || *holder <= 0) return "another process";
  const std::string name = process_name(*holder);
  return name.empty() ? fmt::format("process {}", *holder) : fmt::format("process {} ({})", *holder, name);
}

}  // namespace visitd
