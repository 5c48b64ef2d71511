#include "ctl/processes.hpp"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>

#include "common/os/errors.hpp"

namespace visitd {

namespace {

/// A process id from a name in /proc; nullopt: it is none.
std::optional<int> process_id(const std::string& text) {
  int id = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), id);
  return fault == std::errc() && end == text.data() + text.size() && id > 0 ? std::optional(id) : std::nullopt;
}

/// Segments of another IPC namespace bear the same numbers as ours.
bool has_our_segments(const std::filesystem::path& process) {
  std::error_code refused;
  const auto theirs = std::filesystem::read_symlink(process / "ns/ipc", refused);
  if (refused) return true;
  const auto ours = std::filesystem::read_symlink("/proc/self/ns/ipc", refused);
  return refused || theirs == ours;
}

}  // namespace

bool is_process(std::uint64_t noted) {
  return noted > 0 && noted <= std::uint64_t{std::numeric_limits<int>::max()} &&
         !process_name(static_cast<int>(noted)).empty();
}

std::string unit_of(int process) {
  std::ifstream file(fmt::format("/proc/{}/cgroup", process));
  for (std::string line; std::getline(file, line);) {
    // HIERARCHY:CONTROLLERS:/visitd.slice/visit-flusher.service
    const std::string unit = line.substr(line.rfind('/') + 1);
    if (unit.ends_with(".service")) return unit;
  }
  return {};
}

std::optional<std::uint64_t> process_uptime_ms(int process) {
  std::ifstream file(fmt::format("/proc/{}/stat", process));
  std::string line;
  std::getline(file, line);
  // The name in parentheses may hold anything. The start, in ticks since the boot, is the 22nd field, 20th behind it.
  const std::size_t behind_name = line.rfind(')');
  if (behind_name == std::string::npos) return std::nullopt;
  std::istringstream fields(line.substr(behind_name + 1));
  constexpr int fields_before_start = 19;
  std::string skipped;
  for (int i = 0; i < fields_before_start; ++i) fields >> skipped;
  std::uint64_t start_ticks = 0;
  timespec now{};
  const long ticks_per_s = sysconf(_SC_CLK_TCK);
  if (!(fields >> start_ticks) || ticks_per_s <= 0 || clock_gettime(CLOCK_BOOTTIME, &now) != 0) return std::nullopt;
  const std::uint64_t now_ms =
      static_cast<std::uint64_t>(now.tv_sec) * 1000 + static_cast<std::uint64_t>(now.tv_nsec) / 1'000'000;
  const std::uint64_t start_ms = start_ticks * 1000 / static_cast<std::uint64_t>(ticks_per_s);
  return now_ms > start_ms ? now_ms - start_ms : 0;
}

std::map<int, std::vector<AttachedProcess>> attached_processes(const std::vector<int>& segments) {
  std::map<int, std::vector<AttachedProcess>> attached;
  std::error_code fault;
  for (std::filesystem::directory_iterator entry("/proc", fault), end; !fault && entry != end; entry.increment(fault)) {
    const auto process = process_id(entry->path().filename().string());
    if (!process || *process == getpid() || !has_our_segments(entry->path())) continue;
    std::ifstream maps(entry->path() / "maps");
    for (std::string line; std::getline(maps, line);) {
      if (line.find("/SYSV") == std::string::npos) continue;
      std::istringstream fields(line);
      std::string range;
      std::string access;
      std::string offset;
      std::string device;
      std::uint64_t segment = 0;  // the inode of a System V segment is its id
      if (!(fields >> range >> access >> offset >> device >> segment)) continue;
      const auto wanted = std::find_if(segments.begin(), segments.end(),
                                       [&](int id) { return id >= 0 && static_cast<std::uint64_t>(id) == segment; });
      if (wanted == segments.end()) continue;
      auto& processes = attached[*wanted];
      if (processes.empty() || processes.back().process != *process) {
        processes.push_back({*process, process_name(*process), 0, false});
      }
      // A mapping of several pieces was attached once.
      if (offset.find_first_not_of('0') == std::string::npos) ++processes.back().times;
      processes.back().writes |= access.size() > 1 && access[1] == 'w';
    }
  }
  return attached;
}

}  // namespace visitd
