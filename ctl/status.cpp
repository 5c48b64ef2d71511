#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "common/config/program.hpp"
#include "common/counter/heartbeat.hpp"
#include "common/os/clock.hpp"
#include "common/os/invariant.hpp"
#include "common/os/text.hpp"
#include "common/shm/shared_text.hpp"
#include "ctl/attention.hpp"
#include "ctl/commands.hpp"
#include "ctl/lanes.hpp"
#include "ctl/processes.hpp"
#include "ctl/segments.hpp"
#include "ctl/shards.hpp"

namespace visitd {

namespace {

std::uint64_t get(const Word& word) noexcept {
  return word.load(std::memory_order_acquire);
}

std::uint64_t get(const CacheHeader& header, FlusherStatistic which) noexcept {
  return get(header.statistics[static_cast<std::size_t>(which)]);
}

/// How long the process of a report runs; null: it does not, or cannot be seen from here.
Json uptime_of(const Json& process) {
  if (!process["pid"].is_number_integer() || process["process"] == "ended") return nullptr;
  const auto uptime = process_uptime_ms(process["pid"].get<int>());
  return value_or_null(uptime);
}

/// The lanes that ever had an owner, or hold something, as processes.
Json frontends_report(const Json& rings) {
  Json frontends = Json::array();
  for (const Json& ring : rings) {
    if (!ring.contains("lanes")) continue;
    for (const Json& lane : ring["lanes"]) {
      if (lane["process"] == "unused" && lane["tail"] == 0) continue;
      Json frontend = {{"ring", ring["id"]}, {"ring_in_use", ring["in_use"]}};
      for (const char* name : {"lane", "process", "lock_seen", "pid", "heartbeat_age_ms", "lane_state",
                               "unapplied_bytes", "undurable_bytes", "capacity_bytes", "fault", "statistics"}) {
        frontend[name] = lane[name];
      }
      frontend["uptime_ms"] = uptime_of(frontend);
      frontends.push_back(std::move(frontend));
    }
  }
  return frontends;
}

Json flusher_report(const Segments& segments, const RuntimeDirectory& directory, std::uint64_t now_ns,
                    std::uint64_t away_ms) {
  const Cache* const cache = segments.any_cache();
  const CacheHeader* const header = cache != nullptr ? &cache->header() : nullptr;
  const auto lock = file_identity(directory.flusher_lock());
  const std::uint64_t noted = header != nullptr ? get(header->flusher) : 0;
  std::optional<int> holder;
  if (lock) holder = HeldLocks().holder(*lock, noted);
  const Heartbeat heartbeat = header != nullptr ? Heartbeat(header->heartbeat_ns.word) : Heartbeat();
  const std::uint64_t now_ms = now_ns / 1'000'000;
  Json report;
  report["process"] =
      noted == 0 && !holder
          ? "unused"
          : name_of(presence_of(holder.has_value(), is_process(noted), heartbeat.is_within(away_ms, now_ms)));
  report["lock_seen"] = holder.has_value();
  report["pid"] = holder.value_or(0) > 0 ? Json(*holder) : noted != 0 ? Json(noted) : Json(nullptr);
  report["heartbeat_age_ms"] = value_or_null(heartbeat.age_ms(now_ms));
  report["uptime_ms"] = uptime_of(report);
  report["error"] = segments.cache_fault.empty() ? Json(nullptr) : Json(segments.cache_fault);
  if (cache == nullptr) return report;
  report["cache"] = {{"id", hex(cache->id())},
                     {"segment", cache->note().segment},
                     {"ring", hex(cache->ring_id())},
                     {"made_at", get(header->made_at)},
                     {"view_shown", get(header->active.word) != 0},
                     {"entries", cache->shape().entries},
                     {"ttl_ms", get(header->ttl_ms)}};
  report["sleeping"] = get(header->sleeping.word) != 0;
  report["statistics"] = Json::object();
  for (std::size_t i = 0; i < std::size(flusher_statistics); ++i) {
    report["statistics"][std::string(flusher_statistics[i].name)] = get(header->statistics[i]);
  }
  return report;
}

std::string heartbeat_text(const Json& process) {
  return process["heartbeat_age_ms"].is_null() ? "no heartbeat"
                                               : "heartbeat " + plain_span(process["heartbeat_age_ms"]) + " ago";
}

std::string ago(const Json& age) {
  return age.is_null() ? "never" : plain_span(age) + " ago";
}

}  // namespace

Json status_report(const Settings& settings) {
  const RuntimeDirectory directory(settings.paths.runtime_directory);
  const Segments segments = attach_segments(directory);
  const Json rings = rings_report(segments);
  const std::uint64_t now_ns = monotonic_ns();
  Json report;
  report["version"] = program_version();
  report["runtime_directory"] = directory.path();
  if (const std::string fault = segments.ring_error(directory); !fault.empty()) {
    report["error"] = fault;
  } else if (segments.cache_note && !segments.cache) {
    report["error"] = fmt::format("cache segment {}: {}", segments.cache_note->segment, segments.cache_fault);
  }
  report["rings"] = Json::array();
  for (Json ring : rings) {
    ring.erase("lanes");
    report["rings"].push_back(std::move(ring));
  }
  report["frontends"] = frontends_report(rings);
  report["flusher"] = flusher_report(segments, directory, now_ns, settings.cache.flusher_away_ms);
  report["spool"] = nullptr;
  report["last_commit_age_ms"] = nullptr;
  report["last_flush_age_ms"] = nullptr;
  report["shards"] = Json::array();
  if (const Cache* const cache = segments.any_cache()) {
    const CacheHeader& header = cache->header();
    report["spool"] = {{"pending_visits", get(header, FlusherStatistic::pending_visits)},
                       {"pending_pages", get(header, FlusherStatistic::pending_pages)},
                       {"spilled_visits", get(header, FlusherStatistic::spilled_visits)},
                       {"spilled_bytes", get(header, FlusherStatistic::spilled_bytes)},
                       {"journal_bytes", get(header, FlusherStatistic::journal_bytes)},
                       {"unanswered_batches", get(header, FlusherStatistic::unanswered_batches)},
                       {"kept_batches", get(header, FlusherStatistic::kept_batches)},
                       {"kept_bytes", get(header, FlusherStatistic::kept_bytes)}};
    report["last_commit_age_ms"] = age_ms(get(header, FlusherStatistic::last_commit_ns), now_ns);
    report["last_flush_age_ms"] = age_ms(get(header, FlusherStatistic::last_flush_ns), now_ns);
    report["shards"] = shards_seen(header, now_ns);
  }
  report["rates"] = nullptr;
  report["look_at"] = things_to_look_at(report);
  return report;
}

Json measured_status_report(const Settings& settings, std::uint32_t measured_ms) {
  if (measured_ms == 0) return status_report(settings);
  const std::uint64_t since_ms = monotonic_ms();
  Json first = status_report(settings);
  if (has_failed(first)) return first;
  std::this_thread::sleep_for(std::chrono::milliseconds(measured_ms));
  Json report = status_report(settings);
  report["rates"] = rates_between(first, report, std::max<std::uint64_t>(monotonic_ms() - since_ms, 1));
  return report;
}

namespace {

bool is_running(const Json& flusher) {
  return flusher["process"] == "running";
}

std::string frontends_text(const Json& report) {
  Table frontends({">lane", "frontend", ">pid", ">runs for", ">heartbeat", "state", ">unapplied", ">undurable", ">of",
                   ">visits", ">reads", ""});
  for (const Json& frontend : report["frontends"]) {
    const std::string note = !frontend["fault"].is_null()          ? plain(frontend["fault"])
                             : frontend["ring_in_use"].get<bool>() ? ""
                                                                   : "of a ring that is being left";
    frontends.row({plain(frontend["lane"]), plain(frontend["process"]), plain(frontend["pid"]),
                   plain_span(frontend["uptime_ms"]), plain_span(frontend["heartbeat_age_ms"]),
                   plain(frontend["lane_state"]), plain_bytes(frontend["unapplied_bytes"], "?"),
                   plain_bytes(frontend["undurable_bytes"], "?"), plain_bytes(frontend["capacity_bytes"]),
                   plain(frontend["statistics"]["visits"]), plain(frontend["statistics"]["reads"]), note});
  }
  return report["frontends"].empty() ? "" : frontends.text();
}

std::string flusher_text(const Json& flusher) {
  if (flusher["process"] == "unused") return fmt::format("\nflusher   {}\n", plain(flusher["error"]));
  const std::string uptime = flusher["uptime_ms"].is_null() ? "" : ", for " + plain_span(flusher["uptime_ms"]);
  std::string text =
      fmt::format("\nflusher   {}{}, {} {}, {}\n", plain(flusher["process"]), uptime,
                  is_running(flusher) ? "pid" : "last pid", plain(flusher["pid"]), heartbeat_text(flusher));
  if (!flusher["error"].is_null()) text += fmt::format("cache     {}\n", plain(flusher["error"]));
  return text;
}

/// What a flusher that has a cache says of its work.
std::string counting_text(const Json& report) {
  const Json& flusher = report["flusher"];
  std::string text;
  const Json& statistics = flusher["statistics"];
  const Json& spool = report["spool"];
  if (!flusher["cache"]["view_shown"].get<bool>()) text += "cache     no view is shown yet\n";
  text += fmt::format("applied   {} visits since its start, {} damaged records\n", plain(statistics["visits_applied"]),
                      plain(statistics["records_damaged"]));
  text += fmt::format("pending   {} visits, {} pages in memory\n", plain(spool["pending_visits"]),
                      plain(spool["pending_pages"]));
  if (spool["spilled_visits"].get<std::uint64_t>() != 0) {
    text += fmt::format("spilled   {} of these visits wait in the spool alone ({}) for a shard that takes none\n",
                        plain(spool["spilled_visits"]), plain_bytes(spool["spilled_bytes"]));
  }
  text +=
      fmt::format("spool     {} unanswered batches, {} kept ({}); {} commits, {} of them found no room\n",
                  plain(spool["unanswered_batches"]), plain(spool["kept_batches"]), plain_bytes(spool["kept_bytes"]),
                  plain(statistics["commits"]), plain(statistics["commit_failures"]));
  text += fmt::format("last      commit {}, flush {}\n", ago(report["last_commit_age_ms"]),
                      ago(report["last_flush_age_ms"]));
  if (const auto damaged = statistics["pages_uncountable"].get<std::uint64_t>(); damaged != 0) {
    text += fmt::format("damaged   {} pages cannot be counted in Redis: the flusher's log names them\n", damaged);
  }
  text += fmt::format("view      {} entries of {}\n", plain(statistics["entries"]), plain(flusher["cache"]["entries"]));
  return text;
}

std::string shard_states_text(const Json& report) {
  if (report["shards"].empty()) return "";
  Table shards({"shard", "state", ">since", ">buckets", ">unanswered", "reason"});
  for (const Json& shard : report["shards"]) {
    shards.row({plain(shard["name"]), plain(shard["state"]), plain_span(shard["since_ms"]), plain(shard["buckets"]),
                plain(shard["unanswered_batches"]), plain(shard["reason"], "")});
  }
  return fmt::format("\n{}{}", shards.text(), is_running(report["flusher"]) ? "" : "(as the flusher last saw them)\n");
}

}  // namespace

std::string status_text(const Json& report) {
  std::string text = fmt::format("visitd {}", plain(report["version"]));
  if (const Json& rates = report["rates"]; !rates.is_null()) {
    text += fmt::format(", {:.1f} visits, {:.1f} reads and {:.1f} requests a second over {}",
                        rates["visits_per_s"].get<double>(), rates["reads_per_s"].get<double>(),
                        rates["requests_per_s"].get<double>(), plain_span(rates["measured_ms"]));
  }
  text += "\n";
  for (const Json& thing : report["look_at"]) text += fmt::format("look at   {}\n", plain(thing));
  text += "\n";
  text += frontends_text(report);
  text += flusher_text(report["flusher"]);
  if (report["flusher"].contains("statistics")) text += counting_text(report);
  return text + shard_states_text(report);
}

}  // namespace visitd
