#include "flusher/counting/bucket.hpp"

#include <algorithm>
#include <cassert>
#include <utility>

namespace visitd {

void Bucket::seal(UnansweredBatch sealed, Incarnation incarnation, std::uint64_t digest) {
  assert(state_ == State::quiet);
  sealed.batch.bucket = number_;
  sealed.batch.expected = field_;
  sealed.batch.mark = {incarnation, seq_ + 1, digest};
  unanswered_ = std::move(sealed);
  state_ = State::sealing;
}

Batch fence_of(const Batch& batch) {
  return {batch.bucket, {batch.mark.incarnation, batch.mark.seq, ~batch.mark.digest}, batch.expected, {}, {}};
}

const Batch* Bucket::to_send() const noexcept {
  if (state_ == State::fencing) return &*unanswered_->fence;
  return state_ == State::ready ? &unanswered_->batch : nullptr;
}

bool Bucket::may_leave(const std::string& field) const {
  return to_send() != nullptr &&
         (field == to_text(unanswered_->batch.mark) || field == to_text(fence_of(unanswered_->batch).mark));
}

void Bucket::refuse(const std::vector<std::uint32_t>& bad_series, const std::string& why) {
  assert(state_ == State::ready);
  unanswered_->bad_series = bad_series;
  unanswered_->why_bad = why;
  unanswered_->fence = fence_of(unanswered_->batch);
  state_ = State::fencing;
}

void Bucket::found(const std::string& field) {
  if (state_ == State::fencing && field == to_text(unanswered_->batch.mark)) {
    unanswered_->bad_series.clear();
    unanswered_->fence.reset();
    state_ = State::ready;
  } else if (state_ == State::ready && field == to_text(fence_of(unanswered_->batch).mark)) {
    // By a life that did not come to note it: which pages were refused is not known any more, and asked again.
    refuse({}, {});
  }
}

void Bucket::fenced(Incarnation incarnation) {
  assert(state_ == State::fencing);
  seq_ = unanswered_->fence->mark.seq;
  field_ = to_text(unanswered_->fence->mark);
  unanswered_->batch.expected = field_;
  unanswered_->batch.mark = {incarnation, seq_ + 1, 0};
  state_ = State::changed;
}

Bucket::BadSeries Bucket::take_bad_series() {
  UnansweredBatch& unanswered = *unanswered_;
  const std::vector<std::uint32_t> bad = std::exchange(unanswered.bad_series, {});
  if (bad.empty()) return {};
  BadSeries taken{take_at(unanswered.batch.effects, bad), take_at(unanswered.series, bad)};
  if (unanswered.batch.correction) {
    static_cast<void>(take_at(unanswered.batch.correction->into, bad));
    if (unanswered.batch.effects.empty()) unanswered.batch.correction.reset();
  }
  unanswered.blob = encode_content(unanswered.batch);
  return taken;
}

std::optional<Batch> Bucket::rewrite(std::uint64_t digest) {
  assert(state_ == State::changed);
  unanswered_->batch.mark.digest = digest;
  state_ = State::rewriting;
  return std::exchange(unanswered_->fence, std::nullopt);
}

void Bucket::committed() noexcept {
  // One that changed since waits for the next transaction.
  if (state_ == State::sealing || state_ == State::rewriting) state_ = State::ready;
}

UnansweredBatch Bucket::answered() {
  UnansweredBatch done = std::move(*unanswered_);
  unanswered_.reset();
  state_ = State::quiet;
  seq_ = done.batch.mark.seq;
  field_ = to_text(done.batch.mark);
  return done;
}

bool Bucket::forget(std::uint64_t seq) {
  if (kept_.empty() || kept_.front().mark.seq != seq) return false;
  kept_.erase(kept_.begin());
  return true;
}

std::optional<std::vector<Batch>> Bucket::lost_since(const std::string& held) const {
  const auto first = std::ranges::find(kept_, held, &Kept::expected);
  if (first == kept_.end()) return std::nullopt;
  std::vector<Batch> lost;
  for (auto next = first; next != kept_.end(); ++next) {
    Batch& batch = lost.emplace_back(Batch{number_, next->mark, next->expected, {}, {}});
    decode_content(next->content, batch);
  }
  return lost;
}

std::optional<std::vector<std::uint64_t>> Bucket::accept(const std::string& held) {
  if (field_ == held) return std::nullopt;
  field_ = held;
  std::vector<std::uint64_t> forgotten;
  for (const Kept& kept : std::exchange(kept_, {})) forgotten.push_back(kept.mark.seq);
  if (unanswered_) {
    unanswered_->batch.expected = held;
    // One that was not applied yet is not needed: no copy of the batch expects what the shard holds.
    if (state_ == State::fencing) unanswered_->fence.reset();
    state_ = State::changed;
  }
  return forgotten;
}

void Bucket::recover_mark(std::uint64_t seq, const std::string& field) {
  seq_ = seq;
  field_ = field;
}

void Bucket::recover_unanswered(UnansweredBatch unanswered) {
  unanswered_ = std::move(unanswered);
  state_ = State::ready;
}

}  // namespace visitd
