#include "flusher/counting/forgetting.hpp"

#include <algorithm>
#include <utility>

namespace visitd {

namespace {

// The server does nothing else while it runs one; and answers of others wait behind these.
constexpr std::size_t commands_at_once = 8;
// A bucket that is being moved is there within the time of two answers; a cluster's node is followed as often as this.
constexpr std::uint64_t retry_ms = 100;

}  // namespace

Forgetting::Forgetting(std::string writer, std::vector<Shard> shards, const Placement& placement,
                       std::uint64_t until_ms, std::function<void(Told)> done)
    : writer_(std::move(writer)),
      shards_(std::move(shards)),
      placement_(placement),
      until_ms_(until_ms),
      done_(std::move(done)),
      to_ask_(shards_.size()),
      asking_(shards_.size()) {}

void Forgetting::begin() {
  for (std::uint32_t shard = 0; shard < shards_.size(); ++shard) {
    to_ask_[shard].assign(placement_.buckets_on(shard).begin(), placement_.buckets_on(shard).end());
  }
  send_all();
}

void Forgetting::drop_shards(std::size_t count) {
  for (std::size_t gone = count; gone < to_ask_.size(); ++gone) {
    later_.insert(later_.end(), to_ask_[gone].begin(), to_ask_[gone].end());
  }
  shards_.resize(count);
  to_ask_.resize(count);
  asking_.resize(count);
}

void Forgetting::add_shard(Shard shard) {
  shards_.push_back(std::move(shard));
  to_ask_.emplace_back();
  asking_.push_back(0);
}

void Forgetting::tick(std::uint64_t now_ms) {
  if (is_over() || later_.empty() || now_ms < retry_at_ms_) return;
  if (now_ms >= until_ms_) {
    leave(later_);
    return end_if_over();
  }
  retry_at_ms_ = now_ms + retry_ms;
  for (const std::uint32_t bucket : std::exchange(later_, {})) to_ask_[placement_.shard_of(bucket)].push_back(bucket);
  send_all();
}

void Forgetting::send_all() {
  const auto self = shared_from_this();  // what is told may be the last that knows of it
  for (std::uint32_t shard = 0; shard < shards_.size(); ++shard) send_next(shard);
  end_if_over();
}

void Forgetting::send_next(std::uint32_t shard) {
  std::deque<std::uint32_t>& to_ask = to_ask_[shard];
  if (!shards_[shard].session->is_up()) return leave(to_ask);
  while (asking_[shard] < commands_at_once && !to_ask.empty()) {
    std::vector<std::uint32_t> buckets;
    for (; buckets.size() < shards_[shard].buckets_at_once && !to_ask.empty(); to_ask.pop_front()) {
      const bool is_here = placement_.shard_of(to_ask.front()) == shard;
      if (is_here) {
        buckets.push_back(to_ask.front());
      } else {
        later_.push_back(to_ask.front());
      }
    }
    if (buckets.empty()) return;
    ++asking_[shard];
    shards_[shard].session->forget(writer_, std::move(buckets),
                                   [self = shared_from_this(), shard](const ShardSession::ForgottenSome& some) {
                                     --self->asking_[shard];
                                     self->taken_out_ += some.taken_out;
                                     self->later_.insert(self->later_.end(), some.later.begin(), some.later.end());
                                     if (some.failed) self->left_.insert(self->shards_[shard].name);
                                     self->send_next(shard);
                                     self->end_if_over();
                                   });
  }
}

void Forgetting::leave(std::deque<std::uint32_t>& buckets) {
  for (const std::uint32_t bucket : std::exchange(buckets, {})) left_.insert(shards_[placement_.shard_of(bucket)].name);
}

void Forgetting::end_if_over() {
  const bool waits = std::ranges::any_of(asking_, [](std::size_t asking) { return asking != 0; }) ||
                     std::ranges::any_of(to_ask_, [](const auto& to_ask) { return !to_ask.empty(); });
  if (waits || !later_.empty() || is_over()) return;
  std::exchange(done_, {})({taken_out_, {left_.begin(), left_.end()}});
}

}  // namespace visitd
