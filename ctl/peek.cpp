#include <fmt/format.h>

#include "common/counter/backlog.hpp"
#include "common/os/invariant.hpp"
#include "common/os/text.hpp"
#include "ctl/commands.hpp"
#include "ctl/segments.hpp"

namespace visitd {

namespace {

constexpr int read_tries = 20;

/// The records of one lane into `report`. False: the lane moved on meanwhile; again.
bool peek_lane(const Segments& segments, const Ring& ring, std::uint32_t lane, std::uint64_t limit, Json& report) {
  report = {{"lane", lane},
            {"unapplied_bytes", nullptr},
            {"records", Json::array()},
            {"bytes_not_shown", nullptr},
            {"damaged_at", nullptr},
            {"fault", nullptr}};
  const LanePositions positions = lane_positions(segments, ring, lane);
  if (!positions.fault.empty()) {
    report["fault"] = positions.fault;
    return true;
  }
  if (!positions.applied) {
    report["fault"] = segments.why_no_view(ring) + ": what is applied is not known";
    return true;
  }
  const LaneRecords records{std::span<const Word>(ring.records(lane))};
  const Cache* const cache = segments.any_cache();
  char page[8 * words_for(max_page_id_bytes)];
  const std::uint64_t from = *positions.applied;
  std::optional<std::uint64_t> not_shown;
  const std::uint64_t end =
      each_visit(records, from, positions.tail, positions.tail, [&](std::uint64_t at, const Record& record) {
        if (report["records"].size() < limit) {
          report["records"].push_back({{"position", at},
                                       {"time", record.time},
                                       {"visits", record.visits},
                                       {"page", records.page(at, record, static_cast<char*>(page))}});
        } else if (!not_shown) {
          not_shown = at;
        }
      });
  if (cache != nullptr && value_of(at_index(cache->header().head, lane).word) > from) return false;
  report["unapplied_bytes"] = positions.tail - from;
  report["bytes_not_shown"] = positions.tail - not_shown.value_or(end);
  if (!not_shown && end != positions.tail) report["damaged_at"] = end;
  return true;
}

}  // namespace

Json peek_report(const Settings& settings, std::uint64_t limit, std::optional<std::uint32_t> lane) {
  const RuntimeDirectory directory(settings.paths.runtime_directory);
  const Segments segments = attach_segments(directory);
  Json report;
  report["runtime_directory"] = directory.path();
  report["rings"] = Json::array();
  bool any = false;
  for (const NotedRing& noted : segments.rings) {
    if (!noted.ring) continue;
    Json lanes = Json::array();
    for (std::uint32_t n = 0; n < noted.ring->shape().lanes; ++n) {
      if (lane && *lane != n) continue;
      Json peeked;
      bool whole = false;
      for (int i = 0; i < read_tries && !whole; ++i) whole = peek_lane(segments, *noted.ring, n, limit, peeked);
      if (!whole) {
        peeked["records"] = Json::array();
        peeked["fault"] = "its records are freed faster than they can be read; try again";
      }
      any = true;
      lanes.push_back(std::move(peeked));
    }
    report["rings"].push_back({{"id", hex(noted.note.id)}, {"in_use", noted.in_use}, {"lanes", std::move(lanes)}});
  }
  if (const std::string fault = segments.ring_error(directory); !fault.empty()) {
    report["error"] = fault;
  } else if (lane && !any) {
    report["error"] = fmt::format("no ring has a lane {}", *lane);
  }
  return report;
}

std::string peek_text(const Json& report) {
  std::string text;
  std::uint64_t shown = 0;
  for (const Json& ring : report["rings"]) {
    Table table({">lane", ">position", "time", ">visits", "page"});
    std::string notes;
    for (const Json& lane : ring["lanes"]) {
      for (const Json& record : lane["records"]) {
        table.row({plain(lane["lane"]), plain(record["position"]), time_text(record["time"].get<std::uint64_t>()),
                   plain(record["visits"]), plain(record["page"])});
        ++shown;
      }
      if (!lane["fault"].is_null()) notes += fmt::format("lane {}: {}\n", plain(lane["lane"]), plain(lane["fault"]));
      if (!lane["damaged_at"].is_null()) {
        notes += fmt::format("lane {}: the record at {} is damaged; {} up to the tail cannot be read\n",
                             plain(lane["lane"]), plain(lane["damaged_at"]), plain_bytes(lane["bytes_not_shown"]));
      } else if (lane["bytes_not_shown"].is_number_unsigned() && lane["bytes_not_shown"] != 0) {
        notes += fmt::format("lane {}: {} more (--limit)\n", plain(lane["lane"]), plain_bytes(lane["bytes_not_shown"]));
      }
    }
    if (!ring["in_use"].get<bool>()) text += fmt::format("ring {}, being left\n", plain(ring["id"]));
    if (shown != 0) text += table.text();
    text += notes;
  }
  if (text.empty() && !has_failed(report)) text = "every record is applied\n";
  return text;
}

}  // namespace visitd
