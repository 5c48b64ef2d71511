#include "flusher/counting/batches.hpp"

#include <algorithm>
#include <cassert>
#include <tuple>
#include <utility>

namespace visitd {

namespace {

// What one transaction seals: gathering it keeps the loop for some 10 ms.
constexpr std::uint64_t sealed_pages_limit = 32768;
// The least worth a transaction of its own, while more pages than that are due.
constexpr std::uint64_t least_pages_to_seal = 16384;

}  // namespace

Batches::Batches(const BatchLimits& limits, Incarnation incarnation, std::vector<std::uint32_t> shard_of_bucket,
                 std::uint32_t shards, FlusherView& view, PendingPages& pages, OpenVisits& open,
                 FlusherStatistics statistics)
    : limits_(limits),
      incarnation_(incarnation),
      view_(view),
      pages_(pages),
      open_(open),
      statistics_(statistics),
      buckets_(shard_of_bucket.size()),
      shards_(shards) {
  for (std::uint32_t b = 0; b < buckets_.size(); ++b) {
    buckets_[b].shard = shard_of_bucket[b];
    shards_[shard_of_bucket[b]].buckets.push_back(b);
  }
}

// ---- recovery

void Batches::recover_mark(const BucketMark& mark) {
  buckets_[mark.bucket].seq = mark.seq;
  buckets_[mark.bucket].field = mark.field;
}

void Batches::recover_kept(KeptBatch kept) {
  // Within a bucket a wall clock that went back must not turn the order round: they come by bucket, then seq.
  const bool follows = !kept_order_.empty() && kept_order_.back().bucket == kept.bucket;
  const std::uint64_t answered_at =
      follows ? std::max(kept_order_.back().answered_at, kept.answered_at) : kept.answered_at;
  keep(kept.bucket, {kept.mark, std::move(kept.expected), std::move(kept.pages)}, answered_at);
}

void Batches::kept_recovered(std::uint64_t unix_now) {
  std::ranges::sort(kept_order_, {},
                    [](const KeptOrder& kept) { return std::tuple(kept.answered_at, kept.bucket, kept.seq); });
  for (KeptOrder& kept : kept_order_) kept.answered_at = unix_now;
  update_statistics();
}

void Batches::recover_unanswered(Batch batch, std::vector<std::uint32_t> pages) {
  Bucket& bucket = buckets_[batch.bucket];
  std::string blob = encode_pages(batch.pages);
  count_unanswered(batch.bucket, pages.size(), true);
  bucket.unanswered = Unanswered{std::move(batch), std::move(pages), std::move(blob), 0, true};
  update_statistics();
}

// ---- flush

void Batches::set_takes_batches(std::uint32_t shard, bool takes) {
  shards_[shard].takes_batches = takes;
  open_.set_takes_batches(shard, takes);
  if (!takes) return;
  for (const std::uint32_t bucket : shards_[shard].buckets) queue(bucket);
}

void Batches::set_due(Bucket& bucket, std::uint64_t flush) noexcept {
  Shard& shard = shards_[bucket.shard];
  if (bucket.due == 0 && flush != 0) ++shard.due;
  if (bucket.due != 0 && flush == 0) --shard.due;
  bucket.due = flush;
}

void Batches::queue(std::uint32_t number) {
  Bucket& bucket = buckets_[number];
  Shard& shard = shards_[bucket.shard];
  if (bucket.due == 0 || bucket.unanswered || bucket.queued || !shard.takes_batches) return;
  if (!open_.is_in_memory(number)) return open_.want(number);
  bucket.queued = true;
  shard.to_seal.push_back(number);
}

std::uint64_t Batches::begin_flush() {
  ++flush_;
  for (const Shard& shard : shards_) make_due(shard);
  return flush_;
}

void Batches::begin_flush(std::uint32_t shard) {
  ++flush_;
  make_due(shards_[shard]);
}

void Batches::make_due(const Shard& shard) {
  for (const std::uint32_t number : shard.buckets) {
    if (buckets_[number].due != 0 || !open_.any(number)) continue;
    set_due(buckets_[number], flush_);
    queue(number);
  }
}

bool Batches::flush_is_done(std::uint64_t flush) const {
  return std::ranges::none_of(buckets_, [&](const Bucket& bucket) {
    return (bucket.due != 0 && bucket.due <= flush) || (bucket.unanswered && bucket.unanswered->flush <= flush);
  });
}

bool Batches::wants_seal() const noexcept {
  return std::ranges::any_of(shards_, [&](const Shard& shard) {
    // Full: the next one waits until a good part of it is answered.
    return shard.takes_batches && !shard.to_seal.empty() &&
           (shard.pages_in_flight == 0 ||
            shard.pages_in_flight + std::min(least_pages_to_seal, limits_.pages_in_flight / 2) <=
                limits_.pages_in_flight);
  });
}

void Batches::count_unanswered(std::uint32_t bucket, std::size_t pages, bool made) noexcept {
  Shard& shard = shards_[buckets_[bucket].shard];
  if (made) {
    ++unanswered_count_;
    ++shard.unanswered;
    shard.pages_in_flight += pages;
  } else {
    --unanswered_count_;
    --shard.unanswered;
    shard.pages_in_flight -= pages;
  }
}

// ---- transactions

Transaction Batches::capture(bool seal_now, Drain& drain, const RingNote& ring, std::uint64_t unix_now) {
  assert(sealing_.empty() && replacing_.empty());
  Transaction transaction;
  transaction.ring = ring;
  transaction.answered_at = unix_now;
  transaction.answered = std::exchange(answered_, {});
  transaction.accepted = std::exchange(accepted_, {});
  for (const std::uint32_t number : std::exchange(expecting_anew_, {})) {
    const auto& unanswered = buckets_[number].unanswered;
    if (!unanswered) continue;  // answered meanwhile
    transaction.replaced.push_back(unanswered->batch);
    replacing_.push_back(number);
  }
  transaction.identities = std::exchange(identities_, {});
  transaction.set_aside = std::exchange(set_aside_, {});
  transaction.forgotten = std::exchange(forgotten_, {});
  for (const Refusal& refusal : std::exchange(refused_, {})) apply_refusal(refusal, transaction);
  forget_old(transaction, unix_now);
  if (seal_now) seal_due(transaction);
  open_.capture(transaction, drain);
  return transaction;
}

void Batches::seal_due(Transaction& transaction) {
  std::uint64_t pages = 0;
  // A bucket of each shard in turn: one with many does not keep the others waiting.
  for (bool any = true; any && pages < sealed_pages_limit;) {
    any = false;
    for (Shard& shard : shards_) {
      if (!shard.takes_batches || shard.to_seal.empty() || shard.pages_in_flight >= limits_.pages_in_flight) continue;
      any = true;
      pages += seal_next(shard, transaction);
    }
  }
}

std::size_t Batches::seal_next(Shard& shard, Transaction& transaction) {
  const std::uint32_t number = shard.to_seal.front();
  shard.to_seal.pop_front();
  buckets_[number].queued = false;
  if (buckets_[number].due == 0 || buckets_[number].unanswered) return 0;
  if (open_.is_in_memory(number)) return seal(number, transaction);
  open_.want(number);
  return 0;
}

std::size_t Batches::seal(std::uint32_t number, Transaction& transaction) {
  Bucket& bucket = buckets_[number];
  Unanswered sealed;
  sealed.flush = bucket.due;
  sealed.pages = open_.take(number, limits_.batch_pages);
  if (!open_.any(number)) set_due(bucket, 0);
  if (sealed.pages.empty()) return 0;
  Batch& batch = sealed.batch;
  batch.bucket = number;
  batch.expected = bucket.field;
  batch.pages.reserve(sealed.pages.size());
  for (const std::uint32_t page : sealed.pages) {
    batch.pages.push_back({std::string(pages_[page].id()), pages_[page].open});
  }
  sealed.blob = encode_pages(batch.pages);
  batch.mark = {incarnation_, bucket.seq + 1, salted_digest(sealed.blob)};
  transaction.sealed.push_back(batch);
  const std::size_t size = sealed.pages.size();
  bucket.unanswered = std::move(sealed);
  count_unanswered(number, size, true);
  sealing_.push_back(number);
  statistics_.add(FlusherStatistic::seals);
  return size;
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
      pages_.count(page);
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
  const std::size_t bytes = kept.pages.size() + bytes_beside_pages;
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

void Batches::answered(std::uint32_t number, const std::vector<std::uint64_t>& totals, std::uint64_t now_ms,
                       std::uint64_t unix_now) {
  Bucket& bucket = buckets_[number];
  Unanswered done = std::move(*bucket.unanswered);
  bucket.unanswered.reset();
  count_unanswered(number, done.pages.size(), false);
  queue(number);
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
    pages_.count(page);
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

void Batches::apply_refusal(const Refusal& refusal, Transaction& transaction) {
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
    pages_.count(page);
    pages_.erase_if_idle(unanswered.pages[i]);
    statistics_.add(FlusherStatistic::pages_set_aside);
  }
  count_unanswered(refusal.bucket, unanswered.pages.size(), false);
  batch.pages = std::move(pages);
  unanswered.pages = std::move(numbers);
  unanswered.blob = encode_pages(batch.pages);
  count_unanswered(refusal.bucket, unanswered.pages.size(), true);
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

void Batches::set_aside_of_kept(Batch& batch, const std::vector<std::uint32_t>& bad_pages, const std::string& why) {
  std::vector<PageVisits> pages;
  for (std::uint32_t i = 0; i < batch.pages.size(); ++i) {
    if (std::ranges::find(bad_pages, i) == bad_pages.end()) {
      pages.push_back(std::move(batch.pages[i]));
    } else if (set_aside_before_.emplace(batch.bucket, batch.mark.seq, batch.pages[i].page).second) {
      set_aside_.push_back({batch.bucket, std::move(batch.pages[i]), why});
      statistics_.add(FlusherStatistic::pages_set_aside);
    }
  }
  batch.pages = std::move(pages);
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
  statistics_.set(FlusherStatistic::pending_pages, pages_.pages_with_visits());
  statistics_.set(FlusherStatistic::pending_bytes, pages_.pending_bytes());
  statistics_.set(FlusherStatistic::kept_batches, kept_order_.size());
  statistics_.set(FlusherStatistic::kept_bytes, kept_bytes_);
}

}  // namespace visitd
