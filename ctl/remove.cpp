#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <string_view>
#include <vector>

#include "common/os/errors.hpp"
#include "common/os/file_lease.hpp"
#include "common/os/held_locks.hpp"
#include "common/os/user_names.hpp"
#include "common/shm/cache.hpp"
#include "common/shm/ring.hpp"
#include "ctl/agreement.hpp"
#include "ctl/commands.hpp"
#include "ctl/found_segments.hpp"
#include "ctl/processes.hpp"

namespace visitd {

namespace {

namespace fs = std::filesystem;

/// All that there is of an instance.
struct Remains {
  FoundSegments found;
  std::vector<FoundSegment> segments;  ///< of `found`, those of this instance
  std::vector<std::string> locks;      ///< lock files that are there
  std::vector<std::string> files;      ///< all files of ours that are to go, the locks among them
  std::vector<std::string> folders;    ///< that go where nothing is left in them
  std::uint64_t undurable_bytes = 0;
  bool unreadable = false;
  std::uint64_t pending_visits = 0;  ///< in the spool, as the cache says
};

bool is_number(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

/// "lane-12.lock" with the ending ".lock".
bool is_of_a_lane(std::string_view name, std::string_view ending) {
  constexpr std::string_view beginning = "lane-";
  return name.starts_with(beginning) && name.ends_with(ending) && name.size() > beginning.size() + ending.size() &&
         is_number(name.substr(beginning.size(), name.size() - beginning.size() - ending.size()));
}

bool is_lock(std::string_view name) {
  return name == "ring.lock" || name == "flusher.lock" || is_of_a_lane(name, ".lock");
}

/// Whether a file of the runtime directory is one that our programs make there.
bool is_runtime_file(std::string_view name) {
  constexpr std::string_view others[] = {"rings", "rings.new", "cache", "cache.new", "flusher.bell", "flusher.sock"};
  return is_lock(name) || is_of_a_lane(name, ".bell") || std::ranges::find(others, name) != std::end(others);
}

/// The spool, its journals, and what was put aside of it.
bool is_state_file(std::string_view name) {
  return name == "spool.db" || name.starts_with("spool.db-") || name.starts_with("spool.db.");
}

void add_files(Remains& remains, const std::string& folder, bool (*is_ours)(std::string_view)) {
  std::error_code fault;
  fs::directory_iterator entries(folder, fault);
  if (fault == std::errc::no_such_file_or_directory) return;
  if (fault) throw error("{} cannot be read: {}", folder, fault.message());
  for (const fs::directory_entry& entry : entries) {
    const std::string name = entry.path().filename();
    if (!is_ours(name)) continue;
    remains.files.push_back(entry.path());
    if (is_lock(name)) remains.locks.push_back(entry.path());
  }
  remains.folders.push_back(folder);
}

Remains remains_of(const Settings& settings, bool with_state) {
  const RuntimeDirectory directory(settings.paths.runtime_directory);
  directory.require_readable();
  Remains remains;
  remains.found = find_segments();
  const std::uint64_t instance = instance_of(directory);
  const auto cache = directory.cache();
  for (const FoundSegment& segment : remains.found.segments) {
    const bool named = segment.instance == instance || segment.directory == directory.path() || segment.note == cache;
    const auto rings = directory.rings();
    if (!named && std::ranges::find(rings, segment.note) == rings.end()) continue;
    remains.undurable_bytes += segment.undurable_bytes.value_or(0);
    remains.unreadable |= !segment.undurable_bytes;
    remains.segments.push_back(segment);
  }
  if (cache) {
    const auto attached = Cache::attach(*cache, SharedSegment::Access::read_only);
    if (const auto* of = std::get_if<Cache>(&attached)) {
      remains.pending_visits =
          value_of(at_index(of->header().statistics, static_cast<std::size_t>(FlusherStatistic::pending_visits)));
    }
  }
  add_files(remains, directory.path(), is_runtime_file);
  if (with_state) add_files(remains, settings.paths.state_directory, is_state_file);
  return remains;
}

/// "process 12 (visit-flusher of visit-flusher.service)".
std::string process_text(int process, const std::string& name) {
  const std::string unit = unit_of(process);
  return fmt::format("process {} ({}{})", process, name, unit.empty() ? "" : " of " + unit);
}

/// Everybody that uses a segment or holds a lock of the instance, and how to stop them; empty: nobody does.
std::string why_in_use(const Remains& remains) {
  std::vector<int> ids;
  ids.reserve(remains.segments.size());
  for (const FoundSegment& segment : remains.segments) ids.push_back(segment.note.segment);
  std::map<int, std::string> processes;
  for (const auto& [segment, attached] : attached_processes(ids)) {
    for (const AttachedProcess& process : attached) processes[process.process] = process.name;
  }
  const HeldLocks held;
  bool unseen = false;
  for (const std::string& path : remains.locks) {
    const auto file = file_identity(path);
    if (!file || LockWatch(path, *file).is_free()) continue;
    if (const auto holder = held.holder(*file)) {
      processes[*holder] = process_name(*holder);
    } else {
      unseen = true;
    }
  }
  for (const FoundSegment& segment : remains.segments) unseen |= segment.status.attached > 0;
  if (processes.empty()) return unseen ? "processes that this user cannot see run it: stop them first" : "";
  std::vector<std::string> named;
  std::vector<int> others;
  bool units = false;
  for (const auto& [process, name] : processes) {
    named.push_back(process_text(process, name));
    if (unit_of(process).starts_with("visit")) {
      units = true;
    } else {
      others.push_back(process);
    }
  }
  std::vector<std::string> commands;
  if (units) commands.emplace_back("systemctl stop visitd.target");
  if (!others.empty()) commands.push_back(fmt::format("kill {}", fmt::join(others, " ")));
  return fmt::format("it still runs: {}. Stop it first, and what would start it again: {}", fmt::join(named, ", "),
                     fmt::join(commands, "; "));
}

/// What would be lost; empty: nothing.
std::string loss_of(const Remains& remains, bool with_state) {
  std::vector<std::string> lost;
  if (remains.undurable_bytes > 0) {
    lost.push_back(
        fmt::format("its ring holds {} bytes of visits that no spool is known to hold", remains.undurable_bytes));
  }
  if (remains.unreadable) lost.emplace_back("a segment of it cannot be read and may hold visits");
  if (with_state && remains.pending_visits > 0) {
    lost.push_back(fmt::format("its spool holds {} visits that Redis has not", remains.pending_visits));
  }
  return fmt::format("{}", fmt::join(lost, ", and "));
}

Json segments_json(const Remains& remains) {
  Json segments = Json::array();
  for (const FoundSegment& segment : remains.segments) {
    segments.push_back({{"what", segment.is_ring ? "ring" : "cache"},
                        {"shmid", segment.note.segment},
                        {"bytes", segment.status.bytes}});
  }
  return segments;
}

std::string plan_text(const Json& report) {
  std::string text;
  for (const Json& segment : report["segments"]) {
    text += fmt::format("segment {} ({}, {})\n", plain(segment["shmid"]), plain(segment["what"]),
                        plain_bytes(segment["bytes"]));
  }
  for (const Json& folder : report["folders"]) text += fmt::format("folder  {}\n", plain(folder));
  return text;
}

/// Ends the instance while nobody can begin to use it. Throws where somebody has meanwhile.
void remove_all(const Remains& remains, Json& report) {
  std::vector<FileLease> leases;
  for (const std::string& path : remains.locks) {
    auto lease = FileLease::try_take(path);
    if (!lease) throw error("{} is held by {} since a moment ago: nothing was removed", path, lock_holder(path));
    leases.push_back(std::move(*lease));
  }
  for (const FoundSegment& segment : remains.segments) {
    if (!remove_segment(segment.note.segment)) {
      throw error("segment {} can be removed only by its owner, {}, or root", segment.note.segment,
                  user_name(segment.status.owner));
    }
  }
  for (const std::string& file : remains.files) {
    if (unlink(file.c_str()) != 0 && errno != ENOENT) throw system_error("{} cannot be removed", file);
  }
  for (const std::string& folder : remains.folders) {
    if (rmdir(folder.c_str()) == 0 || errno == ENOENT) continue;
    // Its parent may be another's, such as /run; what else is in it is not ours.
    report["kept"].push_back(
        fmt::format("{}: {}", folder, errno == ENOTEMPTY ? "holds files that are not visitd's" : std::strerror(errno)));
  }
}

}  // namespace

Json remove_report(const Settings& settings, const RemoveOptions& options) {
  Json report = {{"runtime_directory", settings.paths.runtime_directory},
                 {"state_directory", options.state ? Json(settings.paths.state_directory) : Json(nullptr)}};
  const Remains remains = remains_of(settings, options.state);
  report["segments"] = segments_json(remains);
  report["folders"] = remains.folders;
  report["kept"] = Json::array();
  report["removed"] = false;
  if (remains.segments.empty() && remains.folders.empty()) {
    report["error"] =
        fmt::format("there is neither the runtime directory {} nor a segment of it", settings.paths.runtime_directory);
    return report;
  }
  if (const std::string use = why_in_use(remains); !use.empty()) {
    report["error"] = use;
    return report;
  }
  if (const std::string loss = loss_of(remains, options.state); !loss.empty() && !options.discard_visits) {
    report["error"] = fmt::format(
        "{}: start its flusher until `visitctl flush` has carried them to Redis, or say --discard-visits", loss);
    return report;
  }
  if (!options.yes && !somebody_agrees(plan_text(report), "Remove all of this?")) {
    report["error"] = fmt::format("nothing was removed; to remove it say --yes:\n{}", plan_text(report));
    return report;
  }
  remove_all(remains, report);
  report["removed"] = true;
  return report;
}

std::string remove_text(const Json& report) {
  if (has_failed(report)) return {};
  std::string text = "removed\n" + plan_text(report);
  for (const Json& kept : report["kept"]) text += fmt::format("kept    {}\n", plain(kept));
  return text;
}

}  // namespace visitd
