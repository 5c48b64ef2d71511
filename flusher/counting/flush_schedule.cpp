#include "flusher/counting/flush_schedule.hpp"

#include <algorithm>
#include <iterator>

#include "common/shm/hash.hpp"

namespace visitd {

FlushSchedule::FlushSchedule(std::size_t shards, std::uint64_t interval_ms, std::string_view writer)
    : interval_ms_(interval_ms), phase_(hash_bytes(writer)), shards_(shards) {}

std::uint64_t FlushSchedule::moment_after(std::uint64_t ms) const noexcept {
  const std::uint64_t since_moment = (ms + interval_ms_ - phase_ % interval_ms_) % interval_ms_;
  return ms + interval_ms_ - since_moment;
}

void FlushSchedule::use(std::uint64_t interval_ms, std::uint64_t now_ms) noexcept {
  interval_ms_ = interval_ms;
  for (Shard& shard : shards_) shard.next_ms = std::min(shard.next_ms, moment_after(now_ms));
}

bool FlushSchedule::begins(std::uint32_t number, std::uint64_t now_ms, bool takes_batches, bool crowded) noexcept {
  Shard& shard = shards_[number];
  if (started_ms_ == 0) started_ms_ = now_ms;
  if (shard.next_ms == 0) shard.next_ms = moment_after(now_ms + interval_ms_ / 2);
  if (now_ms >= shard.next_ms) {
    shard.next_ms = moment_after(now_ms + interval_ms_ / 2);
    if (shard.overdue_since_ms == 0) shard.overdue_since_ms = now_ms;
  }
  const bool early = crowded && !shard.running;
  if (!takes_batches || (shard.overdue_since_ms == 0 && !early)) return false;
  shard.overdue_since_ms = 0;
  shard.running = true;
  return true;
}

void FlushSchedule::begin_all() noexcept {
  for (Shard& shard : shards_) shard.running = true;
}

void FlushSchedule::flushed(std::uint32_t shard) noexcept {
  shards_[shard].running = false;
  shards_[shard].answered = true;
}

bool FlushSchedule::take_flush_of_all() noexcept {
  if (!std::ranges::all_of(shards_, &Shard::answered)) return false;
  for (Shard& shard : shards_) shard.answered = false;
  return true;
}

void FlushSchedule::note_begin(std::uint64_t flush, std::uint64_t oldest, std::uint64_t now_ms) {
  begun_ms_.erase(begun_ms_.begin(), begun_ms_.lower_bound(oldest));
  begun_ms_.emplace(flush, now_ms);
}

std::uint64_t FlushSchedule::begun_ms(std::uint64_t flush) const {
  // What is ahead of the next flush counts from the last one on.
  auto begun = begun_ms_.upper_bound(flush);
  if (begun == begun_ms_.begin()) return started_ms_;
  --begun;
  return begun->first == flush || std::next(begun) == begun_ms_.end() ? begun->second : started_ms_;
}

std::optional<std::uint64_t> FlushSchedule::overdue_since_ms(std::uint32_t shard) const noexcept {
  const std::uint64_t since_ms = shards_[shard].overdue_since_ms;
  return since_ms == 0 ? std::nullopt : std::optional(since_ms);
}

}  // namespace visitd
