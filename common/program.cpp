#include "common/program.hpp"

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <exception>
#include <iostream>
#include <optional>
#include <sstream>

#include "common/log.hpp"
#include "common/standard_output.hpp"

namespace visitd {

namespace {

/// Prints what was asked for instead of running; the exit status.
int print(const std::string& name, const std::string& text) {
  try {
    write_output(text);
    return 0;
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "%s: %s\n", name.c_str(), failure.what());
    return 1;
  }
}

}  // namespace

std::string_view program_version() noexcept {
  return VISITD_VERSION;
}

int run_program(int argc, char** argv, const std::string& name, const std::string& about, Secrets secrets,
                const std::vector<ProgramFlag>& flags, const std::function<int(LiveSettings&)>& run) {
  CLI::App app(about, name);
  std::string config;
  bool check_config = false;
  bool help_settings = false;
  app.add_option("--config", config, "Settings file (TOML); without it the defaults and the environment count");
  app.add_flag("--check-config", check_config, "Print the settings as they count, and exit");
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
    std::fprintf(stderr, "%s: %s\n", name.c_str(), fault.what());
    return 2;
  }
  if (check_config) return print(name, to_toml(settings->get()));
  log::start(name, settings->get().debug);
  hold_reload_signal();
  std::signal(SIGPIPE, SIG_IGN);
  try {
    return run(*settings);
  } catch (const std::exception& failure) {
    log::error("{}", failure.what());
    return 1;
  }
}

}  // namespace visitd
