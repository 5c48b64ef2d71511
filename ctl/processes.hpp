// What the kernel says of processes: whether they live, and who has a segment attached.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/os/held_locks.hpp"
#include "ctl/report.hpp"

namespace visitd {

/// How a process that owns something stands.
enum class Presence {
  running,  ///< holds its lock and shows that it lives
  silent,   ///< holds its lock and does not show that it lives: stopped, or stuck
  away,     ///< ended or killed
};
[[nodiscard]] std::string_view name_of(Presence presence) noexcept;

/// `noted`: the process id that the owner wrote down. `quiet_ms`: a heartbeat older than this is none.
[[nodiscard]] Presence presence_of(std::optional<int> holder, std::uint64_t noted, const Json& heartbeat_age_ms,
                                   std::uint64_t quiet_ms);

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
