#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "common/clock.hpp"
#include "common/invariant.hpp"
#include "common/page_id.hpp"
#include "common/shared_text.hpp"
#include "ctl/commands.hpp"
#include "ctl/control_client.hpp"
#include "ctl/segments.hpp"

namespace visitd {

namespace {

constexpr int snapshot_tries = 2000;  // a change takes nanoseconds, a preempted flusher milliseconds
constexpr int look_tries = 10;
constexpr std::chrono::milliseconds look_pause{5};

/// The page's visits between `from` and tail in every lane into `report`. False: a lane moved on meanwhile; again.
bool count_unapplied(const Segments& segments, const Ring& ring, std::uint64_t hash, const std::string& page,
                     const std::uint64_t* from, Json& report) {
  const Cache* const cache = segments.any_cache();
  std::uint64_t total = 0;
  Json lanes = Json::array();
  for (std::uint32_t lane = 0; lane < ring.shape().lanes; ++lane) {
    const Word* const head = cache != nullptr ? &at_index(cache->header().head, lane).word : nullptr;
    const std::uint64_t tail = ring.lane(lane).tail.word.load(std::memory_order_acquire);
    if (const std::string fault = positions_fault(from[lane], from[lane], tail, ring.shape().lane_bytes);
        !fault.empty()) {
      if (head != nullptr && head->load(std::memory_order_acquire) > from[lane]) return false;
      report["faults"].push_back(fmt::format("lane {}: {}", lane, fault));
      continue;
    }
    const LaneRecords records{std::span<const Word>(ring.records(lane))};
    std::uint64_t visits = 0;
    std::uint64_t position = 0;
    const Walk walk = walk_lane(records, from[lane], tail, head, position, [&](const Record& record, std::uint64_t at) {
      if (record.page_hash == hash && records.is_page(at, record, page)) visits += record.visits;
      return true;
    });
    if (walk == Walk::overtaken) return false;
    if (walk == Walk::damaged) {
      report["faults"].push_back(
          fmt::format("lane {}: the record at {} is damaged; those after it cannot be read", lane, position));
    }
    if (visits != 0) lanes.push_back({{"lane", lane}, {"visits", visits}});
    total += visits;
  }
  report["unapplied"] = total;
  report["unapplied_lanes"] = std::move(lanes);
  return true;
}

/// Where the page is placed, as the cache says.
void report_placement(const Cache& cache, const std::string& page, Json& report) {
  const std::uint32_t bucket = page_bucket(page, cache.shape().buckets);
  const CacheHeader& header = cache.header();
  const std::uint64_t shard = cache.shard_of_bucket(bucket).load(std::memory_order_acquire);
  report["bucket"] = bucket;
  if (shard >= max_shards || shard >= header.shards.load(std::memory_order_acquire)) return;
  const ShardSlot& slot = at_index(header.shard, shard);
  report["shard"] = load_text(slot.name);
  report["shard_state"] = name_of(static_cast<ShardState>(slot.state.load(std::memory_order_acquire)));
}

/// Entry and backlog of one moment into `report`. False: they moved meanwhile; again.
bool look(const Segments& segments, const Ring& ring, const std::string& page, Json& report) {
  report["view"] = nullptr;
  for (const char* name : {"count", "base", "inflight", "open", "unapplied"}) report[name] = nullptr;
  report["unapplied_lanes"] = Json::array();
  for (const char* name : {"expires_in_ms", "bucket", "shard", "shard_state"}) report[name] = nullptr;
  report["faults"] = Json::array();
  const std::uint64_t hash = page_hash(page, ring.hash_seed());
  Snapshot snapshot;
  if (const Cache* const placing = segments.any_cache()) report_placement(*placing, page, report);
  const Cache* const cache = segments.view_of(ring);
  report["view"] = cache != nullptr ? "shown" : segments.why_no_view(ring);
  if (cache == nullptr) {
    // Without a flusher ever, every record is unapplied; else nobody can say which are.
    return segments.cache_note || count_unapplied(segments, ring, hash, page, snapshot.applied, report);
  }
  const auto views = cache->views();
  const CacheHeader& header = cache->header();
  Seen seen = Seen::again;
  for (int tries = 0; tries < snapshot_tries && seen == Seen::again; ++tries) {
    seen = take_snapshot(header.active.word, views, hash, page, snapshot);
  }
  if (seen == Seen::again) return false;
  if (!count_unapplied(segments, ring, hash, page, snapshot.applied, report)) return false;
  // Another cache may free space that this one still shows as taken.
  if (header.retired.word.load(std::memory_order_acquire) != 0) return false;
  report["entry"] = seen == Seen::entry;
  if (seen == Seen::absent) return true;
  report["base"] = snapshot.base;
  report["inflight"] = snapshot.inflight;
  report["open"] = snapshot.open;
  report["expires_in_ms"] = static_cast<std::int64_t>(snapshot.expires - monotonic_ms());
  if (!report["faults"].empty()) return true;
  if (const auto count = snapshot.count_with(report["unapplied"].get<std::uint64_t>())) {
    report["count"] = *count;
  } else {
    report["faults"].push_back("Redis cannot count the page: readers are answered 503 count-damaged");
  }
  return true;
}

}  // namespace

Json page_report(const Settings& settings, const std::string& page) {
  const RuntimeDirectory directory(settings.runtime_directory);
  Json report;
  report["page"] = page;
  report["entry"] = false;
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
      report["error"] = describe(fault);
      return report;
    }
    whole = look(segments, *ring, page, report);
  }
  if (!whole)
    report["error"] = "the page's entry or the lanes change all the time, or are corrupt: it could not be read";
  try {
    report["redis"] = ask_flusher(directory.control_socket(), "page", page, settings.redis_timeout_ms);
  } catch (const FlusherAway&) {
    report["redis"] = {{"error", "the flusher is away"}};
  } catch (const std::exception& refused) {
    report["redis"] = {{"error", refused.what()}};
  }
  return report;
}

std::string page_text(const Json& report) {
  std::string text = fmt::format("page        {}\n", plain(report["page"]));
  const auto line = [&](std::string_view name, const std::string& value) {
    text += fmt::format("{:<11} {}\n", name, value);
  };
  if (!report.contains("view")) return text;
  if (report["view"] != "shown") line("view", plain(report["view"]));
  const bool shown = report["view"] == "shown";
  const std::string unknown = !shown                        ? "unknown: no view is shown"
                              : report["entry"].get<bool>() ? "unknown"
                                                            : "unknown: nobody asked for it lately";
  line("count", plain(report["count"], unknown));
  if (report["entry"].get<bool>()) {
    for (const char* name : {"base", "inflight", "open"}) line(name, plain(report[name]));
  }
  std::string lanes;
  for (const Json& lane : report["unapplied_lanes"]) {
    lanes += fmt::format("{}lane {}: {}", lanes.empty() ? " (" : ", ", plain(lane["lane"]), plain(lane["visits"]));
  }
  line("unapplied", plain(report["unapplied"], "unknown") + lanes + (lanes.empty() ? "" : ")"));
  if (report["expires_in_ms"].is_number_integer()) {
    const auto left = report["expires_in_ms"].get<std::int64_t>();
    line("expires", left >= 0 ? "in " + span_text(static_cast<std::uint64_t>(left))
                              : span_text(0 - static_cast<std::uint64_t>(left)) + " ago");
  }
  line("bucket", plain(report["bucket"]));
  const std::string state = report["shard_state"].is_null() ? "" : " (" + plain(report["shard_state"]) + ")";
  line("shard", plain(report["shard"]) + state);
  // What Redis says first, then what the flusher adds to it.
  const Json& redis = report["redis"];
  for (const char* name : {"error", "unreadable", "count"}) {
    if (redis.contains(name)) line("redis", plain(redis[name]));
  }
  for (const auto& [name, value] : redis.items()) {
    if (name == "error" || name == "unreadable" || name == "count" || report.contains(name)) continue;
    line(printable(name), plain(value));
  }
  for (const Json& fault : report["faults"]) line("fault", plain(fault));
  return text;
}

}  // namespace visitd
