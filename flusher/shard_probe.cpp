#include "flusher/shard_probe.hpp"

#include <algorithm>
#include <span>
#include <utility>

namespace visitd {

ShardProbe::ShardProbe(FlusherLoop& loop, const ShardSettings& shard, const RedisSettings& settings,
                       const std::string& writer, std::vector<std::uint32_t> buckets, Done done)
    : loop_(loop),
      as_node_(shard.in_cluster),
      buckets_(std::move(buckets)),
      done_(std::move(done)),
      link_(loop.get(), shard, writer, settings.timeout_ms, *this) {
  link_.connect();
}

template <typename Answer>
void ShardProbe::ask(const ShardCommand& command, std::function<void(Answer)> then) {
  link_.send(command, [this, then = std::move(then)](ShardAnswer answer) {
    if (const auto* refused = std::get_if<Refused>(&answer)) return fail(refused->error);
    if (auto* said = std::get_if<Answer>(&answer)) then(std::move(*said));
  });
}

void ShardProbe::on_connected() {
  ask<Facts>(AskFacts{}, [this](Facts facts) {
    seen_.facts = std::move(facts);
    if (seen_.facts.in_cluster.value_or(as_node_) != as_node_) return finish();
    if (as_node_) return ask_nodes();
    ask_marks(0);
  });
}

void ShardProbe::ask_nodes() {
  ask<Nodes>(AskNodes{}, [this](Nodes nodes) {
    seen_.nodes = std::move(nodes);
    ask_marks(0);
  });
}

void ShardProbe::ask_marks(std::size_t first) {
  if (first == buckets_.size()) return finish();
  const auto some = std::span(buckets_).subspan(first, std::min(marks_asked_at_once, buckets_.size() - first));
  ask<Marks>(AskMarks{{some.begin(), some.end()}}, [this, first](Marks marks) {
    std::size_t next = first;
    for (Marks::Held& held : marks.buckets) seen_.buckets.push_back({buckets_[next++], std::move(held)});
    ask_marks(next);
  });
}

void ShardProbe::on_answer(const Completion& done, ShardAnswer answer) {
  loop_.guarded([&] { done(std::move(answer)); });
}

void ShardProbe::fail(const std::string& why) {
  seen_.failure = why;
  finish();
}

void ShardProbe::finish() {
  link_.close();
  loop_.guarded([&] {
    if (const Done done = std::exchange(done_, {})) done(seen_);
  });
}

}  // namespace visitd
