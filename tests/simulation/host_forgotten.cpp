// How a host forgets another one, and goes on after it was forgotten itself.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "tests/simulation/simulated_host.hpp"

namespace visitd {

void SimulatedHost::forget(const SimulatedHost& other) {
  std::vector<Stage::Gone> marks;
  for (std::uint32_t bucket = 0; bucket < Stage::buckets; ++bucket) {
    const std::string mark = stage_.shards[stage_.home_of_bucket(bucket)].mark(bucket, other.writer());
    if (!mark.empty()) marks.push_back({bucket, other.writer(), mark});
  }
  const auto undone = [this] {
    const WorldStatistics& so_far = stage_.statistics;
    return so_far.losses + so_far.failovers;
  };
  const auto done = [this, marks, undone, before = undone()](const Forgetting::Told& told) {
    if (told.left.size() < stage_.shards.size()) ++stage_.statistics.forgotten;
    if (!told.left.empty()) return;
    ++stage_.statistics.forgotten_in_full;
    if (undone() != before) return;
    for (const Stage::Gone& mark : marks) {
      if (!stage_.put_back.contains({mark.bucket, mark.mark})) stage_.gone.push_back(mark);
    }
  };
  flusher_event(
      [&] { engine_->writers().forget(other.writer(), stage_.now.unix, stage_.now.ms + Stage::forget_ms, done); });
}

void SimulatedHost::accept_held() {
  for (std::uint32_t shard = 0; shard < stage_.shards.size(); ++shard) {
    if (!is_held(shard)) continue;
    const std::string& name = Stage::shard_names()[shard];
    flusher_event([&] {
      accepted_[shard] = true;
      for (const SimulatedShard& server : stage_.shards) {
        for (std::uint32_t bucket = 0; bucket < Stage::buckets; ++bucket) {
          allowed_.emplace(bucket, server.tombstone(bucket, writer()));
          // What the host has seen the shard may have lost since, and get again before the next look.
          allowed_.emplace(bucket, server.mark(bucket, writer()));
        }
      }
      allowed_.insert(tombstones_.begin(), tombstones_.end());
      ++stage_.statistics.accepted;
      engine_->accept(name, engine_->offer(name).token, stage_.now);
    });
  }
}

Completion SimulatedHost::noting_tombstones(std::vector<std::uint32_t> asked, Completion done) {
  return [this, asked = std::move(asked), done = std::move(done)](const ShardAnswer& answer) {
    if (const auto* marks = std::get_if<Marks>(&answer)) {
      for (std::size_t i = 0; i < asked.size(); ++i) tombstones_[asked[i]] = marks->buckets[i].gone;
    }
    done(answer);
  };
}

void SimulatedHost::note_rejoin(const Batch& rejoin) {
  if (!allowed_.contains({rejoin.bucket, rejoin.expected}))
    throw Broken(fmt::format("host {} was forgotten, and goes on though nobody said so", number_));
  stage_.put_back.emplace(rejoin.bucket, rejoin.expected);
  std::erase_if(stage_.gone,
                [&](const Stage::Gone& gone) { return gone.bucket == rejoin.bucket && gone.mark == rejoin.expected; });
}

}  // namespace visitd
