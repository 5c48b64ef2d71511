#include <fmt/format.h>

#include <type_traits>

#include "common/os/text.hpp"
#include "common/os/user_names.hpp"
#include "ctl/commands.hpp"
#include "ctl/processes.hpp"
#include "ctl/segments.hpp"

namespace visitd {

namespace {

/// Whether the segment is the one that was noted, or the kernel gave its number to another. Detached again before its
/// status is looked at, so that we do not count ourselves.
template <typename Segment>
Json fault_of(const SegmentNote& note) {
  try {
    const auto attached = Segment::attach(note, SharedSegment::Access::read_only);
    if (const auto* fault = std::get_if<AttachFault>(&attached)) return describe(*fault);
    return nullptr;
  } catch (const std::exception& refused) {
    return refused.what();
  }
}

/// nullopt: there is none, or it may not be looked at.
std::optional<SegmentStatus> status_of(const SegmentNote& note) {
  try {
    return segment_status(note.segment);
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

template <typename Segment>
Json segment_report(const SegmentNote& note, bool in_use) {
  Json report;
  report["what"] = std::is_same_v<Segment, Ring> ? "ring" : "cache";
  report["id"] = hex(note.id);
  report["in_use"] = in_use;
  report["shmid"] = note.segment;
  report["fault"] = fault_of<Segment>(note);
  const auto status = status_of(note);
  const bool gone = report["fault"] == describe(AttachFault::gone);
  report["status"] = status ? (status->removed ? "dest" : "") : gone ? "gone" : "unknown";
  if (!status) return report;
  report["key"] = fmt::format("0x{:08x}", status->key);
  report["owner"] = user_name(status->owner);
  report["group"] = group_name(status->group);
  report["perms"] = fmt::format("{:o}", status->mode);
  report["bytes"] = status->bytes;
  report["nattch"] = status->attached;
  report["maker_pid"] = status->maker;
  report["last_pid"] = status->last_attacher;
  return report;
}

void add_processes(Json& segments) {
  std::vector<int> ids;
  for (const Json& segment : segments) ids.push_back(segment["shmid"].get<int>());
  const auto attached = attached_processes(ids);
  for (Json& segment : segments) {
    if (!segment.contains("nattch")) continue;
    segment["attached"] = Json::array();
    std::uint64_t seen = 0;
    if (const auto processes = attached.find(segment["shmid"].get<int>()); processes != attached.end()) {
      for (const AttachedProcess& process : processes->second) {
        seen += process.times;
        segment["attached"].push_back({{"pid", process.process},
                                       {"name", process.name},
                                       {"times", process.times},
                                       {"access", process.writes ? "read-write" : "read-only"}});
      }
    }
    const auto all = segment["nattch"].get<std::uint64_t>();
    segment["attached_unseen"] = all > seen ? all - seen : 0;
  }
}

}  // namespace

Json ipcs_report(const Settings& settings) {
  const RuntimeDirectory directory(settings.paths.runtime_directory);
  directory.require_readable();
  Json report;
  report["runtime_directory"] = directory.path();
  Json segments = Json::array();
  const std::vector<SegmentNote> rings = directory.rings();
  for (const SegmentNote& ring : rings) segments.push_back(segment_report<Ring>(ring, &ring == &rings.back()));
  if (const auto cache = directory.cache()) segments.push_back(segment_report<Cache>(*cache, true));
  if (segments.empty()) {
    report["error"] =
        fmt::format("no segments are noted in runtime directory {}: nothing ever ran there", directory.path());
  }
  add_processes(segments);
  report["segments"] = std::move(segments);
  return report;
}

std::string ipcs_text(const Json& report) {
  if (report["segments"].empty()) return {};
  Table table({"what", "key", ">shmid", "owner", "perms", ">bytes", ">nattch", "status", ""});
  std::string notes;
  for (const Json& segment : report["segments"]) {
    const std::string what = plain(segment["what"]) + (segment["in_use"].get<bool>() ? "" : " (being left)");
    const std::string fault = segment["fault"].is_null() || segment["status"] == "gone" ? "" : plain(segment["fault"]);
    if (!segment.contains("nattch")) {
      table.row({what, "-", plain(segment["shmid"]), "-", "-", "-", "-", plain(segment["status"]), fault});
      continue;
    }
    table.row({what, plain(segment["key"]), plain(segment["shmid"]), plain(segment["owner"]), plain(segment["perms"]),
               plain(segment["bytes"]), plain(segment["nattch"]), plain(segment["status"]), fault});
    for (const Json& process : segment["attached"]) {
      const std::string times = process["times"] == 1 ? "" : fmt::format(", {} times", plain(process["times"]));
      notes += fmt::format("{} {}: {} {}, {}{}\n", plain(segment["what"]), plain(segment["shmid"]),
                           plain(process["name"]), plain(process["pid"]), plain(process["access"]), times);
    }
    if (segment["attached_unseen"] != 0) {
      notes += fmt::format("{} {}: {} more that this user cannot see\n", plain(segment["what"]),
                           plain(segment["shmid"]), plain(segment["attached_unseen"]));
    }
  }
  return table.text() + (notes.empty() ? "" : "\n") + notes;
}

}  // namespace visitd
