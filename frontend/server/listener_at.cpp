#include "frontend/server/listener_at.hpp"

#include <fmt/format.h>
#include <sys/types.h>

#include <charconv>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string_view>

#include "common/os/held_locks.hpp"
#include "common/os/user_names.hpp"

namespace visitd {

namespace {

namespace fs = std::filesystem;

struct ListeningEnd {
  std::string inode;
  uid_t user = 0;
};

/// Of the kernel's tables, which everybody may read.
std::optional<ListeningEnd> listening_end(std::uint16_t port) {
  const std::string local = fmt::format(":{:04X}", port);
  constexpr std::string_view listens = "0A";
  for (const char* table : {"/proc/net/tcp", "/proc/net/tcp6"}) {
    std::ifstream file(table);
    for (std::string line; std::getline(file, line);) {
      // sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode …
      std::istringstream fields(line);
      std::string slot;
      std::string at;
      std::string from;
      std::string state;
      std::string skipped;
      ListeningEnd end;
      fields >> slot >> at >> from >> state >> skipped >> skipped >> skipped >> end.user >> skipped >> end.inode;
      if (fields && at.ends_with(local) && state == listens) return end;
    }
  }
  return std::nullopt;
}

bool holds(const fs::path& process, const std::string& socket) {
  std::error_code refused;
  for (fs::directory_iterator fd(process / "fd", refused), end; !refused && fd != end; fd.increment(refused)) {
    std::error_code gone;
    if (fs::read_symlink(fd->path(), gone) == socket) return true;
  }
  return false;
}

/// The process that holds a socket; nullopt: none that this process may look at.
std::optional<int> holder_of(const std::string& inode) {
  const std::string socket = fmt::format("socket:[{}]", inode);
  std::error_code fault;
  for (fs::directory_iterator entry("/proc", fault), end; !fault && entry != end; entry.increment(fault)) {
    const std::string name = entry->path().filename();
    int process = 0;
    const auto [last, failed] = std::from_chars(name.data(), name.data() + name.size(), process);
    if (failed == std::errc() && last == name.data() + name.size() && holds(entry->path(), socket)) return process;
  }
  return std::nullopt;
}

}  // namespace

std::string listener_at(std::uint16_t port) {
  const auto end = listening_end(port);
  if (!end) return "another program";
  if (const auto process = holder_of(end->inode)) {
    const std::string name = process_name(*process);
    if (*process == 1 && name == "systemd") return "systemd, for a socket unit (systemctl list-sockets names it)";
    return fmt::format("process {} ({})", *process, name);
  }
  return fmt::format("a process of user {}", user_name(end->user));
}

unsigned first_unprivileged_port() {
  constexpr unsigned usual = 1024;
  unsigned first = usual;
  std::ifstream("/proc/sys/net/ipv4/ip_unprivileged_port_start") >> first;
  return first;
}

}  // namespace visitd
