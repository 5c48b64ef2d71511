#include <fmt/format.h>

#include "common/os/runtime_directory.hpp"
#include "ctl/agreement.hpp"
#include "ctl/commands.hpp"
#include "ctl/control_client.hpp"

namespace visitd {

namespace {

constexpr std::uint32_t accept_timeout_ms = 10'000;

/// What accepting the shard gives up, for people.
std::string offer_text(const Json& offer) {
  std::string text = fmt::format("{}: {} buckets hold something else than this host left there\n",
                                 plain(offer["shard"]), plain(offer["buckets"]));
  text += fmt::format("given up   what the shard lacks of {} visits of {} pages that this host last saw in them\n",
                      plain(offer["visits"]), plain(offer["pages"]));
  text += fmt::format("comes back {} visits out of kept batches\n", plain(offer["kept_visits"]));
  return text + "Visits that no shard has acknowledged yet are counted on top of what the shard holds.\n";
}

}  // namespace

Json accept_report(const Settings& settings, const std::string& shard, bool yes, const std::string& visitctl) {
  const RuntimeDirectory directory(settings.paths.runtime_directory);
  Json report = {{"shard", shard}};
  try {
    ControlRequest request{ControlCommand::accept, shard, accept_timeout_ms};
    const Json offer = ask_flusher(directory.control_socket(), request);
    report.update(offer);
    const auto token = offer.find("token");
    if (token == offer.end() || !token->is_string()) throw Error("the flusher is of another version: restart it first");
    report["accepted"] = yes || somebody_agrees(offer_text(offer), "Take what the shard holds as the truth?");
    if (!report["accepted"].get<bool>()) {
      report["error"] = fmt::format("{}nothing was changed; to accept it say: {} accept {} --yes",
                                    is_at_terminal() ? "" : offer_text(offer), visitctl, shard);
      return report;
    }
    request.token = decode_token(token->get<std::string>());
    static_cast<void>(ask_flusher(directory.control_socket(), request));
  } catch (const std::exception& refused) {
    report["error"] = refused.what();
  }
  return report;
}

std::string accept_text(const Json& report) {
  if (has_failed(report)) return {};
  return offer_text(report) + fmt::format("{}: the flusher takes what it holds as the truth\n", plain(report["shard"]));
}

}  // namespace visitd
