#include <fmt/format.h>

#include <algorithm>
#include <unordered_set>

#include "common/os/errors.hpp"
#include "common/os/runtime_directory.hpp"
#include "common/os/shell_word.hpp"
#include "common/os/text.hpp"
#include "common/shm/count.hpp"
#include "ctl/commands.hpp"
#include "ctl/control_client.hpp"
#include "ctl/page_changes.hpp"
#include "ctl/page_list.hpp"
#include "ctl/whole_input.hpp"

namespace visitd {

namespace {

/// Of the commands that say a number.
ControlVerb verb_of(const std::string& command) noexcept {
  return command == "add" ? ControlVerb::add : ControlVerb::set;
}

std::uint64_t count_of(std::string_view text, const std::string& where) {
  if (const auto count = to_count(text)) return *count;
  throw error("{}: '{}' is no count: a whole number from 0 to {}", where, text, count_limit);
}

/// A line a change: of `delete` a page, else a page and a count apart by a tab.
std::vector<WantedChange> changes_in(const std::string& path, const std::string& verb) {
  std::vector<WantedChange> changes;
  const std::string text = read_whole_input(path);
  each_line(text, [&](std::uint64_t number, std::string_view line) {
    const std::string where = fmt::format("{}, line {}", path, number);
    const std::size_t tab = line.rfind('\t');
    if (verb == "delete") {
      if (tab != std::string_view::npos) throw error("{}: a page a line, and no tab", where);
      changes.push_back({{ControlVerb::set, std::string(line), "0"}});
      return;
    }
    if (tab == std::string_view::npos) throw error("{}: a page and a count, apart by a tab", where);
    changes.push_back(
        {{verb_of(verb), std::string(line.substr(0, tab)), fmt::format("{}", count_of(line.substr(tab + 1), where))}});
  });
  if (changes.empty()) throw error("{} names no page", path);
  return changes;
}

/// Throws Error where there are not as many words as the verb needs, in words.
void check_words(const Correcting& correcting, std::size_t least, std::size_t most, std::string_view needed) {
  const std::vector<std::string>& words = correcting.words;
  if (words.size() < least) throw error("{} needs {}", correcting.verb, needed);
  if (words.size() > most) throw error("{} takes {}, and '{}' is one more", correcting.verb, needed, words[most]);
}

std::vector<WantedChange> changes_of_words(const Correcting& correcting) {
  constexpr std::size_t any = SIZE_MAX;
  const std::vector<std::string>& words = correcting.words;
  if (correcting.verb == "set" || correcting.verb == "add") {
    check_words(correcting, 2, 2, "a page and a count");
    return {{{verb_of(correcting.verb), words[0], fmt::format("{}", count_of(words[1], correcting.verb))}}};
  }
  std::vector<WantedChange> changes;
  if (correcting.verb == "delete") {
    check_words(correcting, 1, any, "a page");
    for (const std::string& page : words) changes.push_back({{ControlVerb::set, page, "0"}});
    return changes;
  }
  check_words(correcting, 2, correcting.verb == "rename" ? 2 : any, "two pages");
  for (std::size_t i = 0; i + 1 < words.size(); ++i) changes.push_back({{ControlVerb::take, words[i], words.back()}});
  return changes;
}

/// What a page that matches becomes; nullopt: it stays as it is.
using ChangeOfPage = std::function<std::optional<ControlChange>(std::string_view page)>;

/// A pattern of `rename`: what stands before and behind its one star, each for itself.
struct OneStar {
  std::string before;
  std::string behind;

  explicit OneStar(const std::string& pattern)
      : before(pattern.substr(0, pattern.find('*'))),
        behind(pattern.substr(std::min(pattern.find('*'), pattern.size() - 1) + 1)) {
    if (std::ranges::count(pattern, '*') != 1) {
      throw error("rename --match takes two patterns with one * each, and '{}' has {}: write for example old/* new/*",
                  pattern, std::ranges::count(pattern, '*'));
    }
  }
  /// What the star stands for; nullopt: the page does not match.
  [[nodiscard]] std::optional<std::string_view> star_of(std::string_view page) const {
    if (page.size() < before.size() + behind.size() || !page.starts_with(before) || !page.ends_with(behind)) {
      return std::nullopt;
    }
    return page.substr(before.size(), page.size() - before.size() - behind.size());
  }
};

ChangeOfPage change_of_page(const Correcting& correcting) {
  const std::string& match = correcting.match;
  const auto chosen = [match](std::string_view page) { return is_chosen(match, page); };
  if (correcting.verb == "rename") {
    check_words(correcting, 1, 1, "with --match a pattern of the old and one of the new pages");
    return [from = OneStar(match), into = OneStar(correcting.words[0])](std::string_view page) {
      const auto star = from.star_of(page);
      return star ? std::optional(ControlChange{ControlVerb::take, std::string(page),
                                                into.before + std::string(*star) + into.behind})
                  : std::nullopt;
    };
  }
  if (correcting.verb == "merge") {
    check_words(correcting, 1, 1, "with --match a pattern and the page that is given the counts");
    return [chosen, into = correcting.words[0]](std::string_view page) {
      return chosen(page) && page != into ? std::optional(ControlChange{ControlVerb::take, std::string(page), into})
                                          : std::nullopt;
    };
  }
  ControlVerb verb = ControlVerb::set;
  std::string count = "0";
  if (correcting.verb == "delete") {
    check_words(correcting, 0, 0, "with --match a pattern and no page");
  } else {
    check_words(correcting, 1, 1, "with --match a pattern and a count");
    verb = verb_of(correcting.verb);
    count = fmt::format("{}", count_of(correcting.words[0], correcting.verb));
  }
  return [chosen, verb, count](std::string_view page) {
    return chosen(page) ? std::optional(ControlChange{verb, std::string(page), count}) : std::nullopt;
  };
}

/// The changes of all pages that match, with what they count now. Throws Error where not all pages are known.
std::vector<WantedChange> changes_by_pattern(const Settings& settings, const Correcting& correcting) {
  const ChangeOfPage change_of = change_of_page(correcting);
  std::vector<WantedChange> changes;
  const std::string incomplete = list_pages(settings, [&](std::string_view page, std::optional<std::uint64_t> count) {
    std::optional<ControlChange> change = change_of(page);
    if (!change) return;
    WantedChange wanted{std::move(*change), count};
    foresee(wanted);
    if (wanted.now && wanted.change.verb != ControlVerb::take && wanted.becomes == wanted.now) return;
    if (!wanted.now) wanted.problem = no_count;
    changes.push_back(std::move(wanted));
  });
  if (!incomplete.empty()) {
    throw error("nothing was changed: which pages match is not known. {}", incomplete);
  }
  std::ranges::sort(changes, {}, [](const WantedChange& wanted) -> const std::string& { return wanted.change.page; });
  if (correcting.verb != "rename") return changes;
  std::unordered_set<std::string_view> pages;
  for (const WantedChange& wanted : changes) pages.insert(wanted.change.page);
  for (const auto& [change, now, becomes, problem, done] : changes) {
    if (change.page == change.operand || !pages.contains(change.operand)) continue;
    throw error("nothing was changed: '{}' would become '{}', which matches too. Rename by way of a third pattern",
                printable(change.page), printable(change.operand));
  }
  return changes;
}

std::vector<WantedChange> changes_of(const Settings& settings, const Correcting& correcting) {
  std::vector<WantedChange> changes;
  if (!correcting.from.empty()) {
    if (!correcting.words.empty() || !correcting.match.empty()) {
      throw error("{} takes pages from one place: the command line, --from or --match", correcting.verb);
    }
    changes = changes_in(correcting.from, correcting.verb);
  } else {
    changes = correcting.match.empty() ? changes_of_words(correcting) : changes_by_pattern(settings, correcting);
  }
  check_changes(changes, settings.pages.page_id_limit_bytes);
  if (correcting.match.empty()) look_at(settings, changes);
  return changes;
}

}  // namespace

Json correct_report(const Settings& settings, const Correcting& correcting, const std::string& visitctl) {
  Json report = {{"changes", Json::array()}, {"changed", 0}};
  try {
    std::vector<WantedChange> changes = changes_of(settings, correcting);
    const ChangingCounts how{correcting.dry_run, correcting.yes, correcting.timeout_ms,
                             fmt::format("{} {} … --yes", visitctl, correcting.verb)};
    make_changes(settings, changes, how, report);
  } catch (const std::exception& refused) {
    report["error"] = refused.what();
  }
  return report;
}

std::string correct_text(const Json& report) {
  return changes_text(report);
}

Json corrections_report(const Settings& settings, std::uint64_t limit) {
  Json report = {{"corrections", Json::array()}};
  try {
    const Json answer = ask_flusher(RuntimeDirectory(settings.paths.runtime_directory).control_socket(),
                                    {ControlCommand::corrections, "", settings.redis.timeout_ms});
    const Json rows = answer.value("rows", Json::array());
    for (std::size_t i = rows.size() - std::min<std::size_t>(rows.size(), limit); i < rows.size(); ++i) {
      Json correction;
      for (const char* name : {"at", "by", "page", "gained", "lost", "count", "into"}) {
        correction[name] = rows[i].value(name, Json(nullptr));
      }
      report["corrections"].push_back(std::move(correction));
    }
  } catch (const std::exception& refused) {
    report["error"] = refused.what();
  }
  return report;
}

std::string corrections_text(const Json& report) {
  if (has_failed(report)) return {};
  Table table({"at", "by", ">change", ">count", "page", "given to"});
  for (const Json& one : report["corrections"]) {
    const bool lost = !one["lost"].is_null();
    table.row({time_text(one["at"].get<std::uint64_t>()), plain(one["by"]),
               (lost ? "-" : "+") + plain(one[lost ? "lost" : "gained"]), plain(one["count"]), plain(one["page"]),
               plain(one["into"], "")});
  }
  return table.text();
}

}  // namespace visitd
