#include "flusher/shard_links.hpp"

#include <utility>
#include <variant>

#include "common/os/clock.hpp"
#include "flusher/now.hpp"

namespace visitd {

namespace {

// What an answer makes possible is begun by the next turn, which may be far off while no visits come.
constexpr std::uint64_t turn_after_answer_ms = 1;

}  // namespace

class ShardLinks::Listener : public ShardLink::Listener {
 public:
  Listener(FlusherLoop& loop, Engine& engine, std::uint32_t shard) : loop_(loop), engine_(engine), shard_(shard) {}
  void on_connected() override {
    loop_.guarded([&] { engine_.on_connected(shard_); });
  }
  void on_answer(const Completion& done, ShardAnswer answer) override {
    loop_.guarded([&] { engine_.on_answer(shard_, done, std::move(answer), now()); });
    loop_.turn_within(turn_after_answer_ms);
  }
  void on_broken(const std::string& why) override {
    loop_.guarded([&] { engine_.on_broken(shard_, why, now()); });
    loop_.turn_next();  // one that had lasted is tried again at once, also while nothing else wakes the loop
  }
  void on_turned_away(const std::string& why) override {
    loop_.guarded([&] { engine_.on_turned_away(shard_, why, now()); });
  }
  void on_fault(const std::string& what) noexcept override { loop_.end_with(what); }

 private:
  FlusherLoop& loop_;
  Engine& engine_;
  std::uint32_t shard_;
};

ShardLinks::ShardLinks(FlusherLoop& loop, Engine& engine, const Settings& settings, const std::string& writer)
    : loop_(loop), engine_(engine), settings_(settings), writer_(writer) {
  set_shards(settings.redis.shards.size());
}

void ShardLinks::set_shards(std::size_t count) {
  for (auto come = static_cast<std::uint32_t>(links_.size()); come < count; ++come) {
    listeners_.push_back(std::make_unique<Listener>(loop_, engine_, come));
    links_.push_back(std::make_unique<ShardLink>(loop_.get(), settings_.redis.shards[come], writer_,
                                                 settings_.redis.timeout_ms, *listeners_.back()));
  }
  questions_.resize(count);
  latencies_us_.resize(count);
  links_.resize(count);
  listeners_.resize(count);
}

void ShardLinks::send(std::uint32_t shard, const ShardCommand& command, Completion done) {
  if (const auto* replicas = std::get_if<AskReplicas>(&command)) {
    return ask_replicas(shard, *replicas, std::move(done));
  }
  if (!std::holds_alternative<AskFacts>(command)) return links_[shard]->send(command, std::move(done));
  links_[shard]->send(command, [this, shard, since_ns = monotonic_ns(), done = std::move(done)](ShardAnswer answer) {
    if (std::holds_alternative<Facts>(answer)) {
      latencies_us_[shard] = (monotonic_ns() - since_ns) / 1000;
    }
    done(std::move(answer));
  });
}

/// While WAIT waits, the server does nothing else that this connection asks for.
void ShardLinks::ask_replicas(std::uint32_t shard, const AskReplicas& asked, Completion done) {
  questions_[shard] =
      std::make_unique<ReplicaQuestion>(loop_, settings_.redis.shards[shard], writer_, settings_.redis.timeout_ms,
                                        asked, [this, shard, done = std::move(done)](ShardAnswer answer) {
                                          engine_.on_answer(shard, done, std::move(answer), now());
                                        });
}

ShardLinks::~ShardLinks() = default;

void ShardLinks::use(const Settings& settings) {
  for (std::size_t shard = 0; shard < links_.size(); ++shard) {
    links_[shard]->set_timeout(settings.redis.timeout_ms);
    links_[shard]->use(settings.redis.shards[shard]);
  }
}

}  // namespace visitd
