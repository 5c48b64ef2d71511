#include "common/config/program.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <exception>
#include <iostream>
#include <optional>
#include <sstream>
#include <thread>

#include "common/os/log.hpp"
#include "common/os/service_manager.hpp"
#include "common/os/standard_output.hpp"

namespace visitd {

namespace {

/// Prints what was asked for instead of running; the exit status.
int print(const std::string& name, const std::string& text) {
  try {
    write_output(text);
    return 0;
  } catch (const std::exception& failure) {
    log::refuse(name, failure.what());
    return 1;
  }
}

/// Lets a process that was started with the same settings read them again; the exit status.
int reload(const std::string& name, pid_t pid) {
  if (pid > 0 && ::kill(pid, SIGHUP) == 0) return 0;
  log::refuse(name, fmt::format("--reload {}: {}", pid, pid > 0 ? std::strerror(errno) : "is no process id"));
  return 1;
}

/// What fails because something around the program is wrong fails again. RestartSteps= of systemd 254 would not do: it
/// never forgets a restart, so that a process that was killed ten times in a year would be away for long.
class RestartPace {
 public:
  /// Before a failed process ends. SIGTERM and SIGINT end it at once.
  void slow_down() const {
    if (!started_by_service_manager() || std::chrono::steady_clock::now() - started_ > soon) return;
    std::signal(SIGTERM, SIG_DFL);
    std::signal(SIGINT, SIG_DFL);
    std::this_thread::sleep_for(pause);
  }

 private:
  static constexpr std::chrono::seconds soon{30};
  static constexpr std::chrono::seconds pause{5};
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
};

}  // namespace

std::string_view program_version() noexcept {
  return VISITD_VERSION;
}

int run_program(int argc, char** argv, const std::string& name, const std::string& about, Secrets secrets,
                const std::vector<ProgramFlag>& flags, const std::function<int(LiveSettings&)>& run) {
  const RestartPace pace;
  CLI::App app(about, name);
  std::string config;
  bool check_config = false;
  std::optional<pid_t> reload_pid;
  bool help_settings = false;
  app.add_option("--config", config, "Settings file (TOML); without it the defaults and the environment count");
  app.add_flag("--check-config", check_config, "Print the settings as they count, and exit");
  app.add_option("--reload", reload_pid, "Check the settings, have the process with this id read them again, and exit");
  app.add_flag("--help-settings", help_settings, "Print every setting with default, unit and bounds, and exit");
  app.set_version_flag("--version", name + " " + std::string(program_version()));
  for (const ProgramFlag& flag : flags) app.add_flag(flag.name, *flag.set, flag.help);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& end) {
    std::ostringstream wanted;
    if (app.exit(end, wanted, std::cerr) != 0) return 2;
    return print(name, wanted.str());
  }
  if (help_settings) return print(name, settings_help());
  std::optional<LiveSettings> settings;
  try {
    settings.emplace(config, secrets);
  } catch (const std::exception& fault) {
    log::refuse(name, fault.what());
    if (!reload_pid) pace.slow_down();
    return 2;
  }
  if (reload_pid) return reload(name, *reload_pid);
  if (check_config) return print(name, to_toml(settings->get()));
  log::start(name, settings->get().log.debug);
  hold_reload_signal();
  std::signal(SIGPIPE, SIG_IGN);
  try {
    return run(*settings);
  } catch (const std::exception& failure) {
    log::error("{}", failure.what());
    pace.slow_down();
    return 1;
  }
}

}  // namespace visitd
