#include <fmt/format.h>

#include <array>
#include <chrono>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "common/os/clock.hpp"
#include "common/shm/refusal_kinds.hpp"
#include "ctl/commands.hpp"
#include "ctl/segments.hpp"

namespace visitd {

namespace {

/// By lane: how many requests its frontend has read, and how often it refused one for each reason. All of one ring.
struct Counted {
  std::uint64_t requests = 0;
  std::array<std::uint64_t, refusal_count> refused{};
};
using CountedByLane = std::map<std::uint32_t, Counted>;

CountedByLane count_refusals(const Ring& ring) {
  CountedByLane counted;
  for (std::uint32_t lane = 0; lane < ring.shape().lanes; ++lane) {
    const LaneHeader& header = ring.lane(lane);
    const auto get = [&](std::size_t word) { return header.statistics[word].load(std::memory_order_acquire); };
    if (header.about.owners.load(std::memory_order_acquire) == 0) continue;
    Counted& found = counted[lane];
    found.requests = get(static_cast<std::size_t>(FrontendStatistic::requests));
    for (std::size_t kind = 1; kind < refusal_count; ++kind) {
      found.refused[kind] = get(frontend_refusals_first_word + kind);
    }
  }
  return counted;
}

/// What was counted meanwhile. The counters of a frontend that began meanwhile began with 0.
std::uint64_t since(std::uint64_t before, std::uint64_t now) noexcept {
  return now >= before ? now - before : now;
}

void report_kind(std::size_t kind, const CountedByLane& now, const CountedByLane* before, Json& report) {
  std::uint64_t total = 0;
  std::uint64_t lately = 0;
  Json frontends = Json::array();
  for (const auto& [lane, counted] : now) {
    const std::uint64_t refused = counted.refused[kind];
    if (refused == 0) continue;
    total += refused;
    frontends.push_back({{"lane", lane}, {"refused", refused}});
    if (before == nullptr) continue;
    const auto then = before->find(lane);
    lately += since(then == before->end() ? 0 : then->second.refused[kind], refused);
  }
  if (total == 0) return;
  report["refusals"].push_back({{"type", refusal_kinds[kind].name},
                                {"status", refusal_kinds[kind].status},
                                {"refused", total},
                                {"lately", before != nullptr ? Json(lately) : Json(nullptr)},
                                {"frontends", frontends},
                                {"advice", refusal_kinds[kind].advice}});
}

}  // namespace

Json refusals_report(const Settings& settings, std::uint32_t measured_ms) {
  const RuntimeDirectory directory(settings.paths.runtime_directory);
  const Segments segments = attach_segments(directory);
  Json report;
  report["measured_ms"] = nullptr;
  report["requests"] = 0;
  report["frontends"] = Json::array();
  report["refusals"] = Json::array();
  const Ring* const ring = segments.ring_in_use();
  if (ring == nullptr) {
    report["error"] = segments.ring_error(directory);
    return report;
  }
  const std::uint64_t since_ms = monotonic_ms();
  const CountedByLane before = count_refusals(*ring);
  if (measured_ms != 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(measured_ms));
    report["measured_ms"] = monotonic_ms() - since_ms;
  }
  const CountedByLane now = count_refusals(*ring);
  std::uint64_t requests = 0;
  for (const auto& [lane, counted] : now) {
    requests += counted.requests;
    report["frontends"].push_back({{"lane", lane}, {"requests", counted.requests}});
  }
  report["requests"] = requests;
  for (std::size_t kind = 1; kind < refusal_count; ++kind) {
    report_kind(kind, now, measured_ms != 0 ? &before : nullptr, report);
  }
  return report;
}

std::string refusals_text(const Json& report) {
  if (has_failed(report)) return {};
  if (report["refusals"].empty()) {
    return fmt::format("none of {} requests was refused since the frontends started\n", plain(report["requests"]));
  }
  const bool measured = !report["measured_ms"].is_null();
  std::vector<std::string> headings = {"type", ">status", ">in all"};
  if (measured) headings.push_back(">last " + plain_span(report["measured_ms"]));
  for (const Json& frontend : report["frontends"]) headings.push_back(">lane " + plain(frontend["lane"]));
  headings.emplace_back("what to do");
  Table table(headings);
  for (const Json& refusal : report["refusals"]) {
    std::vector<std::string> cells = {plain(refusal["type"]), plain(refusal["status"]), plain(refusal["refused"])};
    if (measured) cells.push_back(plain(refusal["lately"]));
    for (const Json& frontend : report["frontends"]) {
      std::string refused = "0";
      for (const Json& one : refusal["frontends"]) {
        if (one["lane"] == frontend["lane"]) refused = plain(one["refused"]);
      }
      cells.push_back(std::move(refused));
    }
    cells.push_back(plain(refusal["advice"]));
    table.row(std::move(cells));
  }
  return fmt::format("of {} requests since each frontend started were refused:\n\n{}", plain(report["requests"]),
                     table.text());
}

}  // namespace visitd
