#include "ctl/command_line.hpp"

#include <fmt/format.h>

#include "common/os/shell_word.hpp"

namespace visitd {

CLI::App& add_group(CLI::App& app, const char* name, const char* help) {
  CLI::App* const group = app.add_subcommand(name, help);
  group->fallthrough();
  group->require_subcommand(1);
  return *group;
}

CLI::App* add_command(CLI::App& app, Asked& asked, const char* name, const char* help,
                      std::function<Json(const Settings&)> report, std::string (*text)(const Json&),
                      const std::function<void(CLI::App&)>& options) {
  CLI::App* const command = app.add_subcommand(name, help);
  command->fallthrough();  // --json and --config may follow the command too
  if (options) options(*command);
  command->callback([&asked, command, report = std::move(report), text] {
    if (!command->get_subcommands().empty()) return;  // it is that one which is asked for
    asked.report = report;
    asked.text = text;
  });
  return command;
}

void take_page(CLI::App& command, Asked& asked, const char* what) {
  command.add_option(what, asked.page, "the page's id, not percent-encoded")->required();
  if (command.get_name() == "rules") return;
  command.add_flag("--exact", asked.exact, "the page that is counted under this very id, whatever pages.rules says");
}

std::string begun_as(const Asked& asked) {
  return asked.config.empty() ? "visitctl" : "visitctl --config " + shell_word(asked.config);
}

}  // namespace visitd
