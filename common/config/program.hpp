// What the start of every program has in common: --config, --check-config, --reload, --help-settings, --version.
// program.cpp and ctl/main.cpp are the users of CLI11.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "common/config/live_settings.hpp"

namespace visitd {

/// The version of all our programs, such as "0.1.0".
[[nodiscard]] std::string_view program_version() noexcept;

/// A flag of one program alone.
struct ProgramFlag {
  std::string name;  ///< e.g. "--renew-spool"
  std::string help;
  bool* set;
};

/// Reads the command line and the settings, starts the log, and runs, with SIGHUP held back. Returns the exit status:
/// what `run` returned; 1 with a line in the log where it threw; 2 where command line or settings are wrong. As a
/// command of a systemd unit it waits 5 s before it returns such a failure, if it failed within 30 s: the unit starts
/// it again at once, and would do so in a fast loop.
[[nodiscard]] int run_program(int argc, char** argv, const std::string& name, const std::string& about, Secrets secrets,
                              const std::vector<ProgramFlag>& flags, const std::function<int(LiveSettings&)>& run);

}  // namespace visitd
