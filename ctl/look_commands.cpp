// The commands that show something, or put segments in order.
#include <fmt/format.h>

#include "common/control/control_protocol.hpp"
#include "common/os/errors.hpp"
#include "common/shm/ring_layout.hpp"
#include "ctl/command_line.hpp"

namespace visitd {

namespace {

constexpr double usual_measured_s = 0.5;
constexpr double usual_refusals_s = 2;

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

/// How long `usual_s`, or what the command line says, is measured.
std::uint32_t measured_ms(const Asked& asked, double usual_s) {
  return static_cast<std::uint32_t>(asked.measured_s.value_or(asked.json ? 0 : usual_s) * 1000);
}

void take_measure(CLI::App& command, Asked& asked, const char* help) {
  command.add_option("--measure", asked.measured_s, help)->check(number_within(0.0, 60.0, " s"));
}

}  // namespace

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

void add_embed(CLI::App& app, Asked& asked) {
  Embedding& wanted = asked.embedding;
  add_command(
      app, asked, "embed", "the line of HTML that counts the visits of a site's page",
      [&](const Settings& settings) { return embed_report(settings, wanted); }, embed_text,
      [&](CLI::App& command) {
        command
            .add_option("--url", wanted.url,
                        "where browsers reach the counter (http.api_prefix, on the host of the page)")
            ->check(fault_of_counter_url);
        command.add_option("--page", wanted.page, "the page's name (its canonical link, or its address)");
        command.add_flag("--count", wanted.count, "with an element that shows the page's count");
        command.add_flag("--total", wanted.total, "with an element that shows the sum of all counts");
        command.add_flag("--pin", wanted.pin, "with the hash of the part that shows counts, as an import map");
        command.add_flag("--bfcache", wanted.bfcache, "count again when the page comes back from the browser's memory");
        command.add_flag("--frames", wanted.frames, "count in frames too");
        command.add_flag("--respect", wanted.respect, "send nothing of browsers that ask not to be tracked");
      });
}

/// What lists the pages of all shards.
void add_lists(CLI::App& app, Asked& asked) {
  const auto add_prefix = [&asked](CLI::App& command) {
    command.add_option("--prefix", asked.pages.prefix, "list only pages whose ids begin with this");
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
        command.add_option("--match", asked.pages.glob,
                           "list only pages whose ids match this pattern, as a shell matches file names: blog/*");
        command.add_option("--sort", asked.sort, "count (the largest first) or name (name)")
            ->check(CLI::IsMember({"count", "name"}));
        command.add_option("--limit", asked.pages.limit, "the most pages (100)")
            ->check(number_within<std::uint64_t>(1, 10'000'000, ""));
      });
  add_command(
      app, asked, "top", "the pages with the largest counts, of all shards and hosts",
      [&](const Settings& settings) { return top_report(settings, asked.limit); }, top_text,
      [&](CLI::App& command) {
        command.add_option("--limit", asked.limit, "how many pages (100)")
            ->check(number_within<std::uint64_t>(1, control_top_pages, ""));
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

}  // namespace visitd
