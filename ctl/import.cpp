#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "common/os/errors.hpp"
#include "common/os/runtime_directory.hpp"
#include "common/os/text.hpp"
#include "ctl/commands.hpp"
#include "ctl/csv.hpp"
#include "ctl/import_formats.hpp"
#include "ctl/import_redis.hpp"
#include "ctl/import_sender.hpp"
#include "ctl/page_changes.hpp"
#include "ctl/page_list.hpp"
#include "ctl/whole_input.hpp"

namespace visitd {

namespace {

/// Rules as pages.rules has them, one a line; lines that begin with # are passed over. Throws Error.
PageRules rules_in(const std::string& path) {
  std::vector<std::string> rules;
  if (path.empty()) return PageRules(rules);
  const std::string text = read_whole_input(path);
  each_line(text, [&](std::uint64_t number, std::string_view line) {
    const std::string_view rule = trim(line);
    if (rule.empty() || rule.starts_with('#')) return;
    if (!PageRule::parse(rule)) {
      throw error("{}, line {}: '{}' is no rule; allowed: {}", path, number, printable(rule), page_rule_forms);
    }
    rules.emplace_back(rule);
  });
  if (rules.size() > max_page_rules) {
    throw error("{} has {} rules; allowed: at most {}", path, rules.size(), max_page_rules);
  }
  return PageRules(rules);
}

/// Throws Error where the command line says what its format has no use for.
void check_import(const Importing& importing, ImportFormat format) {
  const bool in_redis = is_in_redis(format);
  const auto only = [&](bool said, std::string_view option, bool has_use, std::string_view formats) {
    if (said && !has_use) throw error("{} is of --from {} alone", option, formats);
  };
  only(!importing.site.empty(), "--site", format == ImportFormat::umami || format == ImportFormat::vercount,
       "umami and vercount");
  only(importing.with_host, "--with-host", format == ImportFormat::busuanzi || format == ImportFormat::vercount,
       "busuanzi and vercount");
  only(importing.site_totals, "--site-totals", format == ImportFormat::busuanzi || format == ImportFormat::vercount,
       "busuanzi and vercount");
  only(!importing.pages.empty(), "--pages", format == ImportFormat::busuanzi, "busuanzi");
  const auto is_url = [](const std::string& source) { return source.find("://") != std::string::npos; };
  if (!in_redis && importing.sources.size() != 1) throw error("--from {} takes one file", importing.format);
  if (!in_redis && is_url(importing.sources[0])) {
    throw error("--from {} takes a file, and no URL: it is not read from a server", importing.format);
  }
  if (in_redis && !std::ranges::all_of(importing.sources, is_url)) {
    throw error("--from {} takes URLs of Redis servers, redis://HOST:PORT, and no file", importing.format);
  }
  if (importing.yes && !importing.overwrite) throw Error("--yes is of --overwrite alone: nothing falls by adding");
}

Imported read_counts(const Settings& settings, const Importing& importing) {
  const ImportFormat format = import_format(importing.format);
  check_import(importing, format);
  ImportNames names{settings.pages.page_id_limit_bytes, rules_in(importing.map), PageRules(settings.pages.rules)};
  if (!is_in_redis(format)) {
    return read_import(read_whole_input(importing.sources[0]), format, std::move(names), importing.site);
  }
  return read_redis_import({format, importing.sources, importing.site, importing.pages, importing.prefix,
                            importing.with_host, importing.site_totals, importing.timeout_ms},
                           std::move(names));
}

/// What a format is made of.
std::string_view units(const std::string& format) {
  return is_in_redis(import_format(format)) ? "keys" : "lines";
}

std::string bad_text(const Imported& imported, const std::string& format) {
  std::string text = fmt::format("{} {} cannot be read", imported.bad_lines, units(format));
  for (const std::string& line : imported.bad) text += fmt::format("; {}", line);
  return text;
}

void tell(const Imported& imported, Json& report) {
  WideSum visits;
  for (const auto& [page, count] : imported.counts) visits.add(count);
  report.update({{"pages", imported.counts.size()},
                 {"visits", json_of(visits)},
                 {"left_out", imported.left_out},
                 {"left_out_keys", imported.not_visits},
                 {"bad_lines", imported.bad_lines},
                 {"notes", imported.notes}});
}

/// Writes counts as an export does; the file is there whole or not at all. Throws Error, also where there is such a
/// file: it may be that of an import which was interrupted, and is to go on.
void save_counts(const std::string& path, PageCounts counts) {
  if (std::filesystem::exists(path)) {
    throw error("nothing was counted: {} exists. Import it with --from csv, or name another file with --save", path);
  }
  const std::string part = path + ".part";
  std::string text(csv_headings);
  std::ranges::sort(counts);
  for (const auto& [page, count] : counts) append_csv_row(text, page, count);
  std::ofstream file(part, std::ios::binary);
  file << text;
  file.close();
  if (!file) throw system_error("nothing was counted: {} cannot be written", part);
  std::filesystem::rename(part, path);
}

/// Each page's count becomes the import's.
void overwrite(const Settings& settings, const PageCounts& counts, const Importing& importing,
               const std::string& visitctl, Json& report) {
  std::vector<WantedChange> changes;
  changes.reserve(counts.size());
  for (const auto& [page, count] : counts) changes.push_back({{ControlVerb::set, page, fmt::format("{}", count)}});
  if (changes.empty()) return;
  std::ranges::sort(changes, {}, [](const WantedChange& wanted) -> const std::string& { return wanted.change.page; });
  look_at(settings, changes);
  const ChangingCounts how{importing.dry_run, importing.yes, importing.timeout_ms,
                           fmt::format("{} import … --overwrite --yes", visitctl)};
  make_changes(settings, changes, how, report);
}

}  // namespace

Json import_report(const Settings& settings, const Importing& importing, const std::string& visitctl) {
  Json report = {{"from", importing.format}, {"pages", 0}, {"visits", 0},      {"left_out", 0},
                 {"bad_lines", 0},           {"added", 0}, {"added_before", 0}};
  try {
    const Imported imported = read_counts(settings, importing);
    tell(imported, report);
    report["dry_run"] = importing.dry_run;
    if (imported.bad_lines != 0 && !importing.skip_bad) {
      throw error("nothing was counted: {}. Mend them, or leave them out with --skip-bad",
                  bad_text(imported, importing.format));
    }
    if (!importing.save.empty()) save_counts(importing.save, imported.counts);
    if (importing.overwrite) {
      overwrite(settings, imported.counts, importing, visitctl, report);
    } else if (!importing.dry_run) {
      const std::string socket = RuntimeDirectory(settings.paths.runtime_directory).control_socket();
      const std::uint64_t added =
          send_import(socket, imported.counts, imported.source, settings.redis.buckets, importing.timeout_ms);
      report["added"] = added;
      report["added_before"] = imported.counts.size() - added;
    }
  } catch (const std::exception& refused) {
    report["error"] = refused.what();
  }
  return report;
}

std::string import_text(const Json& report) {
  std::string text;
  if (report.contains("changes")) text += changes_text(report);
  if (has_failed(report)) return text;
  if (!report.contains("changes")) {
    text += fmt::format("{} visits of {} pages", plain(report["visits"]), plain(report["pages"]));
    text += report.value("dry_run", false) ? " would be counted" : " are counted";
    if (report["added_before"] != 0) {
      text += fmt::format(", of which {} pages were before", plain(report["added_before"]));
    }
    text += "\n";
  }
  if (report["left_out"] != 0) {
    text += fmt::format("{} {} are no visits", plain(report["left_out"]), units(report["from"]));
    for (const Json& key : report["left_out_keys"]) text += fmt::format(", '{}'", plain(key));
    text += "\n";
  }
  if (report["bad_lines"] != 0)
    text += fmt::format("{} {} could not be read\n", plain(report["bad_lines"]), units(report["from"]));
  for (const Json& note : report["notes"]) text += plain(note) + "\n";
  return text;
}

}  // namespace visitd
