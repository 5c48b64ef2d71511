// How a server is asked what it is, and what it says.
#include <utility>

#include "flusher/redis/dialect_words.hpp"

namespace visitd {

using namespace dialect;

// ---- facts: CONFIG GET of two settings, INFO, GET of the topology

Awaited Dialect::write_command(const AskFacts& /*unused*/, RequestText& text) const {
  for (const std::string_view name : {"maxmemory-policy", "appendonly"}) {
    text.start(3);
    text.add("CONFIG");
    text.add("GET");
    text.add(name);
  }
  text.start(1);
  text.add("INFO");
  text.start(2);
  text.add("GET");
  text.add(topology_key);
  return {Awaited::Kind::policy};
}

/// The replies before the last one. An error: the command is renamed or not permitted, and the server says nothing of
/// it.
void Dialect::read_fact(Awaited& awaited, Reply reply) {
  using Kind = Awaited::Kind;
  if (awaited.kind == Kind::info) {
    info_ = reply.text();
    awaited.kind = Kind::topology_of_facts;
    return;
  }
  if (awaited.kind == Kind::cluster_info) {
    cluster_info_ = reply.text();
    awaited.kind = Kind::nodes;
    return;
  }
  std::optional<std::string>& fact = awaited.kind == Kind::policy ? facts_.maxmemory_policy : facts_.append_only;
  fact.reset();
  if (reply.size() == 2 && reply[1].is_string()) fact = reply[1].text();
  awaited.kind = awaited.kind == Kind::policy ? Kind::append_only : Kind::info;
}

/// nullopt: it has no such line, or no number there.
static std::optional<std::uint64_t> info_number(std::string_view info, std::string_view name) {
  const auto text = info_value(info, name);
  std::uint64_t number = 0;
  if (!text) return std::nullopt;
  return parse_decimal(*text, number) ? std::optional(number) : std::nullopt;
}

/// Name and version of the server. A Valkey also says which version of Redis it is like.
static std::optional<std::string> server_version(std::string_view info) {
  if (const auto valkey = info_value(info, "valkey_version")) return "valkey " + *valkey;
  const auto redis = info_value(info, "redis_version");
  return redis ? std::optional("redis " + *redis) : std::nullopt;
}

/// Another node of a cluster serves the key, or none for now.
static bool is_elsewhere(Reply reply) {
  return reply.is_error() && (reply.text().starts_with("MOVED ") || reply.text().starts_with("ASK ") ||
                              reply.text().starts_with("CLUSTERDOWN "));
}

/// What CONFIG did not say, INFO may. A node of a cluster says that it is one, also where it was taken for a shard.
ShardAnswer Dialect::read_facts(Reply topology) {
  Facts facts = std::exchange(facts_, {});
  const std::string info = std::exchange(info_, {});
  if (const auto enabled = info_value(info, "cluster_enabled")) facts.in_cluster = *enabled != "0";
  facts.topology_elsewhere = is_elsewhere(topology) && facts.in_cluster.value_or(in_cluster_);
  if (!facts.topology_elsewhere) {
    if (topology.is_error() && !topology.is_wrong_type()) return Refused{std::string(topology.text())};
    if (!topology.is_text_or_nil()) unexpected("GET visits:topology");
    facts.topology = topology.text();
  }
  facts.role = info_value(info, "role");
  facts.run_id = info_value(info, "run_id");
  facts.version = server_version(info);
  facts.memory_bytes = info_number(info, "used_memory");
  facts.memory_limit_bytes = info_number(info, "maxmemory");
  if (!facts.maxmemory_policy) facts.maxmemory_policy = info_value(info, "maxmemory_policy");
  if (!facts.append_only) {
    facts.append_only = info_value(info, "aof_enabled");
    if (facts.append_only) facts.append_only = *facts.append_only == "0" ? "no" : "yes";
  }
  return facts;
}

}  // namespace visitd
