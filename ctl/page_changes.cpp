#include "ctl/page_changes.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "common/os/errors.hpp"
#include "common/os/runtime_directory.hpp"
#include "common/os/text.hpp"
#include "common/shm/page_id.hpp"
#include "ctl/agreement.hpp"
#include "ctl/control_client.hpp"
#include "ctl/page_list.hpp"
#include "ctl/parts.hpp"

namespace visitd {

namespace {

// Of one request and its answer, whose lines are bounded: twice the bytes of a page, since JSON may escape each, and
// what stands beside it.
constexpr std::size_t most_request_bytes = control_request_bytes - 4096;
constexpr std::size_t most_answer_bytes = control_answer_bytes - 4096;
constexpr std::size_t change_words_bytes = 16;
constexpr std::size_t answer_words_bytes = 400;
// From so many on, they are sent in the order of their buckets.
constexpr std::size_t many_changes = 500;
// So many pages are asked for one by one; beyond, a list of all pages is cheaper.
constexpr std::size_t most_asked = 2000;
constexpr std::size_t questions_under_way = 64;
// So many are shown before somebody is asked, and so many are told in JSON.
constexpr std::size_t changes_shown = 20;
constexpr std::size_t changes_told = 10'000;

std::string socket_of(const Settings& settings) {
  return RuntimeDirectory(settings.paths.runtime_directory).control_socket();
}

void look_at_each(const Settings& settings, std::vector<WantedChange>& changes) {
  ControlConnection flusher(socket_of(settings), settings.redis.timeout_ms);
  for (std::size_t asked = 0, known = 0; known < changes.size(); ++known) {
    for (; asked < std::min(changes.size(), known + questions_under_way); ++asked) {
      flusher.say({ControlCommand::page, changes[asked].change.page, settings.redis.timeout_ms});
    }
    const Json page = flusher.answer();
    if (const auto count = page.find("count"); count != page.end()) {
      changes[known].now =
          count->get<std::uint64_t>() + page.value("open", std::uint64_t{0}) + page.value("inflight", std::uint64_t{0});
    } else {
      changes[known].problem = page.value("unreadable", "its count is not known");
    }
  }
}

/// A page that no list names counts 0.
void look_at_list(const Settings& settings, std::vector<WantedChange>& changes) {
  std::unordered_map<std::string_view, WantedChange*> wanted;
  for (WantedChange& change : changes) {
    wanted.emplace(change.change.page, &change);
    change.now = 0;
  }
  const std::string incomplete = list_pages(settings, [&](std::string_view page, std::optional<std::uint64_t> count) {
    const auto found = wanted.find(page);
    if (found == wanted.end()) return;
    found->second->now = count;
    if (!count) found->second->problem = no_count;
  });
  if (!incomplete.empty()) {
    throw error("nothing was changed: what these pages count is not known. {}", incomplete);
  }
}

bool falls(const WantedChange& change) {
  return change.becomes && (!change.now || *change.becomes < *change.now);
}

/// What changes mean together.
struct ChangeSum {
  WideSum fewer;
  WideSum more;
  WideSum given;

  /// `only_done`: of those alone that are done.
  ChangeSum(const std::vector<WantedChange>& changes, bool only_done) {
    for (const auto& [change, now, becomes, problem, done] : changes) {
      if (!now || !becomes || (only_done && !done)) continue;
      if (change.verb == ControlVerb::take) {
        given.add(*now);
      } else if (*becomes < *now) {
        fewer.add(*now - *becomes);
      } else {
        more.add(*becomes - *now);
      }
    }
  }
  void tell(Json& report) const {
    report["fewer"] = json_of(fewer);
    report["more"] = json_of(more);
    report["given"] = json_of(given);
  }
};

std::string sum_text(const Json& report) {
  std::string text;
  const auto add = [&](const char* name, const char* words) {
    if (report[name] != 0) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", plain(report[name]), words);
  };
  add("fewer", "visits fewer");
  add("more", "visits more");
  add("given", "visits given to other pages");
  return text.empty() ? "no count changes" : text;
}

Json row_of(const WantedChange& wanted) {
  const bool takes = wanted.change.verb == ControlVerb::take;
  Json row = {
      {"page", wanted.change.page}, {"now", value_or_null(wanted.now)}, {"becomes", value_or_null(wanted.becomes)}};
  row["into"] = takes ? Json(wanted.change.operand) : Json(nullptr);
  if (!wanted.problem.empty()) row["problem"] = wanted.problem;
  return row;
}

/// All of them, or the first ones and those with a problem.
void tell_changes(const std::vector<WantedChange>& changes, bool were_sent, Json& report) {
  Json rows = Json::array();
  for (std::size_t i = 0; i < changes.size() && rows.size() < changes_told; ++i) {
    if (i >= changes_told / 2 && changes.size() > changes_told && changes[i].problem.empty()) continue;
    rows.push_back(row_of(changes[i]));
    if (were_sent) rows.back()["done"] = changes[i].done;
  }
  report["changes"] = std::move(rows);
}

std::string change_text(const Json& change) {
  std::string text =
      fmt::format("{}: {} → {}", plain(change["page"]), plain(change["now"], "?"), plain(change["becomes"], "?"));
  if (!change["into"].is_null()) text += fmt::format(", and {} is given them", plain(change["into"]));
  return text + "\n";
}

/// The first ones, and what all of them come to.
std::string shown_text(const Json& report) {
  std::string text;
  const Json& changes = report["changes"];
  const auto pages = report["pages"].get<std::size_t>();
  for (std::size_t i = 0; i < std::min(changes.size(), changes_shown); ++i) text += change_text(changes[i]);
  if (pages > changes_shown) text += fmt::format("… and {} more pages\n", pages - changes_shown);
  if (pages > 1) text += fmt::format("{} pages, {}\n", pages, sum_text(report));
  return text;
}

/// The changes in parts, each of one request.
std::vector<std::span<WantedChange>> parts_of(std::vector<WantedChange>& changes) {
  std::vector<std::span<WantedChange>> parts;
  std::size_t first = 0;
  std::size_t request = 0;
  std::size_t answer = 0;
  const std::span all(changes);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const ControlChange& change = all[i].change;
    const std::size_t asked = 2 * (change.page.size() + change.operand.size()) + change_words_bytes;
    const std::size_t told = 2 * change.page.size() + answer_words_bytes;
    if (i != first && (request + asked > most_request_bytes || answer + told > most_answer_bytes)) {
      parts.push_back(all.subspan(first, i - first));
      first = i;
      request = answer = 0;
    }
    request += asked;
    answer += told;
  }
  if (first != all.size()) parts.push_back(all.subspan(first));
  return parts;
}

/// Puts what became of a part beside what was before.
void take_answer(const Json& answer, std::span<WantedChange> part) {
  const Json rows = answer.value("rows", Json::array());
  for (std::size_t i = 0; i < std::min(rows.size(), part.size()); ++i) {
    WantedChange& change = part[i];
    change.problem = rows[i].value("problem", "");
    change.done = change.problem.empty();
    if (!change.done || change.change.verb == ControlVerb::add) continue;
    change.now = rows[i].value("before", std::uint64_t{0});
    change.becomes = rows[i].value("after", std::uint64_t{0});
  }
}

void send(const Settings& settings, std::uint32_t timeout_ms, std::vector<WantedChange>& changes) {
  const std::vector<std::span<WantedChange>> parts = parts_of(changes);
  each_part(parts.size(), "parts are done", [&](std::size_t number) {
    std::vector<ControlChange> asked;
    for (const WantedChange& wanted : parts[number]) asked.push_back(wanted.change);
    take_answer(ask_flusher(socket_of(settings), {ControlCommand::correct, encode_changes(asked), timeout_ms}),
                parts[number]);
  });
}

}  // namespace

void check_changes(const std::vector<WantedChange>& changes, std::size_t page_id_limit) {
  const auto check = [&](const std::string& page) {
    const PageIdFault fault = check_page_id(page, page_id_limit);
    if (fault != PageIdFault::none) throw error("'{}': {}", printable(page), describe(fault, page, page_id_limit));
  };
  std::unordered_set<std::string_view> pages;
  for (const auto& [change, now, becomes, problem, done] : changes) {
    check(change.page);
    if (change.verb == ControlVerb::take) check(change.operand);
    if (change.verb == ControlVerb::take && change.page == change.operand) {
      throw error("'{}' cannot become itself", printable(change.page));
    }
    if (!pages.insert(change.page).second) {
      throw error("'{}' is to be changed twice: once at a time", printable(change.page));
    }
  }
}

void foresee(WantedChange& wanted) {
  std::uint64_t count = 0;
  if (wanted.change.verb != ControlVerb::take) static_cast<void>(parse_decimal(wanted.change.operand, count));
  wanted.becomes = count;
  if (wanted.change.verb != ControlVerb::add) return;
  wanted.becomes = wanted.now ? std::optional(count + *wanted.now) : std::nullopt;
}

void look_at(const Settings& settings, std::vector<WantedChange>& changes) {
  if (changes.size() > most_asked) {
    look_at_list(settings, changes);
  } else {
    look_at_each(settings, changes);
  }
  for (WantedChange& change : changes) foresee(change);
}

void make_changes(const Settings& settings, std::vector<WantedChange>& changes, const ChangingCounts& how,
                  Json& report) {
  report["pages"] = changes.size();
  ChangeSum(changes, false).tell(report);
  tell_changes(changes, false, report);
  report["dry_run"] = how.dry_run;
  if (how.dry_run) return;
  if (std::ranges::any_of(changes, falls) && !how.yes && !somebody_agrees(shown_text(report), "Change these counts?")) {
    report["unasked"] = !is_at_terminal();
    throw error("nothing was changed; to change them say it with --yes ({})", how.with_yes);
  }
  if (changes.size() > many_changes) {
    // A bucket's changes are one batch of the flusher if they come together.
    const auto bucket = [&](const WantedChange& one) { return page_bucket(one.change.page, settings.redis.buckets); };
    std::ranges::sort(changes, [&](const WantedChange& a, const WantedChange& b) {
      const std::uint32_t of_a = bucket(a);
      const std::uint32_t of_b = bucket(b);
      return of_a != of_b ? of_a < of_b : a.change.page < b.change.page;
    });
  }
  const auto tell = [&] {
    const auto done = static_cast<std::uint64_t>(std::ranges::count(changes, true, &WantedChange::done));
    report["changed"] = done;
    ChangeSum(changes, true).tell(report);
    tell_changes(changes, true, report);
    return changes.size() - done;
  };
  try {
    send(settings, how.timeout_ms, changes);
  } catch (const std::exception&) {
    static_cast<void>(tell());
    throw;
  }
  if (const std::size_t failed = tell(); failed != 0) {
    report["error"] = fmt::format("{} of {} pages were not changed", failed, changes.size());
  }
}

std::string changes_text(const Json& report) {
  if (report.value("unasked", false)) return shown_text(report);
  const bool dry_run = report.value("dry_run", false);
  std::string text;
  std::size_t shown = 0;
  for (const Json& change : report["changes"]) {
    if ((dry_run || change.value("done", false)) && ++shown <= changes_shown) text += change_text(change);
    if (change.contains("problem")) text += fmt::format("{}: {}\n", plain(change["page"]), plain(change["problem"]));
  }
  const auto pages = report.value("pages", std::size_t{0});
  const auto changed = dry_run ? pages : report.value("changed", std::size_t{0});
  if (changed > changes_shown) text += fmt::format("… and {} more pages\n", changed - changes_shown);
  if (dry_run) text += fmt::format("{} pages would be changed: {}\n", pages, sum_text(report));
  if (!dry_run && changed > 1) text += fmt::format("{} pages are changed: {}\n", changed, sum_text(report));
  return text;
}

}  // namespace visitd
