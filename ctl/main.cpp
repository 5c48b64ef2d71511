// visitctl: looks at all of an instance, changes nothing unless told.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <exception>
#include <functional>
#include <sstream>
#include <string_view>
#include <vector>

#include "common/config/near_names.hpp"
#include "common/config/program.hpp"
#include "common/config/settings.hpp"
#include "common/os/errors.hpp"
#include "common/os/shell_word.hpp"
#include "common/os/standard_output.hpp"
#include "common/shm/ring_layout.hpp"
#include "ctl/commands.hpp"

namespace {

using namespace visitd;

constexpr int ok = 0;
constexpr int failed = 1;
constexpr int misused = 2;
constexpr int needs_a_look = 3;

constexpr double usual_measured_s = 0.5;
constexpr double usual_refusals_s = 2;

/// What the command line says.
struct Asked {
  std::string config;
  bool json = false;
  bool check_config = false;
  bool help_settings = false;
  std::uint64_t limit = 100;
  std::optional<std::uint32_t> lane;
  std::string page;
  bool exact = false;
  PageChoice pages;
  std::string sort;
  std::string format;
  std::string shard;
  ShardChange changing;
  Migration migration;
  bool wait = false;
  std::string writer;
  bool yes = false;
  Correcting correcting;
  Importing importing;
  std::string watched;
  double timeout_s = 25;
  std::optional<double> measured_s;
  bool exit_code = false;
  bool all = false;
  std::string instance;
  RemoveOptions removing;
  std::string explained;
  std::function<Json(const Settings&)> report;
  std::string (*text)(const Json&) = nullptr;  ///< nullptr: the command has printed what there is
};

/// Checks that a number lies in these bounds. If it does not, the message names the bounds; CLI11's names a type.
template <typename Number>
std::function<std::string(const std::string&)> number_within(Number least, Number most, std::string_view unit) {
  return [=](const std::string& text) -> std::string {
    Number value{};
    const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (fault == std::errc{} && end == text.data() + text.size() && value >= least && value <= most) return {};
    return fmt::format("'{}' is refused; allowed: {}{} to {}{}", text,
                       std::is_integral_v<Number> ? "whole numbers, " : "", least, most, unit);
  };
}

CLI::App& add_group(CLI::App& app, const char* name, const char* help) {
  CLI::App* const group = app.add_subcommand(name, help);
  group->fallthrough();
  group->require_subcommand(1);
  return *group;
}

CLI::App* add_command(CLI::App& app, Asked& asked, const char* name, const char* help,
                      std::function<Json(const Settings&)> report, std::string (*text)(const Json&),
                      const std::function<void(CLI::App&)>& options = {}) {
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

/// How a command for the same instance begins, as a shell takes it.
std::string begun_as(const Asked& asked) {
  return asked.config.empty() ? "visitctl" : "visitctl --config " + shell_word(asked.config);
}

/// The settings, with another instance's runtime directory if the command line names one.
Settings of_instance(const Asked& asked, Settings settings) {
  // As a shell completes it: with a slash behind, which the programs' own paths do not have.
  const std::string named = asked.instance.substr(0, asked.instance.find_last_not_of('/') + 1);
  if (named.empty() || named == settings.paths.runtime_directory) return settings;
  if (asked.removing.state) {
    throw Error("--instance names a runtime directory, and no state directory: say --config instead, or leave --state");
  }
  settings.paths.runtime_directory = named;
  return settings;
}

/// What a command takes that is about one page.
void take_page(CLI::App& command, Asked& asked, const char* what) {
  command.add_option(what, asked.page, "the page's id, not percent-encoded")->required();
  if (command.get_name() == "rules") return;
  command.add_flag("--exact", asked.exact, "the page that is counted under this very id, whatever pages.rules says");
}

void add_segment_commands(CLI::App& app, Asked& asked) {
  add_command(
      app, asked, "ipcs", "the shared memory segments, and who has them attached",
      [&](const Settings& settings) { return asked.all ? all_segments_report() : ipcs_report(settings); },
      [](const Json& report) { return report.contains("all") ? all_segments_text(report) : ipcs_text(report); },
      [&](CLI::App& command) {
        command.add_flag("--all", asked.all, "of every instance on this machine, and which of them clean removes");
      });
  add_command(
      app, asked, "clean", "remove segments that no instance uses any more and that hold no visits",
      [](const Settings&) { return clean_report(); }, clean_text);
  add_command(
      app, asked, "remove", "end an instance that runs no more: its segments and its runtime directory",
      [&](const Settings& settings) { return remove_report(of_instance(asked, settings), asked.removing); },
      remove_text,
      [&](CLI::App& command) {
        command.add_option("--instance", asked.instance, "its runtime directory (that of the settings)")
            ->check([](const std::string& path) {
              return path.starts_with('/') ? "" : fmt::format("'{}' is refused; allowed: an absolute path", path);
            });
        command.add_flag("--state", asked.removing.state, "its spool too");
        command.add_flag("--discard-visits", asked.removing.discard_visits, "also visits that Redis does not have yet");
        command.add_flag("--yes", asked.removing.yes, "do not ask");
      });
}

/// How long `usual_s`, or what the command line says, is measured.
std::uint32_t measured_ms(const Asked& asked, double usual_s) {
  return static_cast<std::uint32_t>(asked.measured_s.value_or(asked.json ? 0 : usual_s) * 1000);
}

void take_measure(CLI::App& command, Asked& asked, const char* help) {
  command.add_option("--measure", asked.measured_s, help)->check(number_within(0.0, 60.0, " s"));
}

/// What changes nothing.
void add_looks(CLI::App& app, Asked& asked) {
  add_command(
      app, asked, "status", "each process, lanes, spool, flushes, shards",
      [&](const Settings& settings) { return measured_status_report(settings, measured_ms(asked, usual_measured_s)); },
      status_text,
      [&](CLI::App& command) {
        command.add_flag("--exit-code", asked.exit_code, "end with 3 if somebody should look");
        take_measure(command, asked, "seconds over which rates are measured (0.5; none for JSON)");
      });
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
        command.add_option("--limit", asked.limit, "the most records a lane (100)")
            ->check(number_within<std::uint64_t>(1, 1'000'000, ""));
        command.add_option("--lane", asked.lane, "only this lane")
            ->check(number_within<std::uint32_t>(0, max_lanes - 1, ""));
      });
  add_command(
      app, asked, "page", "all that is known of one page",
      [&](const Settings& settings) { return page_report(settings, asked.page, asked.exact); }, page_text,
      [&](CLI::App& command) { take_page(command, asked, "ID"); });
  add_command(
      app, asked, "rules", "under which name a page is counted, rule by rule of pages.rules",
      [&](const Settings& settings) { return rules_report(settings, asked.page); }, rules_text,
      [&](CLI::App& command) { take_page(command, asked, "PAGE"); });
  add_command(
      app, asked, "refusals", "how many requests were refused and why, by frontend, and what to do about it",
      [&](const Settings& settings) { return refusals_report(settings, measured_ms(asked, usual_refusals_s)); },
      refusals_text,
      [&](CLI::App& command) {
        take_measure(command, asked, "seconds for which new ones are counted (2; none for JSON)");
      });
}

/// What lists the pages of all shards.
void add_lists(CLI::App& app, Asked& asked) {
  const auto add_prefix = [&asked](CLI::App& command) {
    command.add_option("--prefix", asked.pages.prefix, "only pages whose ids begin so");
  };
  add_command(
      app, asked, "pages", "pages with their counts, of all shards and hosts",
      [&](const Settings& settings) {
        asked.pages.by_count = asked.sort == "count";
        return pages_report(settings, asked.pages);
      },
      pages_text,
      [&](CLI::App& command) {
        add_prefix(command);
        command.add_option("--match", asked.pages.glob, "only pages whose ids match this, as file names do: blog/*");
        command.add_option("--sort", asked.sort, "count (the largest first) or name (name)")
            ->check(CLI::IsMember({"count", "name"}));
        command.add_option("--limit", asked.pages.limit, "the most pages (100)")
            ->check(number_within<std::uint64_t>(1, 10'000'000, ""));
      });
  add_command(
      app, asked, "total", "the sum of the counts of all pages",
      [&](const Settings& settings) { return total_report(settings, asked.pages.prefix); }, total_text, add_prefix);
  add_command(
      app, asked, "export", "every page with its count, to the standard output",
      [&](const Settings& settings) { return export_report(settings, asked.format); }, nullptr,
      [&](CLI::App& command) {
        command.add_option("--format", asked.format, "csv or jsonl")
            ->required()
            ->check(CLI::IsMember({"csv", "jsonl"}));
      });
}

void add_rate(CLI::App& command, Asked& asked) {
  command
      .add_option("--rate", asked.changing.rate,
                  "move at most so many buckets a second, so that the servers have time for other work; "
                  "without it, as fast as it goes")
      ->check(CLI::PositiveNumber);
}

/// What changes them.
void add_shard_changes(CLI::App& shards, Asked& asked) {
  const auto add_change = [&](const char* verb, const char* help, const char* what, const char* about) {
    add_command(
        shards, asked, verb, help,
        [&asked, verb](const Settings& settings) {
          const std::string change =
              std::string(verb) == "rebalance" ? "settings" : fmt::format("{} {}", verb, asked.shard);
          return change_shards_report(settings, change, asked.changing);
        },
        change_shards_text,
        [&asked, verb, what, about](CLI::App& command) {
          if (what != nullptr) command.add_option(what, asked.shard, about)->required();
          command.add_flag("--dry-run", asked.changing.dry_run, "say what would move, and change nothing");
          if (std::string_view(verb) != "replace") {
            add_rate(command, asked);
          }
          command.add_flag("!--no-wait", asked.changing.wait, "do not wait until the buckets have moved");
        });
  };
  add_change("add", "take a server in: its share of the buckets moves there", "NAME=URL", "its name and address");
  add_change("remove", "let a shard go: its buckets move to the others", "NAME", "its name");
  add_change("replace", "another address of a shard, for a server that has its data", "NAME=URL",
             "its name and address");
  add_change("rebalance", "make the shards those that the settings name", nullptr, nullptr);
  add_command(
      shards, asked, "moves", "how far buckets have moved",
      [&](const Settings& settings) { return moves_report(settings, asked.wait); }, moves_text,
      [&](CLI::App& command) { command.add_flag("--wait", asked.wait, "wait until they have moved"); });
}

void add_migrate(CLI::App& app, Asked& asked) {
  add_command(
      app, asked, "migrate", "move all counts into a Redis Cluster, or out of one, while visits are counted",
      [&](const Settings& settings) {
        return migrate_report(settings, asked.migration, asked.changing, asked.yes, begun_as(asked));
      },
      migrate_text,
      [&](CLI::App& command) {
        command.add_option("--to", asked.migration.to, "cluster or shards")
            ->required()
            ->check(CLI::IsMember({"cluster", "shards"}));
        command
            .add_option("WHERE", asked.migration.places,
                        "of a cluster some nodes, [rediss://]HOST:PORT,HOST:PORT; of shards NAME=URL for each")
            ->required();
        command.add_flag("--dry-run", asked.changing.dry_run, "say what would move, and change nothing");
        command.add_flag("--yes", asked.yes, "do not ask");
        add_rate(command, asked);
        command.add_flag("!--no-wait", asked.changing.wait, "do not wait until the buckets have moved");
      });
}

void add_shard_commands(CLI::App& app, Asked& asked) {
  CLI::App& shards = add_group(app, "shards", "the shards, and where a page is");
  add_command(shards, asked, "list", "each shard: state, server, memory, buckets, what waits for it", shards_report,
              shards_text);
  add_command(
      shards, asked, "locate", "in which bucket of which shard a page's count is kept",
      [&](const Settings& settings) { return locate_report(settings, asked.page, asked.exact); }, locate_text,
      [&](CLI::App& command) { take_page(command, asked, "PAGE"); });
  add_shard_changes(shards, asked);
}

void add_writer_commands(CLI::App& app, Asked& asked) {
  CLI::App* const writers = add_command(app, asked, "writers",
                                        "the hosts that count into these shards: when each was seen, how much it wrote",
                                        writers_report, writers_text);
  writers->require_subcommand(0, 1);
  add_command(
      *writers, asked, "forget", "take a host that is gone for good out of the shards; its counts stay",
      [&](const Settings& settings) { return forget_report(settings, asked.writer, asked.yes, begun_as(asked)); },
      forget_text,
      [&](CLI::App& command) {
        command.add_option("WRITER", asked.writer, "its id, as `visitctl writers` shows it")->required();
        command.add_flag("--yes", asked.yes, "do not ask, and forget it though it was seen lately");
      });
}

void add_correction_commands(CLI::App& app, Asked& asked) {
  const auto add = [&](const char* verb, const char* help, const char* words, const char* about) {
    add_command(
        app, asked, verb, help,
        [&asked, verb](const Settings& settings) {
          asked.correcting.verb = verb;
          asked.correcting.timeout_ms = static_cast<std::uint32_t>(asked.timeout_s * 1000);
          return correct_report(settings, asked.correcting, begun_as(asked));
        },
        correct_text,
        [&asked, verb, words, about](CLI::App& command) {
          command.add_option(words, asked.correcting.words, about);
          const std::string_view name(verb);
          if (name != "rename" && name != "merge") {
            command.add_option("--from", asked.correcting.from,
                               name == "delete" ? "a file with a page a line; - is standard input"
                                                : "a file with a page, a tab and a count a line; - is standard input");
          }
          command.add_flag("--dry-run", asked.correcting.dry_run, "say what would change, and change nothing");
          if (name != "add") command.add_flag("--yes", asked.correcting.yes, "do not ask before a count falls");
          command.add_option("--timeout", asked.timeout_s, "seconds to wait (25)")
              ->check(number_within(0.001, 600.0, " s"));
        });
  };
  add("set", "make a page's count this number", "PAGE N", "the page's id, not percent-encoded, and its count");
  add("add", "add to a page's count", "PAGE N", "the page's id, not percent-encoded, and how much");
  add("delete", "take pages out: their counts become 0", "PAGE", "the pages' ids, not percent-encoded");
  add("rename", "give a page's count to another page", "OLD NEW", "both pages' ids, not percent-encoded");
  add("merge", "give the counts of pages to another page", "FROM INTO", "the pages' ids; the last one gets the counts");
  add_command(
      app, asked, "import", "add counts that another counter, or a server's log, has; each once",
      [&](const Settings& settings) {
        asked.importing.timeout_ms = static_cast<std::uint32_t>(asked.timeout_s * 1000);
        return import_report(settings, asked.importing);
      },
      import_text,
      [&](CLI::App& command) {
        command.add_option("FILE", asked.importing.file, "the file; - is standard input")->required();
        command.add_option("--from", asked.importing.format, "csv, jsonl, goatcounter or access-log")
            ->required()
            ->check(CLI::IsMember({"csv", "jsonl", "goatcounter", "access-log"}));
        command.add_flag("--dry-run", asked.importing.dry_run, "say what would be counted, and change nothing");
        command.add_flag("--skip-bad", asked.importing.skip_bad, "leave out lines that cannot be read");
        command.add_option("--timeout", asked.timeout_s, "seconds to wait for each part (25)")
            ->check(number_within(0.001, 600.0, " s"));
      });
  add_command(
      app, asked, "corrections", "which counts somebody has changed, and who",
      [&](const Settings& settings) { return corrections_report(settings, asked.limit); }, corrections_text,
      [&](CLI::App& command) {
        command.add_option("--limit", asked.limit, "the most, of the newest (100)")
            ->check(number_within<std::uint64_t>(1, 1000, ""));
      });
}

/// What is asked of the flusher.
void add_requests(CLI::App& app, Asked& asked) {
  add_command(
      app, asked, "flush", "carry everything counted by now to Redis, and wait for it",
      [&](const Settings& settings) {
        return flush_report(settings, static_cast<std::uint32_t>(asked.timeout_s * 1000));
      },
      flush_text,
      [&](CLI::App& command) {
        command.add_option("--timeout", asked.timeout_s, "seconds to wait (25)")
            ->check(number_within(0.001, 600.0, " s"));
      });
  add_command(
      app, asked, "accept", "take what a held shard holds as the truth",
      [&](const Settings& settings) { return accept_report(settings, asked.shard, asked.yes, begun_as(asked)); },
      accept_text,
      [&](CLI::App& command) {
        command.add_option("SHARD", asked.shard, "the shard's name")->required();
        command.add_flag("--yes", asked.yes, "do not ask, accept what it would give up");
      });
}

void add_commands(CLI::App& app, Asked& asked) {
  add_looks(app, asked);
  add_lists(app, asked);
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
