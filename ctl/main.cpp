// visitctl: looks at all of an instance, changes nothing unless told.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <functional>

#include "common/settings.hpp"
#include "ctl/commands.hpp"

namespace {

using namespace visitd;

constexpr int ok = 0;
constexpr int failed = 1;
constexpr int misused = 2;

/// What the command line says.
struct Asked {
  std::string config;
  bool json = false;
  bool check_config = false;
  bool help_settings = false;
  std::uint64_t limit = 100;
  std::optional<std::uint32_t> lane;
  std::string page;
  std::string shard;
  bool yes = false;
  std::string watched;
  double timeout_s = 25;
  std::function<Json(const Settings&)> report;
  std::string (*text)(const Json&) = nullptr;
};

void add_command(CLI::App& app, Asked& asked, const char* name, const char* help,
                 std::function<Json(const Settings&)> report, std::string (*text)(const Json&),
                 const std::function<void(CLI::App&)>& options = {}) {
  CLI::App* const command = app.add_subcommand(name, help);
  command->fallthrough();  // --json and --config may stand behind the command too
  if (options) options(*command);
  command->callback([&asked, report = std::move(report), text] {
    asked.report = report;
    asked.text = text;
  });
}

void add_commands(CLI::App& app, Asked& asked) {
  add_command(app, asked, "status", "each process, lanes, spool, flushes, shards", status_report, status_text);
  add_command(
      app, asked, "check", "whether the frontends or the flusher that can be seen from here work, by the exit status",
      [&](const Settings& settings) { return check_report(settings, asked.watched); }, check_text,
      [&](CLI::App& command) {
        command.add_option("WHAT", asked.watched, "frontend or flusher")
            ->required()
            ->check(CLI::IsMember({"frontend", "flusher"}));
      });
  add_command(app, asked, "lanes", "every lane: owner, positions, statistics", lanes_report, lanes_text);
  add_command(
      app, asked, "peek", "the records that are not applied yet",
      [&](const Settings& settings) { return peek_report(settings, asked.limit, asked.lane); }, peek_text,
      [&](CLI::App& command) {
        command.add_option("--limit", asked.limit, "the most records a lane (100)")->check(CLI::Range(1, 1'000'000));
        command.add_option("--lane", asked.lane, "only this lane")->check(CLI::NonNegativeNumber);
      });
  add_command(
      app, asked, "page", "all that is known of one page",
      [&](const Settings& settings) { return page_report(settings, asked.page); }, page_text,
      [&](CLI::App& command) {
        command.add_option("ID", asked.page, "the page's id, not percent-encoded")->required();
      });
  add_command(app, asked, "ipcs", "the shared memory segments, and who has them attached", ipcs_report, ipcs_text);
  add_command(
      app, asked, "flush", "carry everything counted by now to Redis, and wait for it",
      [&](const Settings& settings) {
        return flush_report(settings, static_cast<std::uint32_t>(asked.timeout_s * 1000));
      },
      flush_text,
      [&](CLI::App& command) {
        command.add_option("--timeout", asked.timeout_s, "seconds to wait (25)")->check(CLI::Range(0.001, 600.0));
      });
  add_command(
      app, asked, "accept", "take what a held shard holds as the truth",
      [&](const Settings& settings) { return accept_report(settings, asked.shard, asked.yes); }, accept_text,
      [&](CLI::App& command) {
        command.add_option("SHARD", asked.shard, "the shard's name")->required();
        command.add_flag("--yes", asked.yes, "do not ask, accept what it would give up");
      });
  add_command(
      app, asked, "hold-namespaces", "do nothing until SIGTERM, in a container whose namespaces the others live in",
      [](const Settings&) {
        hold_namespaces();
        return Json::object();
      },
      [](const Json&) { return std::string(); });
}

int run(const Asked& asked, const Settings& settings) {
  const Json report = asked.report(settings);
  std::fputs((asked.json ? to_json_text(report) : asked.text(report)).c_str(), stdout);
  if (!has_failed(report)) return ok;
  std::fprintf(stderr, "visitctl: %s\n", plain(report["error"]).c_str());
  return failed;
}

}  // namespace

int main(int count, char** arguments) {
  Asked asked;
  CLI::App app("Looks at the visit counter of this host; works while the flusher is dead.", "visitctl");
  app.add_option("--config", asked.config, "the settings file; without it, defaults and environment");
  app.add_flag("--json", asked.json, "report as JSON");
  app.add_flag("--check-config", asked.check_config, "print the settings that hold, and end");
  app.add_flag("--help-settings", asked.help_settings, "print what can be set, and end");
  app.set_version_flag("--version", "visitctl " VISITD_VERSION);
  add_commands(app, asked);
  app.require_subcommand(0, 1);
  try {
    app.parse(count, arguments);
  } catch (const CLI::ParseError& end) {
    return app.exit(end) == 0 ? ok : misused;
  }
  if (asked.help_settings) {
    std::fputs(settings_help().c_str(), stdout);
    return ok;
  }
  if (!asked.check_config && !asked.report) {
    std::fprintf(stderr, "visitctl: no command\n%s", app.help().c_str());
    return misused;
  }
  Settings settings;
  try {
    settings = load_settings(asked.config, Secrets::leave);
  } catch (const std::exception& fault) {
    std::fprintf(stderr, "visitctl: %s\n", fault.what());
    return misused;
  }
  if (asked.check_config) {
    std::fputs(to_toml(settings).c_str(), stdout);
    return ok;
  }
  try {
    return run(asked, settings);
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "visitctl: %s\n", failure.what());
    return failed;
  }
}
