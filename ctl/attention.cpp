#include "ctl/attention.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace visitd {

namespace {

// A commit is made about once a second where there is something to commit.
constexpr std::uint64_t late_commit_ms = 5000;

void look_at_frontends(const Json& status, Json& found) {
  for (const Json& frontend : status["frontends"]) {
    const std::string name = fmt::format("the frontend at lane {}", plain(frontend["lane"]));
    if (frontend["process"] == "halted") found.push_back(name + " does not show that it lives");
    if (!frontend["fault"].is_null()) found.push_back(fmt::format("{}: {}", name, plain(frontend["fault"])));
  }
  const auto runs = [](const Json& frontend) { return frontend["process"] == "running"; };
  if (std::none_of(status["frontends"].begin(), status["frontends"].end(), runs)) {
    found.push_back("no frontend is running");
  }
}

/// The disk of the spool is full: commits fail, and what the lanes hold does not become durable.
bool spool_is_full(const Json& status) {
  const auto waits = [](const Json& frontend) {
    return frontend["undurable_bytes"].is_number_unsigned() && frontend["undurable_bytes"] != 0;
  };
  const Json& age = status["last_commit_age_ms"];
  return status["flusher"]["statistics"]["commit_failures"] != 0 &&
         std::any_of(status["frontends"].begin(), status["frontends"].end(), waits) &&
         (age.is_null() || age.get<std::uint64_t>() >= late_commit_ms);
}

void look_at_flusher(const Json& status, Json& found) {
  const Json& flusher = status["flusher"];
  if (flusher["process"] != "running") {
    found.push_back(fmt::format("the flusher is away: {}", plain(flusher["process"])));
  }
  if (!flusher.contains("statistics")) return;
  const Json& statistics = flusher["statistics"];
  if (spool_is_full(status)) {
    found.push_back(fmt::format("the spool is full: no commit for {}, and visits wait in the lanes",
                                plain_span(status["last_commit_age_ms"], "as long as this flusher runs")));
  }
  if (statistics["records_damaged"] != 0) {
    found.push_back(fmt::format("{} records of the lanes were damaged", plain(statistics["records_damaged"])));
  }
  if (statistics["pages_uncountable"] != 0) {
    found.push_back(fmt::format("{} pages cannot be counted in Redis: the flusher's log names them",
                                plain(statistics["pages_uncountable"])));
  }
}

}  // namespace

Json things_to_look_at(const Json& status) {
  Json found = Json::array();
  look_at_frontends(status, found);
  look_at_flusher(status, found);
  for (const Json& shard : status["shards"]) {
    if (shard["state"] == "up") continue;
    std::string reason = shard["reason"].is_null() ? "" : ": " + plain(shard["reason"]);
    if (reason.ends_with("…")) reason += " (the flusher's log has the rest)";
    found.push_back(fmt::format("shard {} is {}{}", plain(shard["name"]), plain(shard["state"]), reason));
  }
  return found;
}

Json rates_between(const Json& first, const Json& second, std::uint64_t ms) {
  Json rates = {{"measured_ms", ms}};
  for (const char* what : {"visits", "reads", "requests"}) {
    std::uint64_t grown = 0;
    for (const Json& now : second["frontends"]) {
      for (const Json& then : first["frontends"]) {
        const bool same = then["ring"] == now["ring"] && then["lane"] == now["lane"] && then["pid"] == now["pid"];
        if (!same) continue;
        const auto before = then["statistics"][what].get<std::uint64_t>();
        grown += std::max(now["statistics"][what].get<std::uint64_t>(), before) - before;
      }
    }
    rates[fmt::format("{}_per_s", what)] = static_cast<double>(grown) * 1000 / static_cast<double>(ms);
  }
  return rates;
}

}  // namespace visitd
