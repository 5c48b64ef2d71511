// visitctl: looks at all of an instance, changes nothing unless told.

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <sstream>
#include <string_view>
#include <vector>

#include "common/config/near_names.hpp"
#include "common/config/program.hpp"
#include "common/config/settings.hpp"
#include "common/os/errors.hpp"
#include "common/os/standard_output.hpp"
#include "ctl/command_line.hpp"

namespace {

using namespace visitd;

constexpr int ok = 0;
constexpr int failed = 1;
constexpr int misused = 2;
constexpr int needs_a_look = 3;

void add_commands(CLI::App& app, Asked& asked) {
  add_looks(app, asked);
  add_lists(app, asked);
  add_embed(app, asked);
  add_shard_commands(app, asked);
  add_migrate(app, asked);
  add_writer_commands(app, asked);
  add_segment_commands(app, asked);
  add_requests(app, asked);
  add_correction_commands(app, asked);
  add_command(
      app, asked, "hold-namespaces", "do nothing until SIGTERM, in a container whose namespaces the others live in",
      [](const Settings&) {
        hold_namespaces();
        return Json::object();
      },
      [](const Json&) { return std::string(); });
  CLI::App* const help = app.add_subcommand("help", "what can be asked, or what a command takes");
  help->add_option("COMMAND", asked.explained, "the command");
}

/// Finds the command with this name. nullptr: no command has it.
const CLI::App* command_named(const CLI::App& app, const std::string& name) {
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (command->get_name() == name) return command;
  }
  return nullptr;
}

/// A name that no command of visitctl, or of a group of its commands, has, with what may have been meant.
std::string unknown_command(const CLI::App& app, const std::string& name) {
  std::vector<std::string_view> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    names.push_back(command->get_name());
  }
  const bool is_group = app.get_parent() != nullptr;
  return fmt::format("there is no command '{}{}'{} `visitctl help{}` lists them", is_group ? app.get_name() + " " : "",
                     name, did_you_mean(name, names), is_group ? " " + app.get_name() : "");
}

/// What is wrong with the command line, in one line.
std::string fault_of(const CLI::App& app, const CLI::ParseError& fault) {
  const std::vector<std::string> left = app.remaining(true);
  const std::vector<CLI::App*> asked = app.get_subcommands();
  const CLI::App& group = asked.empty() ? app : *asked.front();
  if (group.get_require_subcommand_max() != 0 && group.get_subcommands().empty() && !left.empty() &&
      !left.front().starts_with('-')) {
    return unknown_command(group, left.front());
  }
  std::string text = fault.what();
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text + (text.ends_with('.') ? "" : ".") + " `visitctl help` says what can be asked";
}

int refuse(const std::string& why) {
  std::fprintf(stderr, "visitctl: %s\n", why.c_str());
  return misused;
}

int run(const Asked& asked, const Settings& settings) {
  const Json report = asked.report(settings);
  if (asked.text != nullptr) write_output(asked.json ? to_json_text(report) : asked.text(report));
  if (has_failed(report)) {
    std::fprintf(stderr, "visitctl: %s\n", plain(report["error"]).c_str());
    return failed;
  }
  return asked.exit_code && !report["look_at"].empty() ? needs_a_look : ok;
}

/// Reads the settings and does what was asked; the exit status.
int serve(const Asked& asked) {
  Settings settings;
  try {
    settings = load_settings(asked.config, Secrets::leave, OriginalNames::ignore);
  } catch (const std::exception& fault) {
    return refuse(fault.what());
  }
  if (!asked.check_config) return run(asked, settings);
  write_output(to_toml(settings));
  return ok;
}

int answer(CLI::App& app, Asked& asked, int count, char** arguments) {
  try {
    app.parse(count, arguments);
  } catch (const CLI::ParseError& end) {
    if (end.get_exit_code() != 0) return refuse(fault_of(app, end));
    std::ostringstream wanted;
    app.exit(end, wanted, wanted);
    write_output(wanted.str());
    return ok;
  }
  if (app.got_subcommand("help")) {
    const CLI::App* const about = asked.explained.empty() ? &app : command_named(app, asked.explained);
    if (about == nullptr) return refuse(unknown_command(app, asked.explained));
    // App::help would show the help of the command that was asked for, which is this one.
    const std::string name = about == &app ? app.get_name() : app.get_name() + " " + about->get_name();
    write_output(app.get_formatter()->make_help(about, name, CLI::AppFormatMode::Normal));
    return ok;
  }
  if (asked.help_settings) {
    write_output(settings_help());
    return ok;
  }
  if (!asked.check_config && !asked.report) return refuse("no command is given; `visitctl help` lists them");
  return serve(asked);
}

}  // namespace

int main(int count, char** arguments) {
  Asked asked;
  CLI::App app("Looks at the visit counter of this host; works while the flusher is dead.", "visitctl");
  app.add_option("--config", asked.config, "the settings file; without it, defaults and environment");
  app.add_flag("--json", asked.json, "report as JSON");
  app.add_flag("--check-config", asked.check_config, "print the settings that hold, and end");
  app.add_flag("--help-settings", asked.help_settings, "print what can be set, and end");
  app.set_version_flag("-V,--version", "visitctl " + std::string(program_version()));
  add_commands(app, asked);
  app.require_subcommand(0, 1);
  try {
    return answer(app, asked, count, arguments);
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "visitctl: %s\n", failure.what());
    return failed;
  }
}
