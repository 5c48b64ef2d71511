#include "ctl/shards.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "common/os/clock.hpp"
#include "common/os/invariant.hpp"
#include "common/shm/page_id.hpp"
#include "common/shm/shared_text.hpp"
#include "ctl/commands.hpp"
#include "ctl/control_client.hpp"
#include "ctl/page_names.hpp"
#include "ctl/segments.hpp"

namespace visitd {

namespace {

/// What the flusher alone knows of its shards, a row each; null where it cannot be asked, and why into `report`.
Json asked_shards(const Settings& settings, Json& report) {
  const RuntimeDirectory directory(settings.paths.runtime_directory);
  report["flusher_error"] = nullptr;
  try {
    return ask_flusher(directory.control_socket(), {ControlCommand::shards, "", settings.redis.timeout_ms})["rows"];
  } catch (const std::exception& refused) {
    report["flusher_error"] = refused.what();
    return nullptr;
  }
}

/// The row with this name, or an empty object if no row has it.
Json row_named(const Json& rows, const Json& name) {
  for (const Json& row : rows) {
    if (row.contains("name") && row["name"] == name) return row;
  }
  return Json::object();
}

std::string share_text(const Json& share) {
  return share.is_number() ? fmt::format("{:.1f} %", share.get<double>() * 100) : "-";
}

std::string latency_text(const Json& us) {
  return us.is_number() ? fmt::format("{:.1f} ms", us.get<double>() / 1000) : "-";
}

/// How many replicas have what the shard answered, of how many that must; and since when they do not.
std::string replicas_text(const Json& shard) {
  if (!shard["replicas_wanted"].is_number()) return "-";
  const std::string have = fmt::format("{} of {}", plain(shard["replicas"], "?"), plain(shard["replicas_wanted"]));
  return shard["replicas_behind_ms"] == 0 ? have
                                          : fmt::format("{}, {} behind", have, plain_span(shard["replicas_behind_ms"]));
}

std::string limit_text(const Json& bytes) {
  return bytes == 0 ? "no limit" : plain_bytes(bytes);
}

}  // namespace

Json shards_seen(const CacheHeader& header, std::uint64_t now_ns) {
  Json shards = Json::array();
  const std::uint64_t count = std::min<std::uint64_t>(value_of(header.shards), max_shards);
  for (std::uint64_t i = 0; i < count; ++i) {
    const ShardSlot& slot = at_index(header.shard, i);
    const std::string reason = shard_reason(slot);
    shards.push_back({{"name", load_text(slot.name)},
                      {"state", name_of(static_cast<ShardState>(value_of(slot.state)))},
                      {"since_ms", age_ms(value_of(slot.since_ns), now_ns)},
                      {"reason", reason.empty() ? Json(nullptr) : Json(reason)},
                      {"buckets", value_of(slot.buckets)},
                      {"unanswered_batches", value_of(slot.unanswered)}});
  }
  return shards;
}

void report_placement(const Cache& cache, const std::string& page, Json& report) {
  const std::uint32_t bucket = page_bucket(page, cache.shape().buckets);
  const CacheHeader& header = cache.header();
  const std::uint64_t shard = value_of(cache.shard_of_bucket(bucket));
  report["bucket"] = bucket;
  if (shard >= max_shards || shard >= value_of(header.shards)) return;
  const ShardSlot& slot = at_index(header.shard, shard);
  report["shard"] = load_text(slot.name);
  report["shard_state"] = name_of(static_cast<ShardState>(value_of(slot.state)));
}

Json shards_report(const Settings& settings) {
  const Segments segments = attach_segments(RuntimeDirectory(settings.paths.runtime_directory));
  Json report;
  report["shards"] = Json::array();
  const Cache* const cache = segments.any_cache();
  if (cache == nullptr) {
    report["error"] = segments.cache_fault;
    return report;
  }
  const Json asked = asked_shards(settings, report);
  for (Json& shard : report["shards"] = shards_seen(cache->header(), monotonic_ns())) {
    const std::uint32_t buckets = cache->shape().buckets;
    shard["share"] = buckets == 0 ? Json(nullptr) : Json(shard["buckets"].get<double>() / buckets);
    const Json known = row_named(asked, shard["name"]);
    for (const char* name : {"address", "role", "version", "memory_bytes", "memory_limit_bytes", "oldest_wait_ms",
                             "latency_us", "replicas", "replicas_wanted", "replicas_behind_ms"}) {
      shard[name] = known.value(name, Json(nullptr));
    }
  }
  return report;
}

std::string shards_text(const Json& report) {
  if (report["shards"].empty()) return {};
  Table table({"shard", "state", "address", "role", "version", ">memory", ">of", ">buckets", ">share", ">unanswered",
               ">oldest wait", ">latency", "replicas", "reason"});
  for (const Json& shard : report["shards"]) {
    table.row({plain(shard["name"]), plain(shard["state"]), plain(shard["address"]), plain(shard["role"]),
               plain(shard["version"]), plain_bytes(shard["memory_bytes"]), limit_text(shard["memory_limit_bytes"]),
               plain(shard["buckets"]), share_text(shard["share"]), plain(shard["unanswered_batches"]),
               plain_span(shard["oldest_wait_ms"]), latency_text(shard["latency_us"]), replicas_text(shard),
               plain(shard["reason"], "")});
  }
  if (report["flusher_error"].is_null()) return table.text();
  return fmt::format("{}(as the flusher last saw them; it cannot be asked for more: {})\n", table.text(),
                     plain(report["flusher_error"]));
}

Json locate_report(const Settings& settings, const std::string& id, bool exact) {
  const Segments segments = attach_segments(RuntimeDirectory(settings.paths.runtime_directory));
  Json report;
  const std::string page = name_page(settings, id, exact, report);
  for (const char* name : {"bucket", "key", "shard", "shard_state", "address"}) report[name] = nullptr;
  if (has_failed(report)) return report;
  const Cache* const cache = segments.any_cache();
  if (cache == nullptr) {
    report["error"] = segments.cache_fault;
    return report;
  }
  const std::uint32_t limit = cache->shape().page_id_limit;
  if (const PageIdFault fault = check_page_id(page, limit); fault != PageIdFault::none) {
    report["error"] = describe(fault, page, limit);
    return report;
  }
  report_placement(*cache, page, report);
  report["key"] = fmt::format("visits:{{{}}}", report["bucket"].get<std::uint32_t>());
  report["address"] = row_named(asked_shards(settings, report), report["shard"]).value("address", Json(nullptr));
  return report;
}

std::string locate_text(const Json& report) {
  if (has_failed(report)) return {};
  const std::string where = report["address"].is_null()
                                ? fmt::format("not known: {}", plain(report["flusher_error"], "no such shard"))
                                : plain(report["address"]);
  return named_text(report) + fmt::format("page     {}\nbucket   {}\nkey      {}\nshard    {} ({})\naddress  {}\n",
                                          plain(report["page"]), plain(report["bucket"]), plain(report["key"]),
                                          plain(report["shard"]), plain(report["shard_state"]), where);
}

}  // namespace visitd
