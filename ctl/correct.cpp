#include <fmt/format.h>

#include <algorithm>

#include "common/os/runtime_directory.hpp"
#include "common/os/text.hpp"
#include "ctl/agreement.hpp"
#include "ctl/commands.hpp"
#include "ctl/control_client.hpp"
#include "ctl/whole_input.hpp"

namespace visitd {

namespace {

// Of one request: its line, and its answer's, are bounded.
constexpr std::size_t changes_at_once = 500;
constexpr std::size_t change_bytes_at_once = control_request_bytes / 2;
// So many are shown before somebody is asked.
constexpr std::size_t changes_shown = 20;

std::uint64_t count_of(std::string_view text, const std::string& where) {
  std::uint64_t count = 0;
  if (parse_decimal(text, count) && count <= INT64_MAX) return count;
  throw error("{}: '{}' is no count: a whole number from 0 to {}", where, text, INT64_MAX);
}

/// A line a change: of `delete` a page, else a page and a count apart by a tab.
std::vector<ControlChange> changes_in(const std::string& path, const std::string& verb) {
  std::vector<ControlChange> changes;
  const std::string text = read_whole_input(path);
  each_line(text, [&](std::uint64_t number, std::string_view line) {
    const std::string where = fmt::format("{}, line {}", path, number);
    const std::size_t tab = line.rfind('\t');
    if (verb == "delete") {
      if (tab != std::string_view::npos) throw error("{}: a page a line, and no tab", where);
      changes.push_back({"set", std::string(line), "0"});
      return;
    }
    if (tab == std::string_view::npos) throw error("{}: a page and a count, apart by a tab", where);
    changes.push_back(
        {verb, std::string(line.substr(0, tab)), fmt::format("{}", count_of(line.substr(tab + 1), where))});
  });
  if (changes.empty()) throw error("{} names no page", path);
  return changes;
}

std::vector<ControlChange> changes_of(const Correcting& correcting) {
  const std::vector<std::string>& words = correcting.words;
  if (!correcting.from.empty()) {
    if (!words.empty())
      throw error("{} takes pages from --from, or from the command line, not from both", correcting.verb);
    return changes_in(correcting.from, correcting.verb);
  }
  const bool counts = correcting.verb == "set" || correcting.verb == "add";
  const bool merges = correcting.verb == "merge" || correcting.verb == "rename";
  if (words.size() < (counts || merges ? 2 : 1)) {
    throw error("{} needs {}", correcting.verb, counts ? "a page and a count" : merges ? "two pages" : "a page");
  }
  if ((counts || correcting.verb == "rename") && words.size() > 2) {
    throw error("{} takes {}, and '{}' is one more", correcting.verb, counts ? "a page and a count" : "two pages",
                words[2]);
  }
  if (counts) return {{correcting.verb, words[0], fmt::format("{}", count_of(words[1], correcting.verb))}};
  std::vector<ControlChange> changes;
  for (const std::string& page : words) {
    if (!merges) changes.push_back({"set", page, "0"});
    if (merges && &page != &words.back()) changes.push_back({"take", page, words.back()});
  }
  return changes;
}

/// What is known of each page before: with what is not in Redis yet.
void look(const std::string& socket, std::uint32_t timeout_ms, const std::vector<ControlChange>& changes,
          Json& report) {
  for (const ControlChange& change : changes) {
    Json row = {{"page", change.page}, {"now", nullptr}, {"becomes", nullptr}, {"into", nullptr}};
    const Json page = ask_flusher(socket, {ControlCommand::page, change.page, timeout_ms});
    if (const auto count = page.find("count"); count != page.end()) {
      row["now"] =
          count->get<std::uint64_t>() + page.value("open", std::uint64_t{0}) + page.value("inflight", std::uint64_t{0});
    }
    if (change.verb == "take") row["into"] = change.operand;
    std::uint64_t count = 0;
    if (change.verb != "take" && parse_decimal(change.operand, count)) {
      row["becomes"] = count;
      if (change.verb == "add")
        row["becomes"] = row["now"].is_null() ? Json(nullptr) : Json(count + row["now"].get<std::uint64_t>());
    } else {
      row["becomes"] = 0;
    }
    if (row["now"].is_null()) row["problem"] = page.value("unreadable", Json("its count is not known"));
    report["changes"].push_back(std::move(row));
  }
}

bool lowers(const Json& change) {
  return change["now"].is_null() ? change["becomes"].is_number()
                                 : change["becomes"].is_number() && change["becomes"] < change["now"];
}

std::string change_text(const Json& change) {
  std::string text =
      fmt::format("{}: {} → {}", plain(change["page"]), plain(change["now"], "?"), plain(change["becomes"], "?"));
  if (!change["into"].is_null()) text += fmt::format(", and {} is given them", plain(change["into"]));
  return text + "\n";
}

std::string looked_text(const Json& report) {
  std::string text;
  const Json& changes = report["changes"];
  for (std::size_t i = 0; i < std::min(changes.size(), changes_shown); ++i) text += change_text(changes[i]);
  if (changes.size() > changes_shown) text += fmt::format("… and {} more pages\n", changes.size() - changes_shown);
  return text;
}

/// Sends changes in parts, each in one request, and puts what became of them beside what was before.
void send(const std::string& socket, std::uint32_t timeout_ms, const std::vector<ControlChange>& changes,
          Json& report) {
  for (std::size_t first = 0; first < changes.size();) {
    std::vector<ControlChange> part;
    for (std::size_t bytes = 0; first + part.size() < changes.size() && part.size() < changes_at_once;) {
      const ControlChange& next = changes[first + part.size()];
      bytes += next.page.size() + next.operand.size() + 8;
      if (!part.empty() && bytes > change_bytes_at_once) break;
      part.push_back(next);
    }
    const Json answer = ask_flusher(socket, {ControlCommand::correct, encode_changes(part), timeout_ms});
    const Json rows = answer.value("rows", Json::array());
    for (std::size_t i = 0; i < std::min(rows.size(), part.size()); ++i) {
      Json& change = report["changes"][first + i];
      change.erase("problem");
      const bool failed = rows[i].contains("problem");
      change["done"] = !failed;
      if (failed) {
        change["problem"] = rows[i]["problem"];
      } else if (part[i].verb != "add") {
        change["now"] = rows[i].value("before", Json(nullptr));
        change["becomes"] = rows[i].value("after", Json(nullptr));
      }
    }
    first += part.size();
  }
}

}  // namespace

Json correct_report(const Settings& settings, const Correcting& correcting, const std::string& visitctl) {
  const std::string socket = RuntimeDirectory(settings.paths.runtime_directory).control_socket();
  Json report = {{"changes", Json::array()}, {"changed", 0}};
  try {
    const std::vector<ControlChange> changes = changes_of(correcting);
    look(socket, settings.redis.timeout_ms, changes, report);
    report["dry_run"] = correcting.dry_run;
    if (correcting.dry_run) return report;
    const bool any_falls = std::ranges::any_of(report["changes"], lowers);
    if (any_falls && !correcting.yes && !somebody_agrees(looked_text(report), "Change these counts?")) {
      report["error"] = fmt::format("{}nothing was changed; to change them say it with --yes ({} {} … --yes)",
                                    is_at_terminal() ? "" : looked_text(report), visitctl, correcting.verb);
      return report;
    }
    send(socket, correcting.timeout_ms, changes, report);
    std::size_t failed = 0;
    for (const Json& change : report["changes"]) failed += change.value("done", false) ? 0 : 1;
    report["changed"] = changes.size() - failed;
    if (failed != 0) report["error"] = fmt::format("{} of {} pages were not changed", failed, changes.size());
  } catch (const std::exception& refused) {
    report["error"] = refused.what();
  }
  return report;
}

std::string correct_text(const Json& report) {
  std::string text;
  for (const Json& change : report["changes"]) {
    if (report.value("dry_run", false) || change.value("done", false)) text += change_text(change);
    if (change.contains("problem")) text += fmt::format("{}: {}\n", plain(change["page"]), plain(change["problem"]));
  }
  if (report.value("dry_run", false)) text += fmt::format("{} pages would be changed\n", report["changes"].size());
  return text;
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
