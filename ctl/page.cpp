#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "common/counter/reader_memory.hpp"
#include "common/os/clock.hpp"
#include "common/os/invariant.hpp"
#include "common/shm/page_id.hpp"
#include "common/shm/shared_text.hpp"
#include "ctl/commands.hpp"
#include "ctl/control_client.hpp"
#include "ctl/page_names.hpp"
#include "ctl/segments.hpp"
#include "ctl/shards.hpp"

namespace visitd {

namespace {

constexpr int look_tries = 10;
constexpr std::chrono::milliseconds look_pause{5};

/// The page's visits that are not applied into `report`.
void report_unapplied(const CountReader::Parts& parts, std::uint64_t lane_bytes, Json& report) {
  std::uint64_t total = 0;
  for (std::size_t n = 0; n < parts.lanes.size(); ++n) {
    const Backlog::LaneVisits& lane = parts.lanes[n];
    if (const std::string fault = positions_fault(lane.applied, lane.applied, lane.tail, lane_bytes); !fault.empty()) {
      report["faults"].push_back(fmt::format("lane {}: {}", n, fault));
      continue;
    }
    if (lane.end != lane.tail) {
      report["faults"].push_back(
          fmt::format("lane {}: the record at {} is damaged; those after it cannot be read", n, lane.end));
    }
    if (lane.visits != 0) report["unapplied_lanes"].push_back({{"lane", n}, {"visits", lane.visits}});
    total += lane.visits;
  }
  report["unapplied"] = total;
}

/// Entry and backlog of one moment into `report`. False: they moved meanwhile; again.
bool look(const Segments& segments, const Ring& ring, const std::string& page, Json& report) {
  report["view"] = nullptr;
  for (const char* name : {"count", "base", "inflight", "open", "unapplied"}) report[name] = nullptr;
  report["unapplied_lanes"] = Json::array();
  for (const char* name : {"expires_in_ms", "bucket", "shard", "shard_state"}) report[name] = nullptr;
  report["faults"] = Json::array();
  if (const Cache* const placing = segments.any_cache()) report_placement(*placing, page, report);
  const Cache* const cache = segments.view_of(ring);
  report["view"] = cache != nullptr ? "shown" : segments.why_no_view(ring);
  // Without a flusher ever, every record is unapplied; else nobody can say which are.
  if (cache == nullptr && segments.cache_note) return true;
  CountReader reader(lanes_of(ring), ring.header().superseded, 0);
  if (cache != nullptr) reader.follow(memory_of(*cache));
  const CountReader::Parts parts = reader.parts(page_hash(page, ring.hash_seed()), page);
  const bool entry = parts.why == CountReader::Why::none;
  if (!entry && parts.why != CountReader::Why::absent && parts.why != CountReader::Why::no_cache) return false;
  report_unapplied(parts, ring.shape().lane_bytes, report);
  report["entry"] = entry;
  if (!entry) return true;
  report["base"] = parts.snapshot.base;
  report["inflight"] = parts.snapshot.inflight;
  report["open"] = parts.snapshot.open;
  report["expires_in_ms"] = static_cast<std::int64_t>(parts.snapshot.expires - monotonic_ms());
  if (!report["faults"].empty()) return true;
  if (const auto count = parts.snapshot.count_with(report["unapplied"].get<std::uint64_t>())) {
    report["count"] = *count;
  } else {
    report["faults"].push_back("Redis cannot count the page: readers are answered 503 count-damaged");
  }
  return true;
}

/// The parts that are known, added up, where all of them are. Of a page without an entry it is the flusher who knows
/// them: it was asked a moment after the lanes were read.
Json sum_of(const Json& report) {
  if (!report["count"].is_null()) return report["count"];
  const Json& redis = report["redis"];
  const bool whole = !report["entry"].get<bool>() && report["unapplied"].is_number_unsigned() &&
                     report["faults"].empty() && !redis.contains("damaged") && !redis.contains("spilled");
  if (!whole) return nullptr;
  std::uint64_t sum = report["unapplied"].get<std::uint64_t>();
  for (const char* name : {"count", "inflight", "open"}) {
    if (!redis.contains(name) || !redis[name].is_number_unsigned()) return nullptr;
    if (__builtin_add_overflow(sum, redis[name].get<std::uint64_t>(), &sum)) return nullptr;
  }
  return sum;
}

std::string why_no_sum(const Json& report) {
  if (!report["faults"].empty()) return plain(report["faults"].front());
  if (report["view"] != "shown" && report["view"].is_string()) return plain(report["view"]);
  const Json& redis = report["redis"];
  for (const char* name : {"error", "damaged", "unreadable", "spilled"}) {
    if (redis.contains(name)) return "nobody read it lately, and " + plain(redis[name]);
  }
  return "nobody read it lately";
}

/// When Redis was, or will be, asked.
std::string seen_text(const Json& expires_in_ms) {
  if (!expires_in_ms.is_number_integer()) return {};
  const auto left = expires_in_ms.get<std::int64_t>();
  return left >= 0 ? ", as last seen; asked again in " + span_text(static_cast<std::uint64_t>(left))
                   : ", as last seen; to be asked again since " + span_text(0 - static_cast<std::uint64_t>(left));
}

/// Where the page is kept, and what there is to know beside its parts.
std::string surroundings_text(const Json& report) {
  std::string text;
  const Json& redis = report["redis"];
  if (!report["bucket"].is_null()) {
    const std::string state = report["shard_state"].is_null() ? "" : " (" + plain(report["shard_state"]) + ")";
    text += fmt::format("kept in bucket {} of shard {}{}\n", plain(report["bucket"]), plain(report["shard"]), state);
  }
  if (report["entry"].get<bool>() && redis.contains("count")) {
    text += fmt::format("Redis holds {} at this moment\n", plain(redis["count"]));
  }
  for (const char* name : {"error", "unreadable", "damaged", "spilled"}) {
    if (redis.contains(name)) text += fmt::format("Redis cannot be asked fully: {}\n", plain(redis[name]));
  }
  if (redis.contains("set_aside")) {
    text += fmt::format("{} visits are set aside: Redis could not take them\n", plain(redis["set_aside"]));
  }
  for (const Json& fault : report["faults"]) text += fmt::format("fault: {}\n", plain(fault));
  return text;
}

}  // namespace

Json page_report(const Settings& settings, const std::string& id, bool exact) {
  const RuntimeDirectory directory(settings.paths.runtime_directory);
  Json report;
  const std::string page = name_page(settings, id, exact, report);
  report["entry"] = false;
  if (has_failed(report)) return report;
  bool whole = false;
  for (int tries = 0; tries < look_tries && !whole; ++tries) {
    if (tries > 0) std::this_thread::sleep_for(look_pause);
    const Segments segments = attach_segments(directory);
    const Ring* const ring = segments.ring_in_use();
    if (ring == nullptr) {
      report["error"] = segments.ring_error(directory);
      return report;
    }
    // As long as an entry has room for, so that comparing it with one stays within the entry.
    std::uint32_t limit = ring->shape().page_id_limit;
    if (const Cache* const cache = segments.any_cache()) limit = std::min(limit, cache->shape().page_id_limit);
    if (const PageIdFault fault = check_page_id(page, limit); fault != PageIdFault::none) {
      report["error"] = describe(fault, page, limit);
      return report;
    }
    whole = look(segments, *ring, page, report);
  }
  if (!whole)
    report["error"] = "the page's entry or the lanes change all the time, or are corrupt: it could not be read";
  try {
    report["redis"] = ask_flusher(directory.control_socket(), {ControlCommand::page, page, settings.redis.timeout_ms});
  } catch (const FlusherAway&) {
    report["redis"] = {{"error", "the flusher is away"}};
  } catch (const std::exception& refused) {
    report["redis"] = {{"error", refused.what()}};
  }
  report["sum"] = sum_of(report);
  return report;
}

std::string page_text(const Json& report) {
  const std::string page = plain(report["page"]);
  if (!report.contains("view")) return {};
  std::string text = named_text(report);
  text += report["sum"].is_null() ? fmt::format("{}: its count is not known: {}\n", page, why_no_sum(report))
                                  : fmt::format("{} has {} visits:\n", page, plain(report["sum"]));
  const bool entry = report["entry"].get<bool>();
  const Json& parts = entry ? report : report["redis"];
  const auto part = [&](const Json& from, const char* name, const std::string& words) {
    if (from.contains(name) && !from[name].is_null()) text += fmt::format("{:>12}  {}\n", plain(from[name]), words);
  };
  part(parts, entry ? "base" : "count", "in Redis" + (entry ? seen_text(report["expires_in_ms"]) : ""));
  part(parts, "inflight", "sent to Redis, and not acknowledged yet");
  part(parts, "open", "counted by the flusher, and not sent yet");
  std::string lanes;
  for (const Json& lane : report["unapplied_lanes"]) {
    lanes += fmt::format("{}lane {}: {}", lanes.empty() ? " (" : ", ", plain(lane["lane"]), plain(lane["visits"]));
  }
  part(report, "unapplied", "recorded, and not counted by the flusher yet" + lanes + (lanes.empty() ? "" : ")"));
  return text + surroundings_text(report);
}

}  // namespace visitd
