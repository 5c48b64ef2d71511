#include "common/program.hpp"

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <exception>
#include <optional>

#include "common/log.hpp"

namespace visitd {

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
  } catch (const CLI::ParseError& fault) {
    return app.exit(fault) == 0 ? 0 : 2;
  }
  if (help_settings) {
    std::fputs(settings_help().c_str(), stdout);
    return 0;
  }
  std::optional<LiveSettings> settings;
  try {
    settings.emplace(config, secrets);
  } catch (const std::exception& fault) {
    std::fprintf(stderr, "%s: %s\n", name.c_str(), fault.what());
    return 2;
  }
  if (check_config) {
    std::fputs(to_toml(settings->get()).c_str(), stdout);
    return 0;
  }
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
