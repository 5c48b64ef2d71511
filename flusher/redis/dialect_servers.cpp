// What servers say of each other: how far replicas follow, and which nodes a cluster has.
#include <utility>

#include "common/config/shard_address.hpp"
#include "flusher/redis/dialect_words.hpp"

namespace visitd {

using namespace dialect;

namespace {

constexpr std::uint64_t wait_key_s = 60;

}  // namespace

// ---- replicas: SET of a key that goes by itself, then WAIT or WAITAOF

Awaited Dialect::write_command(const AskReplicas& asked, RequestText& text) const {
  text.start(5);
  text.add("SET");
  text.add(fmt::format("visits:{{{}}}:wait", asked.bucket));
  text.add("1");
  text.add("EX");
  text.add_number(wait_key_s);
  text.start(asked.on_disk ? 4 : 3);
  text.add(asked.on_disk ? "WAITAOF" : "WAIT");
  if (asked.on_disk) text.add("1");
  text.add_number(asked.replicas);
  text.add_number(asked.timeout_ms);
  return {asked.on_disk ? Awaited::Kind::replicas_on_disk : Awaited::Kind::replicas, 1};
}

/// WAIT: a number; WAITAOF: 1 where the server's own disk has it, and a number.
Replicas Dialect::read_replicas(Reply reply, bool on_disk) {
  const auto number_of = [](Reply part) {
    if (!part.is_number() || part.number() < 0) unexpected("WAIT");
    return static_cast<std::uint32_t>(std::min<std::int64_t>(part.number(), UINT32_MAX));
  };
  if (!on_disk) return {number_of(reply), false};
  if (reply.size() != 2) unexpected("WAITAOF");
  return {number_of(reply[1]), number_of(reply[0]) > 0};
}

// ---- a cluster: CLUSTER INFO, CLUSTER SLOTS, and where a node sends us

Awaited Dialect::write_command(const AskNodes& /*unused*/, RequestText& text) const {
  for (const std::string_view what : {"INFO", "SLOTS"}) {
    text.start(2);
    text.add("CLUSTER");
    text.add(what);
  }
  return {Awaited::Kind::cluster_info};
}

/// "MOVED SLOT HOST:PORT" or "ASK SLOT HOST:PORT"; a node that knows no name for the other one leaves the host out, and
/// means its own.
std::optional<Redirect> Dialect::read_redirect(Reply reply) const {
  if (!in_cluster_ || !reply.is_error()) return std::nullopt;
  const std::string_view text = reply.text();
  const bool once = text.starts_with("ASK ");
  if (!once && !text.starts_with("MOVED ")) return std::nullopt;
  const std::string_view address = text.substr(text.rfind(' ') + 1);
  const std::size_t colon = address.rfind(':');
  std::uint16_t port = 0;
  if (colon == std::string_view::npos || !parse_decimal(address.substr(colon + 1), port)) return std::nullopt;
  const std::string_view host = address.substr(0, colon);
  return Redirect{server_text({host.empty() ? host_ : std::string(host), port}), once};
}

/// Each element: first slot, last slot, the primary, its replicas; a node: host, port, and more.
ShardAnswer Dialect::read_nodes(Reply reply) {
  if (!reply.is_array()) unexpected("CLUSTER SLOTS");
  Nodes nodes;
  const auto address_of = [this](Reply node) {
    const std::string_view host = node[0].text();
    // "?" is a name that nobody knows.
    return server_text(
        {host.empty() || host == "?" ? host_ : std::string(host), static_cast<std::uint16_t>(node[1].number())});
  };
  for (std::size_t i = 0; i < reply.size(); ++i) {
    const Reply range = reply[i];
    const std::int64_t first = range[0].number();
    const std::int64_t last = range[1].number();
    if (range.size() < 3 || first < 0 || last < first || last >= cluster_slots) unexpected("CLUSTER SLOTS");
    nodes.map.slots.push_back(
        {static_cast<std::uint32_t>(first), static_cast<std::uint32_t>(last), address_of(range[2])});
    for (std::size_t replica = 3; replica < range.size(); ++replica) {
      nodes.map.replicas.push_back(address_of(range[replica]));
    }
  }
  std::ranges::sort(nodes.map.replicas);
  nodes.map.replicas.erase(std::ranges::unique(nodes.map.replicas).begin(), nodes.map.replicas.end());
  const std::string info = std::exchange(cluster_info_, {});
  if (const auto state = info_value(info, "cluster_state"); state != "ok") {
    nodes.fault = fmt::format("the cluster is down (CLUSTER INFO says cluster_state:{})", state.value_or("nothing"));
  } else if (nodes.map.slots.empty()) {
    nodes.fault = "the cluster serves no slots: make it whole with redis-cli --cluster create";
  }
  return nodes;
}

}  // namespace visitd
