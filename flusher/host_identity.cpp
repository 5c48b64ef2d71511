#include "flusher/host_identity.hpp"

#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <fstream>

namespace visitd {

namespace {

std::string first_line(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::string link_target(const char* path) {
  std::array<char, 64> target{};
  const ssize_t length = readlink(path, target.data(), target.size());
  return length < 0 ? std::string() : std::string(target.data(), static_cast<std::size_t>(length));
}

}  // namespace

HostIdentity host_identity() {
  utsname names{};
  const bool named = uname(&names) == 0;
  return {first_line("/etc/machine-id"), first_line("/proc/sys/kernel/random/boot_id"),
          named ? std::string(static_cast<const char*>(names.nodename)) : std::string(),
          link_target("/proc/self/ns/pid") + " " + link_target("/proc/self/ns/ipc")};
}

std::string difference(const HostIdentity& one, const HostIdentity& other) {
  std::string parts;
  const auto add = [&](const std::string& a, const std::string& b, const char* name) {
    if (a == b) return;
    if (!parts.empty()) parts += ", ";
    parts += name;
  };
  add(one.machine, other.machine, "the machine's id");
  add(one.boot, other.boot, "the boot id");
  add(one.host, other.host, "the host's name");
  add(one.namespaces, other.namespaces, "the namespaces");
  return parts;
}

}  // namespace visitd
