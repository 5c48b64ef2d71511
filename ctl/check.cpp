#include <fmt/format.h>

#include <algorithm>

#include "common/counter/heartbeat.hpp"
#include "common/shm/ring_layout.hpp"
#include "ctl/commands.hpp"

namespace visitd {

namespace {

std::string age_text(const Json& age) {
  return age.is_null() ? "it never showed itself" : fmt::format("it showed itself {} ago", plain_span(age));
}

/// What is wrong with a frontend; empty: nothing.
std::string frontend_fault(const Json& frontend) {
  if (frontend["process"] != "running")
    return fmt::format("it stands still: {}", age_text(frontend["heartbeat_age_ms"]));
  if (!frontend["ring_in_use"].get<bool>() || frontend["lane_state"] != "open") return "it is leaving its ring";
  if (!frontend["fault"].is_null()) return plain(frontend["fault"]);
  const Json& undurable = frontend["undurable_bytes"];
  const auto capacity = frontend["capacity_bytes"].get<std::uint64_t>();
  if (!undurable.is_null() && capacity - undurable.get<std::uint64_t>() < max_record_bytes) {
    return "its lane is full: the flusher makes nothing durable";
  }
  return {};
}

/// What is wrong with the flusher; empty: nothing.
std::string flusher_fault(const Json& flusher) {
  if (flusher["process"] == "running") return flusher["error"].is_null() ? "" : plain(flusher["error"]);
  if (flusher["process"] != "halted") return "it has ended";
  if (!flusher.contains("cache")) return "it waits for the first frontend to make the ring";
  return fmt::format("it stands still: {}", age_text(flusher["heartbeat_age_ms"]));
}

Json judged(std::string name, const Json& pid, const std::string& fault) {
  return {
      {"name", std::move(name)}, {"pid", pid}, {"works", fault.empty()}, {"detail", fault.empty() ? "works" : fault}};
}

}  // namespace

Json check_report(const Settings& settings, const std::string& what) {
  Settings patient = settings;
  patient.cache.flusher_away_ms = std::max<std::uint32_t>(settings.cache.flusher_away_ms, recent_heartbeat_ms);
  const Json status = status_report(patient);
  Json processes = Json::array();
  if (what == "flusher") {
    const Json& flusher = status["flusher"];
    processes.push_back(judged("flusher", flusher["pid"], flusher_fault(flusher)));
  } else {
    for (const Json& frontend : status["frontends"]) {
      // Lanes of ended frontends are for the next ones to take; those of other containers are for their own checks.
      if (!frontend["lock_seen"].get<bool>()) continue;
      processes.push_back(judged(fmt::format("frontend at lane {}", plain(frontend["lane"])), frontend["pid"],
                                 frontend_fault(frontend)));
    }
  }
  Json report;
  for (const Json& process : processes) {
    if (process["works"].get<bool>() || report.contains("error")) continue;
    report["error"] = fmt::format("{}: {}", plain(process["name"]), plain(process["detail"]));
  }
  if (processes.empty()) {
    report["error"] = status.contains("error")
                          ? plain(status["error"])
                          : std::string("no frontend that can be seen from here owns a lane: run this where it runs");
  }
  report["processes"] = std::move(processes);
  return report;
}

std::string check_text(const Json& report) {
  std::string text;
  for (const Json& process : report["processes"]) {
    text += fmt::format("{}, pid {}: {}\n", plain(process["name"]), plain(process["pid"]), plain(process["detail"]));
  }
  return text;
}

}  // namespace visitd
