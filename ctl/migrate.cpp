#include <fmt/format.h>
#include <fmt/ranges.h>

#include "ctl/agreement.hpp"
#include "ctl/commands.hpp"

namespace visitd {

namespace {

/// As ControlCommand::change_shards has it.
std::string change_to(const Migration& migration) {
  const bool to_cluster = migration.to == "cluster";
  return fmt::format("{} {}", migration.to, fmt::join(migration.places, to_cluster ? "," : " "));
}

}  // namespace

Json migrate_report(const Settings& settings, const Migration& migration, const ShardChange& how, bool yes,
                    const std::string& visitctl) {
  const bool to_cluster = migration.to == "cluster";
  ShardChange change = how;
  change.why_not = [&](const Json& offer) {
    const char* const question =
        to_cluster ? "Have all buckets go into the cluster?" : "Have all buckets leave the cluster?";
    if (yes || somebody_agrees(moving_buckets_text(offer), question)) return std::string();
    return fmt::format("{}nothing was changed; to do it say: {} migrate --to {} {} --yes",
                       is_at_terminal() ? "" : moving_buckets_text(offer), visitctl, migration.to,
                       fmt::join(migration.places, " "));
  };
  Json report = change_shards_report(settings, change_to(migration), change);
  report["to"] = migration.to;
  return report;
}

std::string migrate_text(const Json& report) {
  if (has_failed(report)) return {};
  std::string text = change_shards_text(report);
  if (!report.contains("last")) return text;
  const bool to_cluster = report["to"] == "cluster";
  return text + fmt::format(
                    "now set redis.mode = \"{}\" and redis.{} in the settings of each host; until then its "
                    "flusher goes by what the deployment says\n",
                    to_cluster ? "cluster" : "shards", to_cluster ? "nodes" : "shards");
}

}  // namespace visitd
