#include "frontend/api/metrics.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <span>
#include <string_view>
#include <vector>

#include "common/config/program.hpp"
#include "common/counter/heartbeat.hpp"
#include "common/shm/shared_text.hpp"
#include "common/shm/statistics.hpp"
#include "frontend/http/refusals.hpp"

namespace visitd {

namespace {

/// Writes families, and their samples one by one.
class Writer {
 public:
  explicit Writer(std::string& out) noexcept : out_(out) {}

  void family(std::string name, std::string_view type, std::string_view help) {
    name_ = std::move(name);
    fmt::format_to(std::back_inserter(out_), "# HELP {} {}.\n# TYPE {} {}\n", name_, help, name_, type);
  }
  /// `labels`: as they stand between the braces; empty: none.
  void sample(std::string_view labels, std::uint64_t value) {
    if (labels.empty()) {
      fmt::format_to(std::back_inserter(out_), "{} {}\n", name_, value);
    } else {
      fmt::format_to(std::back_inserter(out_), "{}{{{}}} {}\n", name_, labels, value);
    }
  }

 private:
  std::string& out_;
  std::string name_;
};

std::string label(std::string_view name, std::string_view value) {
  std::string text = fmt::format("{}=\"", name);
  for (const char c : value) {
    if (c == '\\' || c == '"') text += '\\';
    text += c;
  }
  return text += '"';
}

std::string lane_label(std::uint32_t lane) {
  return fmt::format("lane=\"{}\"", lane);
}

/// Family and help of one statistic; moments become Unix time.
void statistic_family(std::string_view process, const StatisticInfo& info, Writer& writer) {
  switch (info.kind) {
    case StatisticKind::counter:
      return writer.family(fmt::format("visitd_{}_{}_total", process, info.name), "counter", info.help);
    case StatisticKind::gauge:
      return writer.family(fmt::format("visitd_{}_{}", process, info.name), "gauge", info.help);
    case StatisticKind::moment:
      const std::string_view event = info.name.substr(0, info.name.rfind("_ns"));
      return writer.family(fmt::format("visitd_{}_{}_timestamp_seconds", process, event), "gauge", info.help);
  }
}

std::uint64_t statistic_value(const StatisticInfo& info, std::uint64_t value, const Clocks& now) noexcept {
  if (info.kind != StatisticKind::moment || value == 0) return value;
  const std::uint64_t age_s = now.monotonic_ns > value ? (now.monotonic_ns - value) / 1'000'000'000 : 0;
  return now.unix_s - age_s;
}

bool is_up(const Word& heartbeat_ns, const Clocks& now) noexcept {
  return Heartbeat(heartbeat_ns).is_within(recent_heartbeat_ms, now.monotonic_ns / 1'000'000);
}

void write_frontends(const Ring& ring, std::span<const std::uint32_t> lanes, const Clocks& now, Writer& writer) {
  writer.family("visitd_frontend_up", "gauge", "1: a frontend writes to this lane");
  for (const std::uint32_t lane : lanes) {
    const bool open = ring.lane_state(lane) == LaneState::open;
    writer.sample(lane_label(lane), open && is_up(ring.lane(lane).about.heartbeat_ns, now) ? 1 : 0);
  }
  for (std::size_t i = 0; i < std::size(frontend_statistics); ++i) {
    const StatisticInfo& info = frontend_statistics[i];
    // Told by reason instead.
    if (i == static_cast<std::size_t>(FrontendStatistic::requests_refused)) continue;
    statistic_family("frontend", info, writer);
    for (const std::uint32_t lane : lanes) {
      writer.sample(lane_label(lane), statistic_value(info, value_of(ring.lane(lane).statistics[i]), now));
    }
  }
  writer.family("visitd_frontend_requests_refused_total", "counter", "requests refused, by the name of the problem");
  for (const std::uint32_t lane : lanes) {
    for (std::size_t i = 1; i < refusal_count; ++i) {
      writer.sample(lane_label(lane) + "," + label("reason", describe(static_cast<Refusal>(i)).name),
                    value_of(ring.lane(lane).statistics[frontend_refusals_first_word + i]));
    }
  }
}

void write_lanes(const Ring& ring, const Cache* cache, std::span<const std::uint32_t> lanes, Writer& writer) {
  writer.family("visitd_lane_capacity_bytes", "gauge", "room of a lane");
  for (const std::uint32_t lane : lanes) writer.sample(lane_label(lane), ring.shape().lane_bytes);
  writer.family("visitd_lane_uncommitted_bytes", "gauge",
                "bytes of records that the spool does not hold yet; at the capacity visits are refused");
  for (const std::uint32_t lane : lanes) {
    writer.sample(lane_label(lane), uncommitted_bytes(ring, cache, lane));
  }
}

void write_flusher(const Cache* cache, const Clocks& now, Writer& writer) {
  writer.family("visitd_flusher_up", "gauge", "1: a flusher counts what the lanes hold");
  writer.sample({}, cache != nullptr && is_up(cache->header().heartbeat_ns.word, now) ? 1 : 0);
  if (cache == nullptr) return;
  for (std::size_t i = 0; i < std::size(flusher_statistics); ++i) {
    statistic_family("flusher", flusher_statistics[i], writer);
    writer.sample({}, statistic_value(flusher_statistics[i], value_of(cache->header().statistics[i]), now));
  }
}

void write_shards(const Cache& cache, Writer& writer) {
  const std::uint64_t count = std::min<std::uint64_t>(value_of(cache.header().shards), max_shards);
  const std::span<const ShardSlot> slots(cache.header().shard, count);
  std::vector<std::string> names;
  for (const ShardSlot& slot : slots) names.push_back(label("shard", load_text(slot.name)));
  writer.family("visitd_shard_state", "gauge", "1: the shard is in this state");
  for (std::size_t i = 0; i < count; ++i) {
    for (const ShardState state :
         {ShardState::connecting, ShardState::up, ShardState::down, ShardState::held, ShardState::refuses_writes}) {
      writer.sample(names[i] + "," + label("state", name_of(state)),
                    value_of(slots[i].state) == static_cast<std::uint64_t>(state) ? 1 : 0);
    }
  }
  writer.family("visitd_shard_buckets", "gauge", "buckets placed on the shard");
  for (std::size_t i = 0; i < count; ++i) writer.sample(names[i], value_of(slots[i].buckets));
  writer.family("visitd_shard_unanswered_batches", "gauge", "sealed batches that the shard has not answered");
  for (std::size_t i = 0; i < count; ++i) writer.sample(names[i], value_of(slots[i].unanswered));
}

}  // namespace

void write_metrics(const Ring& ring, const Cache* cache, const Clocks& now, std::string& out) {
  std::vector<std::uint32_t> lanes;
  for (std::uint32_t lane = 0; lane < ring.shape().lanes; ++lane) {
    if (value_of(ring.lane(lane).about.owners) != 0) lanes.push_back(lane);
  }
  Writer writer(out);
  writer.family("visitd_build_info", "gauge", "1, with the version that answers");
  writer.sample(label("version", program_version()), 1);
  write_frontends(ring, lanes, now, writer);
  write_lanes(ring, cache, lanes, writer);
  write_flusher(cache, now, writer);
  if (cache != nullptr) write_shards(*cache, writer);
}

}  // namespace visitd
