#include "flusher/batches.hpp"

#include <algorithm>
#include <cassert>
#include <tuple>
#include <utility>

namespace visitd {

Batches::Batches(const BatchLimits& limits, Incarnation incarnation, std::vector<std::uint32_t> shard_of_bucket,
                 FlusherView& view, PendingPages& pages, FlusherStatistics statistics)
    : limits_(limits),
      incarnation_(incarnation),
      view_(view),
      pages_(pages),
      statistics_(statistics),
      buckets_(shard_of_bucket.size()) {
  for (std::size_t b = 0; b < buckets_.size(); ++b) buckets_[b].shard = shard_of_bucket[b];
}

// ---- recovery

void Batches::recover_mark(const BucketMark& mark) {
  buckets_[mark.bucket].seq = mark.seq;
  buckets_[mark.bucket].field = mark.field;
}

void Batches::recover_kept(const KeptBatch& kept) {
  const Batch& batch = kept.batch;
  // Within a bucket a wall clock that went back must not turn the order round: they come by bucket, then seq.
  const bool follows = !kept_order_.empty() && kept_order_.back().bucket == batch.bucket;
  const std::uint64_t answered_at =
      follows ? std::max(kept_order_.back().answered_at, kept.answered_at) : kept.answered_at;
  keep(batch.bucket, {batch.mark, batch.expected, encode_pages(batch.pages)}, answered_at);
}

void Batches::kept_recovered(std::uint64_t unix_now) {
  std::ranges::sort(kept_order_, {},
                    [](const KeptOrder& kept) { return std::tuple(kept.answered_at, kept.bucket, kept.seq); });
  for (KeptOrder& kept : kept_order_) kept.answered_at = unix_now;
}

void Batches::recover_unanswered(Batch batch, std::vector<std::uint32_t> pages) {
  Bucket& bucket = buckets_[batch.bucket];
  std::string blob = encode_pages(batch.pages);
  bucket.unanswered = Unanswered{std::move(batch), std::move(pages), std::move(blob), 0, true};
  ++unanswered_count_;
}

void Batches::page_opened(std::uint32_t page) {
  Bucket& bucket = buckets_[pages_[page].bucket];
  pages_[page].in_bucket = true;
  bucket.open.push_back(page);
  bucket.touched = true;
}

// ---- flush

void Batches::set_due(Bucket& bucket, std::uint64_t flush) noexcept {
  if (bucket.due == 0 && flush != 0 && !bucket.unanswered) ++sealable_;
  if (bucket.due != 0 && flush == 0 && !bucket.unanswered) --sealable_;
  bucket.due = flush;
}

std::uint64_t Batches::begin_flush() {
  ++flush_;
  for (Bucket& bucket : buckets_) {
    if (!bucket.open.empty() && bucket.due == 0) set_due(bucket, flush_);
  }
  return flush_;
}

bool Batches::flush_is_done(std::uint64_t flush) const {
  return std::ranges::none_of(buckets_, [&](const Bucket& bucket) {
    return (bucket.due != 0 && bucket.due <= flush) || (bucket.unanswered && bucket.unanswered->flush <= flush);
  });
}

// ---- transactions

Transaction Batches::capture(bool seal_due, Drain& drain, const RingNote& ring, std::uint64_t unix_now) {
  assert(sealing_.empty() && replacing_.empty());
  Transaction transaction;
  transaction.ring = ring;
  transaction.answered_at = unix_now;
  drain.take_unspooled([&](const PendingPage& page) {
    buckets_[page.bucket].touched = true;
    if (!seal_due) append_pages(transaction.deltas, page.page, page.unspooled);
  });
  transaction.answered = std::exchange(answered_, {});
  transaction.accepted = std::exchange(accepted_, {});
  for (const std::uint32_t number : std::exchange(expecting_anew_, {})) {
    const auto& unanswered = buckets_[number].unanswered;
    if (!unanswered) continue;  // answered meanwhile
    transaction.replaced.push_back(unanswered->batch);
    replacing_.push_back(number);
  }
  transaction.identities = std::exchange(identities_, {});
  transaction.forgotten = std::exchange(forgotten_, {});
  for (const Refusal& refusal : std::exchange(refused_, {})) apply_refusal(refusal, drain, transaction);
  forget_old(transaction, unix_now);
  if (seal_due) {
    transaction.fold = true;
    for (std::uint32_t b = 0; b < buckets_.size(); ++b) {
      Bucket& bucket = buckets_[b];
      if (bucket.due != 0 && !bucket.unanswered) seal(b, transaction);
      if (!bucket.touched) continue;
      bucket.touched = false;
      std::string rest;
      for (const std::uint32_t page : bucket.open) append_pages(rest, pages_[page].page, pages_[page].open);
      transaction.open.emplace_back(b, std::move(rest));
    }
  }
  return transaction;
}

void Batches::seal(std::uint32_t number, Transaction& transaction) {
  Bucket& bucket = buckets_[number];
  Unanswered sealed;
  sealed.flush = bucket.due;
  const std::size_t take = std::min<std::size_t>(bucket.open.size(), limits_.batch_pages);
  sealed.pages.assign(bucket.open.begin(), bucket.open.begin() + static_cast<std::ptrdiff_t>(take));
  bucket.open.erase(bucket.open.begin(), bucket.open.begin() + static_cast<std::ptrdiff_t>(take));
  Batch& batch = sealed.batch;
  batch.bucket = number;
  batch.expected = bucket.field;
  for (const std::uint32_t page : sealed.pages) {
    pages_[page].in_bucket = false;
    batch.pages.push_back({pages_[page].page, pages_[page].open});
  }
  sealed.blob = encode_pages(batch.pages);
  batch.mark = {incarnation_, bucket.seq + 1, salted_digest(sealed.blob)};
  if (bucket.open.empty()) set_due(bucket, 0);
  bucket.touched = true;  // its folded row holds what is sealed now
  if (batch.pages.empty()) return;
  if (bucket.due != 0) --sealable_;
  transaction.sealed.push_back(batch);
  bucket.unanswered = std::move(sealed);
  ++unanswered_count_;
  sealing_.push_back(number);
  statistics_.add(FlusherStatistic::seals);
}

std::vector<std::uint32_t> Batches::committed() {
  std::vector<std::uint32_t> ready = std::exchange(sealing_, {});
  for (const std::uint32_t number : ready) {
    const Unanswered& sealed = *buckets_[number].unanswered;
    for (std::size_t i = 0; i < sealed.pages.size(); ++i) {
      PendingPage& page = pages_[sealed.pages[i]];
      const std::uint64_t visits = sealed.batch.pages[i].visits;
      page.open -= visits;
      page.inflight += visits;
      if (page.node != 0) view_.seal(page.node, visits);
    }
  }
  ready.insert(ready.end(), replacing_.begin(), replacing_.end());
  replacing_.clear();
  // Accepted meanwhile: what such a batch expects now is not durable before the next transaction.
  std::erase_if(
      ready, [&](std::uint32_t number) { return std::ranges::find(expecting_anew_, number) != expecting_anew_.end(); });
  for (const std::uint32_t number : ready) buckets_[number].unanswered->durable = true;
  update_statistics();
  return ready;
}

void Batches::forget_old(Transaction& transaction, std::uint64_t unix_now) {
  while (!kept_order_.empty()) {
    const KeptOrder& oldest = kept_order_.front();
    if (oldest.answered_at + limits_.keep_batches_s > unix_now && kept_bytes_ <= limits_.keep_batches_bytes) break;
    std::vector<Kept>& kept = buckets_[oldest.bucket].kept;
    // An accepted bucket has forgotten its batches already.
    if (!kept.empty() && kept.front().mark.seq == oldest.seq) {
      kept.erase(kept.begin());
      transaction.forgotten.emplace_back(oldest.bucket, oldest.seq);
    }
    kept_bytes_ -= oldest.bytes;
    kept_order_.pop_front();
  }
}

void Batches::keep(std::uint32_t bucket, Kept kept, std::uint64_t answered_at) {
  const std::size_t bytes = kept.pages.size() + kept.expected.size() + sizeof(Kept);
  kept_bytes_ += bytes;
  kept_order_.push_back({bucket, kept.mark.seq, answered_at, bytes});
  buckets_[bucket].kept.push_back(std::move(kept));
}

// ---- what a shard says

const Batch* Batches::unanswered(std::uint32_t bucket) const noexcept {
  const auto& unanswered = buckets_[bucket].unanswered;
  return unanswered && unanswered->durable ? &unanswered->batch : nullptr;
}

bool Batches::was_written(std::uint32_t bucket) const noexcept {
  return !buckets_[bucket].field.empty() || buckets_[bucket].seq != 0 || buckets_[bucket].unanswered;
}

void Batches::answered(std::uint32_t number, const std::vector<std::uint64_t>& totals, Drain& drain,
                       std::uint64_t now_ms, std::uint64_t unix_now) {
  Bucket& bucket = buckets_[number];
  Unanswered done = std::move(*bucket.unanswered);
  bucket.unanswered.reset();
  --unanswered_count_;
  if (bucket.due != 0) ++sealable_;
  const Batch& batch = done.batch;
  bucket.seq = batch.mark.seq;
  bucket.field = to_text(batch.mark);
  // Noted before its pages move, the spool's after: a view that died between is not taken for one that agrees with the
  // spool.
  view_.note_answered(number, batch.mark.seq);
  std::uint64_t answered_visits = 0;
  for (std::size_t i = 0; i < done.pages.size(); ++i) {
    PendingPage& page = pages_[done.pages[i]];
    const std::uint64_t visits = batch.pages[i].visits;
    if (page.node != 0) {
      // A shard that lost visits of other hosts for now does not make a count fall.
      const std::uint64_t base = std::max(totals[i], view_.base(page.node) + visits);
      view_.acknowledge(page.node, visits, base, now_ms + limits_.ttl_ms);
    }
    page.inflight -= visits;
    answered_visits += visits;
    if (page.open + page.inflight == 0) drain.page_acknowledged();
    pages_.erase_if_idle(done.pages[i]);
  }
  statistics_.set(FlusherStatistic::pending_visits,
                  statistics_.get(FlusherStatistic::pending_visits) - answered_visits);
  answered_.push_back({number, batch.mark.seq, bucket.field});
  statistics_.add(FlusherStatistic::batches_answered);
  keep(number, {batch.mark, batch.expected, std::move(done.blob)}, unix_now);
  update_statistics();
}

void Batches::refused(std::uint32_t bucket, const std::vector<std::uint32_t>& bad_pages, const std::string& why) {
  buckets_[bucket].unanswered->durable = false;
  refused_.push_back({bucket, bad_pages, why});
}

void Batches::apply_refusal(const Refusal& refusal, Drain& drain, Transaction& transaction) {
  Unanswered& unanswered = *buckets_[refusal.bucket].unanswered;
  Batch& batch = unanswered.batch;
  std::vector<PageVisits> pages;
  std::vector<std::uint32_t> numbers;
  for (std::uint32_t i = 0; i < batch.pages.size(); ++i) {
    if (std::ranges::find(refusal.bad_pages, i) == refusal.bad_pages.end()) {
      pages.push_back(std::move(batch.pages[i]));
      numbers.push_back(unanswered.pages[i]);
      continue;
    }
    PendingPage& page = pages_[unanswered.pages[i]];
    const std::uint64_t visits = batch.pages[i].visits;
    transaction.set_aside.push_back({refusal.bucket, std::move(batch.pages[i]), refusal.why});
    if (page.node != 0) view_.set_aside(page.node, visits);
    page.inflight -= visits;
    statistics_.set(FlusherStatistic::pending_visits, statistics_.get(FlusherStatistic::pending_visits) - visits);
    if (page.open + page.inflight == 0) drain.page_acknowledged();
    pages_.erase_if_idle(unanswered.pages[i]);
    statistics_.add(FlusherStatistic::pages_set_aside);
  }
  batch.pages = std::move(pages);
  unanswered.pages = std::move(numbers);
  unanswered.blob = encode_pages(batch.pages);
  batch.mark.digest = salted_digest(unanswered.blob);
  transaction.replaced.push_back(batch);
  replacing_.push_back(refusal.bucket);
}

std::optional<std::vector<Batch>> Batches::lost_since(std::uint32_t number, const std::string& held) const {
  const std::vector<Kept>& kept = buckets_[number].kept;
  const auto first = std::ranges::find(kept, held, &Kept::expected);
  if (first == kept.end()) return std::nullopt;
  std::vector<Batch> lost;
  for (auto next = first; next != kept.end(); ++next) {
    lost.push_back({number, next->mark, next->expected, decode_pages(next->pages)});
  }
  return lost;
}

bool Batches::accept(std::uint32_t number, const std::string& held) {
  Bucket& bucket = buckets_[number];
  if (bucket.field == held) return false;
  bucket.field = held;
  for (const Kept& kept : bucket.kept) forgotten_.emplace_back(number, kept.mark.seq);
  bucket.kept.clear();
  accepted_.push_back({number, bucket.seq, held});
  if (bucket.unanswered) {
    bucket.unanswered->batch.expected = held;
    bucket.unanswered->durable = false;
    expecting_anew_.push_back(number);
  }
  return true;
}

void Batches::update_statistics() noexcept {
  statistics_.set(FlusherStatistic::unanswered_batches, unanswered_count_);
  statistics_.set(FlusherStatistic::kept_batches, kept_order_.size());
  statistics_.set(FlusherStatistic::kept_bytes, kept_bytes_);
}

}  // namespace visitd
