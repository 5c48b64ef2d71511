#include <fmt/format.h>

#include <algorithm>

#include "common/os/text.hpp"
#include "common/os/user_names.hpp"
#include "ctl/commands.hpp"
#include "ctl/found_segments.hpp"
#include "ctl/processes.hpp"

namespace visitd {

namespace {

Json to_report(const FoundSegment& segment, const FoundSegments& all) {
  const std::string kept = why_kept(segment, all);
  const auto text_or_null = [](const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); };
  return {{"what", segment.is_ring ? "ring" : "cache"},
          {"id", hex(segment.note.id)},
          {"shmid", segment.note.segment},
          {"ring", hex(segment.ring)},
          {"owner", user_name(segment.status.owner)},
          {"group", group_name(segment.status.group)},
          {"perms", fmt::format("{:o}", segment.status.mode)},
          {"bytes", segment.status.bytes},
          {"nattch", segment.status.attached},
          {"status", segment.status.removed ? "dest" : ""},
          {"runtime_directory", text_or_null(segment.directory)},
          {"noted", segment.is_noted},
          {"undurable_bytes", segment.undurable_bytes ? Json(*segment.undurable_bytes) : Json(nullptr)},
          {"fault", text_or_null(segment.fault)},
          {"kept_because", text_or_null(kept)}};
}

/// The segment as `clean` names it to the operator.
std::string name_of(const Json& segment) {
  return fmt::format("{} {} ({}, {})", plain(segment["what"]), plain(segment["shmid"]), plain_bytes(segment["bytes"]),
                     plain(segment["runtime_directory"], "of a runtime directory that is not known"));
}

std::string unseen_text(const Json& report) {
  if (report["unseen"] == 0) return {};
  return fmt::format("{} segments of other users may not be looked into: root sees all\n", plain(report["unseen"]));
}

}  // namespace

Json all_segments_report() {
  const FoundSegments found = find_segments();
  Json report = {{"all", true}, {"unseen", found.unseen}, {"segments", Json::array()}};
  for (const FoundSegment& segment : found.segments) report["segments"].push_back(to_report(segment, found));
  return report;
}

std::string all_segments_text(const Json& report) {
  Table table({"what", ">shmid", "owner", "perms", ">bytes", ">nattch", "runtime directory", "clean"});
  for (const Json& segment : report["segments"]) {
    table.row({plain(segment["what"]), plain(segment["shmid"]), plain(segment["owner"]), plain(segment["perms"]),
               plain(segment["bytes"]), plain(segment["nattch"]), plain(segment["runtime_directory"], "not known"),
               segment["kept_because"].is_null() ? "removes it" : "keeps it: " + plain(segment["kept_because"])});
  }
  const std::string rows = report["segments"].empty() ? "no segment of visitd is on this machine\n" : table.text();
  return rows + unseen_text(report);
}

Json clean_report() {
  const FoundSegments found = find_segments();
  Json report = {{"removed", Json::array()}, {"kept", Json::array()}, {"unseen", found.unseen}};
  for (const FoundSegment& segment : found.segments) {
    Json entry = to_report(segment, found);
    if (entry["kept_because"].is_null() && !remove_segment(segment.note.segment)) {
      entry["kept_because"] = fmt::format("only its owner {} or root may remove it", plain(entry["owner"]));
    }
    report[entry["kept_because"].is_null() ? "removed" : "kept"].push_back(std::move(entry));
  }
  return report;
}

std::string clean_text(const Json& report) {
  std::string text;
  for (const Json& segment : report["removed"]) text += fmt::format("removed {}\n", name_of(segment));
  for (const Json& segment : report["kept"]) {
    text += fmt::format("kept    {}: {}\n", name_of(segment), plain(segment["kept_because"]));
  }
  return (text.empty() ? "no segment of visitd is on this machine\n" : text) + unseen_text(report);
}

}  // namespace visitd
