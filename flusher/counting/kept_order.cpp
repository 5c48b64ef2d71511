#include "flusher/counting/kept_order.hpp"

#include <algorithm>
#include <tuple>

namespace visitd {

void KeptOrder::add(Entry entry) {
  entry.number = ++last_;
  shards_[placement_.shard_of(entry.bucket)].newest = entry.number;
  bytes_ += entry.bytes;
  order_.push_back(entry);
}

void KeptOrder::recover(Entry entry) {
  // Within a bucket a wall clock that went back must not turn the order round: they come by bucket, then seq.
  const bool follows = !order_.empty() && order_.back().bucket == entry.bucket;
  if (follows) entry.answered_at = std::max(order_.back().answered_at, entry.answered_at);
  add(entry);
}

void KeptOrder::recovered(std::uint64_t unix_now) {
  std::ranges::sort(order_, {}, [](const Entry& kept) { return std::tuple(kept.answered_at, kept.bucket, kept.seq); });
  std::uint64_t number = 0;
  for (Entry& kept : order_) kept.number = ++number;
  keep_anew(unix_now);
  for (std::uint32_t shard = 0; shard < shards_.size(); ++shard) unconfirm(shard);
}

void KeptOrder::keep_anew(std::uint64_t unix_now) noexcept {
  for (Entry& kept : order_) kept.answered_at = unix_now;
  overdue_ = 0;
}

bool KeptOrder::waits(const Entry& entry) const noexcept {
  // A shard that loses its tail may forget that a bucket is being copied, and take batches that the copy lacks: also
  // what its disk had is sent again then, to the next shard.
  if (placement_.moves(entry.bucket)) return true;
  const Shard& shard = shards_[placement_.shard_of(entry.bucket)];
  return shard.waits && entry.number > shard.confirmed;
}

std::vector<KeptOrder::Entry> KeptOrder::forget_old(const KeptLimits& limits, std::uint64_t unix_now) {
  std::vector<Entry> forgotten;
  const auto take = [&](const Entry& entry) {
    bytes_ -= entry.bytes;
    forgotten.push_back(entry);
  };
  while (bytes_ > limits.bytes && !order_.empty()) {
    if (waits(order_.front())) ++shards_[placement_.shard_of(order_.front().bucket)].dropped;
    take(order_.front());
    order_.pop_front();
    overdue_ -= std::min<std::size_t>(overdue_, 1);
  }
  auto stays = order_.begin() + static_cast<std::ptrdiff_t>(overdue_);
  auto next = stays;
  for (; next != order_.end() && next->answered_at + limits.keep_s <= unix_now; ++next) {
    if (waits(*next)) {
      *stays++ = *next;
    } else {
      take(*next);
    }
  }
  overdue_ = static_cast<std::size_t>(stays - order_.begin());
  order_.erase(stays, next);
  return forgotten;
}

void KeptOrder::set_waits(std::uint32_t shard, bool waits) noexcept {
  shards_[shard].waits = waits;
  overdue_ = 0;
}

void KeptOrder::confirm(std::uint32_t shard, std::uint64_t up_to) noexcept {
  shards_[shard].confirmed = std::max(shards_[shard].confirmed, up_to);
  overdue_ = 0;
}

void KeptOrder::unconfirm(std::uint32_t shard) noexcept {
  shards_[shard].confirmed = 0;
  shards_[shard].newest = order_.empty() ? 0 : last_;
  overdue_ = 0;
}

std::uint64_t KeptOrder::dropped() const noexcept {
  std::uint64_t all = 0;
  for (const Shard& shard : shards_) all += shard.dropped;
  return all;
}

}  // namespace visitd
