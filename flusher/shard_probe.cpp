#include "flusher/shard_probe.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

namespace visitd {

ShardProbe::ShardProbe(FlusherLoop& loop, const ShardSettings& shard, const RedisSettings& settings,
                       const std::string& writer, Done done)
    : loop_(loop),
      buckets_(settings.buckets),
      done_(std::move(done)),
      link_(loop.get(), shard, writer, settings.timeout_ms, *this) {
  link_.connect();
}

void ShardProbe::on_connected() {
  link_.send(AskFacts{}, [this](ShardAnswer answer) {
    if (const auto* refused = std::get_if<Refused>(&answer)) return fail(refused->error);
    if (auto* facts = std::get_if<Facts>(&answer)) {
      seen_.facts = std::move(*facts);
      if (seen_.facts.in_cluster.value_or(false)) return finish();  // no shard: its buckets may be anywhere
      ask_marks(0);
    }
  });
}

void ShardProbe::ask_marks(std::uint32_t first) {
  if (first == buckets_) return finish();
  AskMarks ask;
  ask.buckets.resize(std::min<std::size_t>(marks_asked_at_once, buckets_ - first));
  std::iota(ask.buckets.begin(), ask.buckets.end(), first);
  const auto next = static_cast<std::uint32_t>(first + ask.buckets.size());
  link_.send(ask, [this, next](ShardAnswer answer) {
    if (const auto* refused = std::get_if<Refused>(&answer)) return fail(refused->error);
    if (auto* marks = std::get_if<Marks>(&answer)) {
      std::ranges::move(marks->buckets, std::back_inserter(seen_.buckets));
      ask_marks(next);
    }
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
