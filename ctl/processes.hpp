// What the kernel says of processes: whether they live, and who has a segment attached.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/os/held_locks.hpp"

namespace visitd {

/// Whether there is a process of an id that shared memory says.
[[nodiscard]] bool is_process(std::uint64_t noted);

/// The unit of systemd that runs a process; empty: none that can be seen.
[[nodiscard]] std::string unit_of(int process);

/// How long ago a process started. nullopt: this process cannot see it.
[[nodiscard]] std::optional<std::uint64_t> process_uptime_ms(int process);

/// A process that has a segment attached.
struct AttachedProcess {
  int process = 0;
  std::string name;
  std::uint64_t times = 0;
  bool writes = false;
};
/// Those of each segment id, ourselves left out; processes that this user may not look at are missing.
[[nodiscard]] std::map<int, std::vector<AttachedProcess>> attached_processes(const std::vector<int>& segments);

}  // namespace visitd
