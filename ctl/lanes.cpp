#include "ctl/lanes.hpp"

#include <fmt/format.h>

#include "common/counter/heartbeat.hpp"
#include "common/os/clock.hpp"
#include "common/os/invariant.hpp"
#include "common/os/text.hpp"
#include "ctl/commands.hpp"
#include "ctl/processes.hpp"

namespace visitd {

namespace {

std::string_view name_of(LaneState state) noexcept {
  switch (state) {
    case LaneState::unused:
      return "unused";
    case LaneState::open:
      return "open";
    case LaneState::closed:
      return "closed";
  }
  return "unknown";
}

Json statistics_of(LaneHeader& header) {
  Json statistics = Json::object();
  for (std::size_t i = 0; i < std::size(frontend_statistics); ++i) {
    statistics[std::string(frontend_statistics[i].name)] = header.statistics[i].load(std::memory_order_acquire);
  }
  return statistics;
}

Json lane_report(const Segments& segments, const Ring& ring, std::uint32_t lane, const HeldLocks& locks) {
  LaneHeader& header = ring.lane(lane);
  const auto get = [](const Word& word) { return word.load(std::memory_order_acquire); };
  const LanePositions positions = lane_positions(segments, ring, lane);
  const bool known = positions.fault.empty() && positions.applied && positions.head;
  const std::uint64_t owner = get(header.about.owner);
  const std::uint64_t owners = get(header.about.owners);
  const Heartbeat heartbeat(header.about.heartbeat_ns);
  const std::uint64_t now_ms = monotonic_ms();
  const std::optional<int> holder = locks.holder(ring.lane_lock(lane), owner);
  Json report;
  report["lane"] = lane;
  report["lane_state"] = name_of(ring.lane_state(lane));
  report["process"] = owners == 0 ? "unused"
                                  : name_of(presence_of(holder.has_value(), is_process(owner),
                                                        heartbeat.is_within(recent_heartbeat_ms, now_ms)));
  report["lock_seen"] = holder.has_value();
  report["pid"] = owner == 0 ? Json(nullptr) : Json(owner);
  report["heartbeat_age_ms"] = value_or_null(heartbeat.age_ms(now_ms));
  report["owners"] = owners;
  report["tail"] = positions.tail;
  report["applied"] = value_or_null(positions.applied);
  report["head"] = value_or_null(positions.head);
  report["unapplied_bytes"] = known ? Json(positions.tail - *positions.applied) : Json(nullptr);
  report["undurable_bytes"] = known ? Json(positions.tail - *positions.head) : Json(nullptr);
  report["capacity_bytes"] = ring.shape().lane_bytes;
  report["requests_waiting_bytes"] = nullptr;
  if (const Cache* const cache = segments.view_of(ring)) {
    const std::uint64_t read = get(at_index(cache->header().requests_read, lane));
    const std::uint64_t posted = get(header.requests_tail.word);
    if (read <= posted) report["requests_waiting_bytes"] = posted - read;
  }
  report["fault"] = positions.fault.empty() ? Json(nullptr) : Json(positions.fault);
  report["statistics"] = statistics_of(header);
  return report;
}

}  // namespace

Json rings_report(const Segments& segments) {
  const HeldLocks locks;
  Json rings = Json::array();
  for (const NotedRing& noted : segments.rings) {
    Json report;
    report["id"] = hex(noted.note.id);
    report["segment"] = noted.note.segment;
    report["in_use"] = noted.in_use;
    report["error"] = noted.ring ? Json(nullptr) : Json(noted.fault);
    if (noted.ring) {
      const RingShape& shape = noted.ring->shape();
      const std::string why_no_view = segments.why_no_view(*noted.ring);
      report["made_at"] = noted.ring->header().made_at.load(std::memory_order_acquire);
      report["removed"] = noted.ring->segment().status().removed;
      report["lane_bytes"] = shape.lane_bytes;
      report["page_id_limit_bytes"] = shape.page_id_limit;
      report["view"] = why_no_view.empty() ? Json("shown") : Json(why_no_view);
      report["lanes"] = Json::array();
      for (std::uint32_t lane = 0; lane < shape.lanes; ++lane) {
        report["lanes"].push_back(lane_report(segments, *noted.ring, lane, locks));
      }
    }
    rings.push_back(std::move(report));
  }
  return rings;
}

Json lanes_report(const Settings& settings) {
  const RuntimeDirectory directory(settings.paths.runtime_directory);
  const Segments segments = attach_segments(directory);
  Json report;
  report["runtime_directory"] = directory.path();
  if (const std::string fault = segments.ring_error(directory); !fault.empty()) report["error"] = fault;
  report["rings"] = rings_report(segments);
  return report;
}

std::string lanes_text(const Json& report) {
  std::string text;
  for (const Json& ring : report["rings"]) {
    if (!ring["error"].is_null()) {
      if (!ring["in_use"].get<bool>()) {
        text +=
            fmt::format("ring {}, segment {}: {}\n", plain(ring["id"]), plain(ring["segment"]), plain(ring["error"]));
      }
      continue;
    }
    text += fmt::format("{}ring {}, segment {}, {}{}\n", text.empty() ? "" : "\n", plain(ring["id"]),
                        plain(ring["segment"]), ring["in_use"].get<bool>() ? "in use" : "being left",
                        ring["removed"].get<bool>() ? ", removed" : "");
    if (ring["view"] != "shown") text += fmt::format("no view: {}\n", plain(ring["view"]));
    Table table({">lane", "state", "process", ">pid", ">heartbeat", ">owners", ">tail", ">unapplied", ">undurable",
                 ">of", ">visits", ">refused", ">reads"});
    std::string faults;
    for (const Json& lane : ring["lanes"]) {
      const Json& statistics = lane["statistics"];
      const std::uint64_t refused = statistics["visits_refused_full"].get<std::uint64_t>() +
                                    statistics["visits_refused_closed"].get<std::uint64_t>();
      table.row({plain(lane["lane"]), plain(lane["lane_state"]), plain(lane["process"]), plain(lane["pid"]),
                 plain_span(lane["heartbeat_age_ms"]), plain(lane["owners"]), plain(lane["tail"]),
                 plain_bytes(lane["unapplied_bytes"], "?"), plain_bytes(lane["undurable_bytes"], "?"),
                 plain_bytes(lane["capacity_bytes"]), plain(statistics["visits"]), fmt::format("{}", refused),
                 plain(statistics["reads"])});
      if (!lane["fault"].is_null()) faults += fmt::format("lane {}: {}\n", plain(lane["lane"]), plain(lane["fault"]));
    }
    text += table.text() + faults;
  }
  return text;
}

}  // namespace visitd
