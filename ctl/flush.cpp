#include <fmt/format.h>

#include "common/os/runtime_directory.hpp"
#include "ctl/commands.hpp"
#include "ctl/control_client.hpp"

namespace visitd {

Json flush_report(const Settings& settings, std::uint32_t timeout_ms) {
  const RuntimeDirectory directory(settings.paths.runtime_directory);
  try {
    return ask_flusher(directory.control_socket(), {ControlCommand::flush, "", timeout_ms});
  } catch (const std::exception& refused) {
    return {{"error", refused.what()}};
  }
}

std::string flush_text(const Json& report) {
  if (has_failed(report)) return {};
  std::string text = "flushed";
  for (const auto& [name, value] : report.items()) text += fmt::format(", {} {}", printable(name), plain(value));
  return text + "\n";
}

}  // namespace visitd
