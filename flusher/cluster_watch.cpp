#include "flusher/cluster_watch.hpp"

#include <algorithm>
#include <utility>

#include "common/os/log.hpp"
#include "flusher/deployment_shards.hpp"
#include "flusher/now.hpp"
#include "flusher/redis/shard_link.hpp"

namespace visitd {

namespace {

// Nodes asked at once while something is not well: of many that cannot be reached each takes its time.
constexpr std::size_t most_looks = 8;
// A node that takes longer to say where the primaries are is not waited for.
constexpr std::uint32_t look_timeout_ms = 1000;

std::vector<std::string> names_of(const std::vector<ShardSettings>& nodes) {
  std::vector<std::string> names;
  names.reserve(nodes.size());
  for (const ShardSettings& node : nodes) names.push_back(node.name);
  return names;
}

}  // namespace

/// One question to one node, over a connection of its own.
class ClusterWatch::Look : private ShardLink::Listener {
 public:
  Look(ClusterWatch& watch, const ShardSettings& node)
      : watch_(watch),
        link_(watch.loop_.get(), node, watch.writer_, std::min(watch.settings_.timeout_ms, look_timeout_ms), *this) {
    link_.connect();
  }

 private:
  void on_connected() override {
    link_.send(AskNodes{}, [this](ShardAnswer answer) {
      if (auto* nodes = std::get_if<Nodes>(&answer)) watch_.on_nodes(std::move(*nodes));
      if (const auto* refused = std::get_if<Refused>(&answer)) watch_.fault_ = refused->error;
      if (!std::holds_alternative<Lost>(answer)) end();
    });
  }
  void on_answer(const Completion& done, ShardAnswer answer) override {
    watch_.loop_.guarded([&] { done(std::move(answer)); });
  }
  void on_broken(const std::string& why) override {
    log::debug("a node of the cluster does not say where its primaries are: {}", why);
    end();
  }
  void on_turned_away(const std::string& why) override { on_broken(why); }
  void on_fault(const std::string& what) noexcept override { watch_.loop_.end_with(what); }

  void end() {
    if (std::exchange(ended_, true)) return;
    link_.close();
    watch_.loop_.guarded([&] { watch_.end_round(); });
  }

  ClusterWatch& watch_;
  ShardLink link_;
  bool ended_ = false;
};

ClusterWatch::ClusterWatch(FlusherLoop& loop, Engine& engine, const RedisSettings& settings, Seeds seeds,
                           const ClusterMap& known, std::string writer, Changed changed)
    : loop_(loop),
      engine_(engine),
      settings_(settings),
      seeds_(std::move(seeds)),
      writer_(std::move(writer)),
      changed_(std::move(changed)),
      search_(names_of(seeds_()), known) {}

ClusterWatch::~ClusterWatch() = default;

bool ClusterWatch::is_well() const {
  for (std::uint32_t shard = 0; shard < settings_.shards.size(); ++shard) {
    if (settings_.shards[shard].in_cluster && engine_.shard_state(shard) != ShardState::up) return false;
  }
  return true;
}

void ClusterWatch::tick(std::uint64_t now_ms) {
  if (awaited_ > 0) return;
  const std::uint64_t unwell_ms = next_ms_ - settings_.check_interval_ms + settings_.reconnect_interval_ms;
  const bool due = now_ms >= next_ms_ || (now_ms >= std::min(next_ms_, unwell_ms) && (soon_ || !is_well()));
  if (!due) return;
  next_ms_ = now_ms + settings_.check_interval_ms;
  begin_round();
}

void ClusterWatch::look_for(const std::string& node) {
  search_.prefer(node);
  soon_ = true;
}

void ClusterWatch::begin_round() {
  const bool any_is_enough = is_well() && !std::exchange(soon_, false);
  answered_ = false;
  fault_.clear();
  looks_.clear();
  const std::vector<std::string> nodes = search_.next(any_is_enough ? 1 : most_looks);
  awaited_ = nodes.size();
  const std::vector<ShardSettings> seeds = seeds_();
  for (const std::string& node : nodes) looks_.push_back(std::make_unique<Look>(*this, node_settings(node, seeds)));
}

void ClusterWatch::end_round() {
  if (--awaited_ > 0 || answered_ || fault_.empty()) return;
  engine_.cluster_is_down(fault_, now());
}

void ClusterWatch::on_nodes(Nodes nodes) {
  if (!nodes.fault.empty()) {
    fault_ = std::move(nodes.fault);
    return;
  }
  if (std::exchange(answered_, true)) return;
  search_.know(nodes.map);
  std::vector<std::string> known;
  for (const ShardSettings& shard : settings_.shards) {
    if (shard.in_cluster) known.push_back(shard.name);
  }
  if (nodes.map.primaries() != known) return changed_(std::move(nodes.map));
  engine_.cluster_is_well(nodes.map, now());
}

}  // namespace visitd
