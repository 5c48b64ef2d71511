// How a host reaches its shards, and which they are.
#include <algorithm>
#include <utility>

#include "tests/simulation/simulated_host.hpp"

namespace visitd {

// ---- the connections

void SimulatedHost::look_at_connection(std::uint32_t shard) {
  SimulatedShard& server = stage_.shards[shard];
  const auto known = number_of(shard);
  if (!known) return;
  const std::uint32_t number = *known;
  const auto since = server.waits_since(number_);
  if (connecting_[shard] && stage_.now.ms < away_until_ms_[shard] && !stage_.calm) {
    connecting_[shard] = false;
    server.drop(number_, stage_.random);
    flusher_event([&] { engine_->on_broken(number, "away", stage_.now); });
  } else if (connecting_[shard]) {
    connecting_[shard] = false;
    flusher_event([&] { engine_->on_connected(number); });
  } else if (!former_answers_[shard].empty()) {
    SimulatedShard::Received former = std::move(former_answers_[shard].front());
    former_answers_[shard].pop_front();
    flusher_event([&] { engine_->on_answer(number, former.done, std::move(former.answer), stage_.now); });
  } else if (since && *since + Stage::answer_timeout_ms < stage_.now.ms) {
    ++stage_.statistics.timeouts;
    stage_.statistics.late_answers += server.unreceived(number_);
    break_connection(shard, "no answer in time");
  } else if (auto received = server.receive(number_)) {
    flusher_event([&] { engine_->on_answer(number, received->done, std::move(received->answer), stage_.now); });
  }
}

void SimulatedHost::break_connection(std::uint32_t shard, const std::string& why) {
  SimulatedShard& server = stage_.shards[shard];
  if (!server.is_connected(number_)) return;
  ++stage_.statistics.breaks;
  if (stage_.mutant == Mutant::answers_of_former_connection) {
    while (auto received = server.receive(number_)) former_answers_[shard].push_back(std::move(*received));
  }
  connecting_[shard] = false;
  flusher_event([&] {
    for (const Completion& lost : server.drop(number_, stage_.random)) lost(Lost{});
    engine_->on_broken(*number_of(shard), why, stage_.now);
  });
}

// ---- the shards

void SimulatedHost::change_shards() {
  if (engine_ == nullptr || engine_->layout().is_moving()) return;
  std::vector<ShardPlace> next = engine_->layout().shards;
  if (next.size() < stage_.shards.size()) {
    const auto missing = std::ranges::find_if(Stage::shard_names(), [&](const std::string& name) {
      return std::ranges::find(next, name, &ShardPlace::name) == next.end();
    });
    next.push_back({*missing, "redis://" + *missing});
  } else {
    next.erase(next.begin() + static_cast<std::ptrdiff_t>(chance(next.size())));
  }
  flusher_event([&] {
    try {
      engine_->change_layout(begin_move(engine_->layout(), std::move(next)), [](const std::string&) {});
    } catch (const Error&) {
      // Not now: a shard is away.
    }
  });
}

void SimulatedHost::layout_changed(const std::string& layout) {
  next_layout_ = parse_layout(layout);
  if (!next_layout_) throw Broken(fmt::format("host {}: a layout cannot be read: {}", number_, layout));
  stage_.follow(*next_layout_);
}

/// Between two events. A batch may stay on its way for longer than a flusher waits.
void SimulatedHost::follow_layout() {
  if (engine_ == nullptr || !next_layout_ || engine_->layout().version >= next_layout_->version) return;
  const LayoutStep step = engine_->look_at_layout(*next_layout_);
  if (step == LayoutStep::next_life || chance(20) == 0) return end_flusher();
  if (step == LayoutStep::wait) return;
  ++stage_.statistics.layouts_taken;
  EngineSettings with = settings();
  with.changed = next_layout_;
  with.shards = shards_of_life(*next_layout_, std::nullopt);
  const std::vector<std::uint32_t> former = servers_;
  number_servers(with);
  const std::vector<std::uint32_t> next = servers_;
  if (former.size() > next.size()) servers_ = former;  // those that go are told so
  engine_->take_layout(with, stage_.now);
  servers_ = next;
}

std::optional<std::uint32_t> SimulatedHost::number_of(std::uint32_t server) const {
  const auto found = std::ranges::find(servers_, server);
  if (engine_ == nullptr || found == servers_.end()) return std::nullopt;
  return static_cast<std::uint32_t>(found - servers_.begin());
}

void SimulatedHost::take_layout(const SpoolState& spool, EngineSettings& settings) {
  settings.changed = known_layout(spool);
  if (next_layout_ && (!settings.changed || settings.changed->version < next_layout_->version)) {
    settings.changed = next_layout_;
  }
  const bool in_cluster = !settings.changed && (stage_.harm == Harm::cluster || stage_.harm == Harm::to_shards);
  const Layout layout = settings.changed ? *settings.changed
                        : in_cluster     ? layout_in_cluster(settings.buckets, settings.virtual_nodes)
                                         : layout_of(settings);
  if (const ShardPlace* const cluster = cluster_of(layout)) settings.cluster = cluster_known_to(spool, *cluster);
  settings.shards = shards_of_life(layout, settings.cluster);
  // What is executed on the node to which a slot is on its way, the other one confirms: not while buckets stay there.
  if (stage_.migrates() && (!settings.cluster || layout.is_moving())) trust_confirmations(settings);
}

/// A start may go by a map that holds no more: what the cluster said to a former process; or it knows one node.
ClusterMap SimulatedHost::cluster_known_to(const SpoolState& spool, const ShardPlace& cluster) {
  if (next_cluster_) return *next_cluster_;
  if (const auto known = known_cluster(spool, cluster)) return *known;
  if (!stage_.migrates() || chance(2) == 0) return stage_.cluster_map();
  ClusterMap map;
  map.slots.push_back({0, cluster_slots - 1, stage_.cluster.nodes[chance(stage_.cluster.nodes.size())]});
  return map;
}

void SimulatedHost::migrate() {
  if (engine_ == nullptr || engine_->layout().is_moving()) return;
  Layout now = engine_->layout();
  std::vector<ShardPlace> next;
  if (cluster_of(now) == nullptr) {
    next.push_back(Stage::cluster_place());
  } else {
    now.shards = {Stage::cluster_place()};
    const std::uint64_t some = 1 + chance((1U << Stage::plain_shards) - 1);
    for (std::uint32_t shard = 0; shard < Stage::plain_shards; ++shard) {
      const std::string& name = Stage::shard_names()[shard];
      if ((some >> shard & 1U) != 0) next.push_back({name, "redis://" + name});
    }
  }
  flusher_event([&] {
    try {
      engine_->change_layout(begin_move(now, std::move(next)), [](const std::string&) {});
    } catch (const Error&) {
      // Not now: a shard is away.
    }
  });
}

void SimulatedHost::look_at_cluster() {
  if (engine_ == nullptr || cluster_of(engine_->layout()) == nullptr) return;
  next_cluster_ = stage_.cluster_map();
  std::vector<std::string> shards;
  for (const std::uint32_t server : servers_) shards.push_back(Stage::shard_names()[server]);
  if (shards_of_life(engine_->layout(), next_cluster_) != shards) {
    end_flusher();
  } else {
    flusher_event([&] { engine_->cluster_is_well(*next_cluster_, stage_.now); });
  }
}

void SimulatedHost::node_unknown(const std::string&) {
  ++stage_.statistics.unknown_nodes;
  next_cluster_ = stage_.cluster_map();
  must_end_ = true;
}

void SimulatedHost::number_servers(const EngineSettings& settings) {
  servers_.clear();
  for (const std::string& name : settings.shards) {
    servers_.push_back(
        static_cast<std::uint32_t>(std::ranges::find(Stage::shard_names(), name) - Stage::shard_names().begin()));
  }
}

}  // namespace visitd
