#include "flusher/counting/deployment.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "common/os/text.hpp"
#include "flusher/counting/layout.hpp"

namespace visitd {

namespace {

constexpr std::string_view layout_number = "2";
constexpr std::string_view changed_layout_number = "3";
constexpr std::string_view former_layout_number = "1";
constexpr std::uint32_t latest_form = 3;

}  // namespace

TopologyText parse_topology(std::string_view text) {
  TopologyText topology;
  if (text.empty()) return topology;
  std::string_view rest = text;
  topology.identity = take_until(rest, ' ');
  const std::string_view number = take_until(rest, ' ');
  topology.kind = TopologyText::Kind::unknown;
  if (number == former_layout_number) {
    topology.kind = TopologyText::Kind::former;
  } else if (number == layout_number || number == changed_layout_number) {
    const std::string_view state = take_until(rest, ' ');
    topology.made = state == "made";
    topology.shard = take_until(rest, ' ');
    if (topology.made || state == "making") topology.kind = TopologyText::Kind::deployment;
    if (number == changed_layout_number) {
      const auto layout = parse_layout(rest);
      if (!layout) topology.kind = TopologyText::Kind::unknown;
      topology.version = layout ? layout->version : 0;
    }
  }
  if (std::uint32_t form = 0; parse_decimal(number, form) && form > latest_form) {
    topology.kind = TopologyText::Kind::newer;
  }
  topology.layout = rest;
  return topology;
}

std::string to_text(const TopologyText& topology) {
  return fmt::format("{} {} {} {} {}", topology.identity, topology.version == 1 ? layout_number : changed_layout_number,
                     topology.made ? "made" : "making", topology.shard, topology.layout);
}

std::string bucket_identity(std::string_view identity) {
  return fmt::format("{} {}", identity, layout_number);
}

std::string deployment_identity(std::string_view bucket_identity) {
  std::string_view rest = bucket_identity;
  const std::string_view identity = take_until(rest, ' ');
  return rest == layout_number ? std::string(identity) : std::string();
}

Deployment::Deployment(std::vector<std::string> shards, std::uint32_t buckets, const std::string& identity)
    : stamped_(buckets), unstamped_(buckets) {
  for (std::string& name : shards) add_shard(std::move(name));
  if (!identity.empty()) adopt(identity);
}

void Deployment::adopt(const std::string& identity) {
  if (identity == identity_) return;
  identity_ = identity;
  bucket_id_ = bucket_identity(identity);
  stamped_.assign(stamped_.size(), false);
  unstamped_ = stamped_.size();
  ++changes_;
}

void Deployment::add_shard(std::string name) {
  const auto place = std::ranges::lower_bound(shards_, name, {}, &Shard::name);
  shards_.insert(place, {std::move(name), false, {}});
  ++changes_;
}

void Deployment::remove_shard(const std::string& name) {
  std::erase_if(shards_, [&](const Shard& shard) { return shard.name == name; });
  ++changes_;
}

void Deployment::saw(const std::string& name, const TopologyText& topology) {
  const auto shard = std::ranges::find(shards_, name, &Shard::name);
  if (topology.kind == TopologyText::Kind::deployment) ++looks_;
  const TopologyText& known = shard->topology;
  if (shard->known && known.kind == topology.kind && known.identity == topology.identity &&
      known.made == topology.made) {
    return;
  }
  shard->known = true;
  shard->topology = topology;
  ++changes_;
}

void Deployment::note_server(const std::string& name, const std::string& server, const std::string& address) {
  Shard& shard = *std::ranges::find(shards_, name, &Shard::name);
  shard.server = server;
  shard.address = address;
}

std::optional<Deployment::Twin> Deployment::twin_of(const std::string& name, const TopologyText& topology) const {
  const auto shard = std::ranges::find(shards_, name, &Shard::name);
  const bool named = topology.kind == TopologyText::Kind::deployment;
  if (shard->server.empty() || (named && topology.shard == name)) return std::nullopt;
  for (auto other = shards_.begin(); other != shards_.end(); ++other) {
    const bool first = named ? topology.shard == other->name : other < shard;
    if (first && other->server == shard->server) return Twin{other->name, other->address};
  }
  return std::nullopt;
}

void Deployment::stamped(std::uint32_t bucket) {
  if (stamped_[bucket]) return;
  stamped_[bucket] = true;
  if (--unstamped_ == 0) ++changes_;
}

bool Deployment::is_begun() const noexcept {
  return std::ranges::any_of(shards_,
                             [](const Shard& shard) { return shard.topology.kind == TopologyText::Kind::deployment; });
}

bool Deployment::is_made() const noexcept {
  return std::ranges::any_of(shards_, [](const Shard& shard) {
    return shard.topology.kind == TopologyText::Kind::deployment && shard.topology.made;
  });
}

bool Deployment::made_besides(const std::string& name) const noexcept {
  return std::ranges::any_of(shards_, [&](const Shard& shard) {
    using Kind = TopologyText::Kind;
    const TopologyText& topology = shard.topology;
    return shard.name != name &&
           (topology.kind == Kind::former || (topology.kind == Kind::deployment && topology.made));
  });
}

bool Deployment::all_answered() const noexcept {
  return std::ranges::all_of(shards_, &Shard::known);
}

const Deployment::Shard* Deployment::deciding() const noexcept {
  if (!all_answered()) return nullptr;
  // A deployment of a former version takes the identity of one of its shards.
  const auto former = std::ranges::find_if(
      shards_, [](const Shard& shard) { return shard.topology.kind == TopologyText::Kind::former; });
  return former != shards_.end() ? &*former : &shards_.front();
}

bool Deployment::decided_by(const std::string& name) const noexcept {
  const Shard* const shard = deciding();
  return shard != nullptr && shard->name == name;
}

std::string Deployment::waits_for() const {
  std::string missing;
  for (const Shard& shard : shards_) {
    if (!shard.known) missing += (missing.empty() ? "" : ", ") + shard.name;
  }
  const Shard* const shard = deciding();
  return missing.empty() && shard != nullptr ? shard->name : missing;
}

}  // namespace visitd
