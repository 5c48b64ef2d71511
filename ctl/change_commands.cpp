// The commands that change shards, writers and counts, or ask the flusher to do something.
#include <fmt/format.h>

#include "ctl/command_line.hpp"
#include "ctl/import_formats.hpp"

namespace visitd {

namespace {

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
  // From 2.4 on (Debian 13), CLI11 takes no = and no blank in the name of an argument.
  add_change("add", "take a server in: its share of the buckets moves there", "SHARD",
             "NAME=URL: its name and address");
  add_change("remove", "let a shard go: its buckets move to the others", "NAME", "its name");
  add_change("replace", "another address of a shard, for a server that has its data", "SHARD",
             "NAME=URL: its name and address");
  add_change("rebalance", "make the shards those that the settings name", nullptr, nullptr);
  add_command(
      shards, asked, "moves", "how far buckets have moved",
      [&](const Settings& settings) { return moves_report(settings, asked.wait); }, moves_text,
      [&](CLI::App& command) { command.add_flag("--wait", asked.wait, "wait until they have moved"); });
}

}  // namespace

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

void add_import(CLI::App& app, Asked& asked) {
  add_command(
      app, asked, "import", "add counts that another counter, or a server's log, has; each once",
      [&](const Settings& settings) {
        asked.importing.timeout_ms = static_cast<std::uint32_t>(asked.timeout_s * 1000);
        return import_report(settings, asked.importing, begun_as(asked));
      },
      import_text,
      [&](CLI::App& command) {
        Importing& importing = asked.importing;
        const std::vector<std::string> formats = import_format_names();
        command.add_option("FROM", importing.sources, "the file, - is standard input; or the URL of each Redis server")
            ->required();
        command.add_option("--from", importing.format, fmt::format("{}", fmt::join(formats, ", ")))
            ->required()
            ->check(CLI::IsMember(formats));
        command.add_option("--map", importing.map, "a file with rules for ids, as of pages.rules, one a line");
        command.add_option("--site", importing.site, "of umami and vercount: count the pages of this site alone");
        command.add_option("--pages", importing.pages, "of busuanzi: a file with the address of each page, one a line");
        command.add_option("--prefix", importing.prefix, "of busuanzi: what its keys begin with (bsz)");
        command.add_flag("--with-host", importing.with_host,
                         "of busuanzi and vercount: the id of a page begins with its host");
        command.add_flag("--site-totals", importing.site_totals,
                         "of busuanzi and vercount: count totals of sites too, in pages like site:HOST");
        command.add_option("--save", importing.save, "write the counts into this file first, as an export does");
        command.add_flag("--overwrite", importing.overwrite, "the pages' counts become these; nothing is added");
        command.add_flag("--dry-run", importing.dry_run, "say what would be counted, and change nothing");
        command.add_flag("--skip-bad", importing.skip_bad, "leave out lines that cannot be read");
        command.add_flag("--yes", importing.yes, "of --overwrite: do not ask before a count falls");
        command.add_option("--timeout", asked.timeout_s, "seconds to wait for each part (25)")
            ->check(number_within(0.001, 600.0, " s"));
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
          command.add_option(
              "--match", asked.correcting.match,
              name == "rename"
                  ? "instead of OLD: every page that matches this pattern with one *; NEW has one * for the same part"
                  : "instead of a page: every page whose id matches this pattern, such as blog/*");
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
  add("set", "make a page's count this number", "PAGE_AND_N", "the page's id, not percent-encoded, and its count");
  add("add", "add to a page's count", "PAGE_AND_N", "the page's id, not percent-encoded, and how much");
  add("delete", "take pages out: their counts become 0", "PAGE", "the pages' ids, not percent-encoded");
  add("rename", "give a page's count to another page", "OLD_AND_NEW", "both pages' ids, not percent-encoded");
  add("merge", "give the counts of pages to another page", "FROM_AND_INTO",
      "the pages' ids; the last one gets the counts");
  add_import(app, asked);
  add_command(
      app, asked, "corrections", "which counts somebody has changed, and who",
      [&](const Settings& settings) { return corrections_report(settings, asked.limit); }, corrections_text,
      [&](CLI::App& command) {
        command.add_option("--limit", asked.limit, "the most, of the newest (100)")
            ->check(number_within<std::uint64_t>(1, 1000, ""));
      });
}

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

}  // namespace visitd
