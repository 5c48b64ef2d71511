#include <fmt/format.h>

#include "common/os/clock.hpp"
#include "common/os/runtime_directory.hpp"
#include "ctl/agreement.hpp"
#include "ctl/commands.hpp"
#include "ctl/control_client.hpp"

namespace visitd {

namespace {

std::string ago_text(const Json& unix_s) {
  if (!unix_s.is_number_unsigned() || unix_s == 0) return "never";
  const std::uint64_t now_s = unix_seconds();
  const auto at_s = unix_s.get<std::uint64_t>();
  return span_text(at_s < now_s ? 1000 * (now_s - at_s) : 0) + " ago";
}

std::string remark_text(const Json& writer) {
  if (writer["ours"].get<bool>()) return "this host";
  if (writer["forgotten_at"].is_null()) return "";
  return fmt::format("forgotten {} on {}", ago_text(writer["forgotten_at"]), plain(writer["forgotten_by"]));
}

/// What forgetting a writer means, for people.
std::string forget_offer_text(const Json& offer) {
  std::string text = fmt::format("{} of host {}: seen {}, wrote {}, {} batches in {} buckets\n", plain(offer["writer"]),
                                 plain(offer["host"]), ago_text(offer["seen_at"]), ago_text(offer["wrote_at"]),
                                 plain(offer["batches"]), plain(offer["buckets"]));
  return text +
         "Its counts stay. If the host comes back, its shards are held until somebody accepts them; then it goes on "
         "exactly where it was.\n";
}

/// Whether the offer may be taken; if not, why into `report`.
bool is_agreed(Json& report, bool yes, const std::string& visitctl) {
  if (yes) return true;
  const std::string hint = fmt::format("{} writers forget {} --yes", visitctl, plain(report["writer"]));
  const auto seen_at = report["seen_at"].get<std::uint64_t>();
  const auto gone_after_s = report["gone_after_s"].get<std::uint64_t>();
  if (seen_at + gone_after_s > unix_seconds()) {
    report["error"] = fmt::format(
        "host {} was seen {}: it is forgotten once that is {} ago (flusher.writer_gone_s); to forget it now say: {}",
        plain(report["host"]), ago_text(report["seen_at"]), span_text(1000 * gone_after_s), hint);
    return false;
  }
  if (somebody_agrees(forget_offer_text(report), "Forget this writer?")) return true;
  report["error"] = fmt::format("{}nothing was changed; to forget it say: {}",
                                is_at_terminal() ? "" : forget_offer_text(report), hint);
  return false;
}

}  // namespace

Json writers_report(const Settings& settings) {
  const RuntimeDirectory directory(settings.paths.runtime_directory);
  Json report = {{"writers", Json::array()}, {"unasked", nullptr}};
  try {
    const Json answer =
        ask_flusher(directory.control_socket(), {ControlCommand::writers, "", settings.redis.timeout_ms});
    report["unasked"] = answer.value("unasked", Json(nullptr));
    for (const Json& row : answer.value("rows", Json::array())) {
      Json writer = {{"writer", row.value("writer", Json(nullptr))}, {"ours", row.value("ours", Json(0)) == 1}};
      for (const char* name : {"host", "version", "incarnation", "seen_at", "wrote_at", "batches", "buckets",
                               "forgotten_at", "forgotten_by"}) {
        writer[name] = row.value(name, Json(nullptr));
      }
      report["writers"].push_back(std::move(writer));
    }
  } catch (const std::exception& refused) {
    report["error"] = refused.what();
  }
  return report;
}

std::string writers_text(const Json& report) {
  if (has_failed(report)) return {};
  Table table({"writer", "host", ">seen", ">wrote", ">batches", ">buckets", ">life", "version", ""});
  for (const Json& writer : report["writers"]) {
    table.row({plain(writer["writer"]), plain(writer["host"]), ago_text(writer["seen_at"]),
               ago_text(writer["wrote_at"]), plain(writer["batches"]), plain(writer["buckets"]),
               plain(writer["incarnation"]), plain(writer["version"]), remark_text(writer)});
  }
  if (report["unasked"].is_null()) return table.text();
  return fmt::format("{}(shard {} cannot be asked now: what it knows is not in here)\n", table.text(),
                     plain(report["unasked"]));
}

Json forget_report(const Settings& settings, const std::string& writer, bool yes, const std::string& visitctl) {
  const RuntimeDirectory directory(settings.paths.runtime_directory);
  Json report = {{"writer", writer}, {"forgotten", false}};
  try {
    ControlRequest request{ControlCommand::forget, writer, settings.redis.timeout_ms};
    report.update(ask_flusher(directory.control_socket(), request));
    if (!report.value("token", Json(nullptr)).is_string()) {
      throw Error("the flusher is of another version: restart it first");
    }
    if (!is_agreed(report, yes, visitctl)) return report;
    request.token = decode_token(report["token"].get<std::string>());
    report.update(ask_flusher(directory.control_socket(), request));
    report["forgotten"] = true;
    if (const auto left = report.find("left"); left != report.end()) {
      report["error"] =
          fmt::format("shard {} could not be asked, and still knows it: say it again later", plain(*left));
    }
  } catch (const std::exception& refused) {
    report["error"] = refused.what();
  }
  return report;
}

std::string forget_text(const Json& report) {
  if (has_failed(report)) return {};
  return fmt::format("{} of host {} is forgotten: it was taken out of {} buckets\n", plain(report["writer"]),
                     plain(report["host"]), plain(report["taken_out"]));
}

}  // namespace visitd
