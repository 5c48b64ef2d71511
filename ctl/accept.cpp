#include <fmt/format.h>

#include "common/runtime_directory.hpp"
#include "ctl/commands.hpp"
#include "ctl/control_client.hpp"

namespace visitd {

namespace {

constexpr std::uint32_t accept_timeout_ms = 10'000;

}  // namespace

Json accept_report(const Settings& settings, const std::string& shard) {
  const RuntimeDirectory directory(settings.runtime_directory);
  Json report = {{"shard", shard}};
  try {
    report.update(ask_flusher(directory.control_socket(), "accept", shard, accept_timeout_ms));
  } catch (const std::exception& refused) {
    report["error"] = refused.what();
  }
  return report;
}

std::string accept_text(const Json& report) {
  if (has_failed(report)) return {};
  std::string text = fmt::format("{}: the flusher takes what it holds as the truth", plain(report["shard"]));
  for (const auto& [name, value] : report.items()) {
    if (name != "shard") text += fmt::format(", {} {}", printable(name), plain(value));
  }
  return text + "\n";
}

}  // namespace visitd
