// Has the flusher change counts: looks what they are before, asks somebody before one falls, and says what became of
// each.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/config/settings.hpp"
#include "common/control/control_protocol.hpp"
#include "ctl/report.hpp"

namespace visitd {

/// The problem of a page in whose place Redis holds no number.
inline constexpr std::string_view no_count = "Redis holds no count of it";

/// What is to become of a page, and what became of it.
struct WantedChange {
  ControlChange change;
  std::optional<std::uint64_t> now = {};  ///< what it counts before, as far as it is known
  std::optional<std::uint64_t> becomes = {};
  std::string problem = {};
  bool done = false;
};

/// How changes are made.
struct ChangingCounts {
  bool dry_run = false;  ///< only says what would change
  bool yes = false;      ///< nobody is asked before a count falls
  std::uint32_t timeout_ms = 0;
  std::string with_yes;  ///< the command line that does it without asking, for a hint
};

/// Throws Error where a page cannot be, or is to be changed twice.
void check_changes(const std::vector<WantedChange>& changes, std::size_t page_id_limit);

/// Finds out what the pages count before, with what is not in Redis yet.
void look_at(const Settings& settings, std::vector<WantedChange>& changes);
/// From what a page counts and what is asked for, what it will count.
void foresee(WantedChange& change);

/// Asks and changes, and says in `report` what became of it. `changes` were looked at.
void make_changes(const Settings& settings, std::vector<WantedChange>& changes, const ChangingCounts& how,
                  Json& report);
[[nodiscard]] std::string changes_text(const Json& report);

}  // namespace visitd
