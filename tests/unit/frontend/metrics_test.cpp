#include "frontend/api/metrics.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <string_view>

#include "common/config/program.hpp"
#include "common/counter/ring_membership.hpp"
#include "frontend/http/refusals.hpp"
#include "frontend_host.hpp"

namespace visitd {
namespace {

/// Whether this is nothing, or NAME="VALUE" once or more, with commas between, in braces; quotes and backslashes within
/// a value are escaped.
bool has_labels(std::string_view text) {
  if (text.empty()) return true;
  std::size_t at = 0;
  do {
    ++at;
    const std::size_t name = at;
    while (at < text.size() && text[at] >= 'a' && text[at] <= 'z') ++at;
    if (at == name || text.substr(at, 2) != "=\"") return false;
    for (at += 2; at < text.size() && text[at] != '"'; ++at) {
      if (text[at] == '\\') ++at;
    }
    ++at;
  } while (at < text.size() && text[at] == ',');
  return text.front() == '{' && at + 1 == text.size() && text[at] == '}';
}

/// Every sample by its name with labels, after a look at the grammar: HELP and TYPE once a family, before its samples,
/// which stand together; no sample twice.
std::map<std::string, std::string> samples_of(const std::string& text) {
  std::map<std::string, std::string> samples;
  std::set<std::string> families;
  std::string family;
  std::string type;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    CAPTURE(line);
    if (line.starts_with("# HELP ")) {
      family = line.substr(7, line.find(' ', 7) - 7);
      CHECK(families.insert(family).second);
      CHECK(line.size() > 7 + family.size() + 5);
    } else if (line.starts_with("# TYPE ")) {
      CHECK(line.substr(7, family.size()) == family);
      type = line.substr(7 + family.size() + 1);
      CHECK((type == "counter") == family.ends_with("_total"));
    } else {
      const std::size_t space = line.rfind(' ');
      REQUIRE(space != std::string::npos);
      const std::string name = line.substr(0, space);
      const std::string value = line.substr(space + 1);
      CHECK(value.find_first_not_of("0123456789") == std::string::npos);
      CHECK(name.substr(0, name.find('{')) == family);
      CHECK(has_labels(name.substr(std::min(name.find('{'), name.size()))));
      CHECK(samples.emplace(name, value).second);
    }
  }
  CHECK(text.ends_with('\n'));
  return samples;
}

struct MetricsRig {
  test::FrontendHost host;
  RingMembership membership{host.settings};

  std::map<std::string, std::string> samples(const Cache* cache, Clocks clocks = read_clocks()) {
    std::string text;
    write_metrics(membership.ring(), cache, clocks, text);
    return samples_of(text);
  }
};

TEST_CASE("the metrics of a frontend are those of its lane, and unused lanes have none") {
  MetricsRig rig;
  FrontendStatistics statistics(rig.membership.lane_header().statistics);
  statistics.set(FrontendStatistic::visits, 12);
  statistics.set(frontend_refusals_first_word + static_cast<std::size_t>(Refusal::host_missing), 3);
  static_cast<void>(rig.membership.records().publish(RecordKind::visit, "home", 1, 0, 1));
  const auto samples = rig.samples(nullptr);
  CHECK(samples.at("visitd_frontend_visits_total{lane=\"0\"}") == "12");
  CHECK(samples.at("visitd_frontend_requests_refused_total{lane=\"0\",reason=\"host-missing\"}") == "3");
  CHECK(samples.at("visitd_frontend_requests_refused_total{lane=\"0\",reason=\"lane-full\"}") == "0");
  CHECK(samples.at("visitd_frontend_up{lane=\"0\"}") == "1");
  CHECK(samples.at("visitd_lane_capacity_bytes{lane=\"0\"}") == "65536");
  CHECK(samples.at("visitd_lane_uncommitted_bytes{lane=\"0\"}") == "32");
  CHECK(samples.at("visitd_flusher_up") == "0");
  CHECK(samples.contains("visitd_build_info{version=\"" + std::string(program_version()) + "\"}"));
  for (const auto& [name, value] : samples) CHECK(name.find("lane=\"1\"") == std::string::npos);
}

TEST_CASE("the metrics tell of flusher and shards, and times as Unix time") {
  MetricsRig rig;
  const Cache& cache = rig.host.make_cache(rig.membership.ring());
  const Clocks clocks{50'000'000'000, 1'700'000'000};
  FlusherStatistics statistics(cache.header().statistics);
  statistics.set(FlusherStatistic::visits_applied, 7);
  statistics.set(FlusherStatistic::last_commit_ns, 40'000'000'000);
  cache.header().heartbeat_ns.word.store(49'000'000'000);
  store_text(cache.header().shard[1].name, "a \"b\" \\c");
  set_shard_state(cache.header().shard[1], ShardState::down, "refused");
  cache.header().shard[0].buckets.store(4);
  const auto samples = rig.samples(&cache, clocks);
  CHECK(samples.at("visitd_flusher_up") == "1");
  CHECK(samples.at("visitd_flusher_visits_applied_total") == "7");
  CHECK(samples.at("visitd_flusher_last_commit_timestamp_seconds") == "1699999990");
  CHECK(samples.at("visitd_flusher_last_flush_timestamp_seconds") == "0");
  CHECK(samples.at("visitd_shard_state{shard=\"redis_7070\",state=\"up\"}") == "1");
  CHECK(samples.at("visitd_shard_state{shard=\"redis_7070\",state=\"down\"}") == "0");
  CHECK(samples.at("visitd_shard_state{shard=\"a \\\"b\\\" \\\\c\",state=\"down\"}") == "1");
  CHECK(samples.at("visitd_shard_buckets{shard=\"redis_7070\"}") == "4");
  cache.header().heartbeat_ns.word.store(44'000'000'000);
  CHECK(rig.samples(&cache, clocks).at("visitd_flusher_up") == "0");
}

}  // namespace
}  // namespace visitd
