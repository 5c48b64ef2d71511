#include "flusher/counting/batches.hpp"

#include <algorithm>
#include <cassert>
#include <numeric>
#include <utility>

#include "common/shm/count.hpp"
#include "common/shm/page_id.hpp"
#include "flusher/counting/shard_protocol.hpp"

namespace visitd {

namespace {

// What one transaction seals: gathering it keeps the loop for some 10 ms.
constexpr std::uint64_t sealed_pages_limit = 32768;
// The least worth a transaction of its own, while more pages than that are due.
constexpr std::uint64_t least_pages_to_seal = 16384;

}  // namespace

Batches::Batches(const BatchLimits& limits, Incarnation incarnation, const Placement& placement, FlusherView& view,
                 PendingSeries& pending, OpenVisits& open, FlusherStatistics statistics)
    : limits_(limits),
      incarnation_(incarnation),
      placement_(placement),
      view_(view),
      pending_(pending),
      open_(open),
      statistics_(statistics),
      shards_(placement.shards()),
      kept_order_(placement) {
  buckets_.reserve(placement.buckets());
  for (std::uint32_t number = 0; number < placement.buckets(); ++number) buckets_.emplace_back(number);
}

// ---- recovery

void Batches::recover_mark(const BucketMark& mark) {
  buckets_[mark.bucket].recover_mark(mark.seq, mark.field);
}

void Batches::recover_kept(KeptBatch recovered) {
  Bucket::Kept kept{recovered.mark, std::move(recovered.expected), std::move(recovered.content)};
  kept_order_.recover(entry_of(recovered.bucket, kept, recovered.answered_at));
  buckets_[recovered.bucket].keep(std::move(kept));
}

void Batches::kept_recovered(std::uint64_t unix_now) {
  kept_order_.recovered(unix_now);
  update_statistics();
}

void Batches::recover_unanswered(Batch batch, std::vector<std::uint32_t> series) {
  Bucket& bucket = buckets_[batch.bucket];
  std::string blob = encode_content(batch);
  count_unanswered(bucket, series.size(), true);
  bucket.recover_unanswered({std::move(batch), std::move(series), std::move(blob)});
  update_statistics();
}

// ---- flush

void Batches::set_takes_batches(std::uint32_t shard, bool takes) {
  shards_[shard].takes_batches = takes;
  open_.set_takes_batches(shard, takes);
  if (!takes) return;
  for (const std::uint32_t bucket : placement_.buckets_on(shard)) queue(bucket);
}

void Batches::set_due(Bucket& bucket, std::uint64_t flush) noexcept {
  Shard& shard = shard_with(bucket);
  if (bucket.due == 0 && flush != 0) ++shard.due;
  if (bucket.due != 0 && flush == 0) --shard.due;
  bucket.due = flush;
}

void Batches::queue(std::uint32_t number) {
  Bucket& bucket = buckets_[number];
  Shard& shard = shard_with(bucket);
  if (bucket.due == 0 || bucket.unanswered() != nullptr || bucket.queued || !shard.takes_batches) return;
  if (!open_.is_in_memory(number)) return open_.want(number);
  bucket.queued = true;
  shard.to_seal.push_back(number);
}

std::uint64_t Batches::begin_flush() {
  ++flush_;
  for (std::uint32_t shard = 0; shard < shards_.size(); ++shard) make_due(shard);
  return flush_;
}

std::uint64_t Batches::begin_flush(std::uint32_t shard) {
  ++flush_;
  make_due(shard);
  return flush_;
}

void Batches::make_due(std::uint32_t shard) {
  for (const std::uint32_t number : placement_.buckets_on(shard)) {
    if (buckets_[number].due != 0 || !open_.any(number)) continue;
    set_due(buckets_[number], flush_);
    queue(number);
  }
}

bool Batches::flush_is_done(std::uint64_t flush) const {
  return std::ranges::none_of(buckets_, [&](const Bucket& bucket) {
    return (bucket.due != 0 && bucket.due <= flush) ||
           (bucket.unanswered() != nullptr && bucket.unanswered()->flush <= flush);
  });
}

std::optional<std::uint64_t> Batches::oldest_flush(std::uint32_t shard) const {
  std::optional<std::uint64_t> oldest;
  const auto note = [&](std::uint64_t flush) { oldest = std::min(oldest.value_or(flush), flush); };
  for (const std::uint32_t number : placement_.buckets_on(shard)) {
    const Bucket& bucket = buckets_[number];
    if (bucket.due != 0) note(bucket.due);
    if (bucket.unanswered() != nullptr) note(bucket.unanswered()->flush);
  }
  return oldest;
}

Batches::Written Batches::written_on(std::uint32_t shard) const noexcept {
  Written written;
  for (const std::uint32_t number : placement_.buckets_on(shard)) {
    written.batches += buckets_[number].seq();
    written.buckets += buckets_[number].seq() != 0 ? 1 : 0;
  }
  return written;
}

bool Batches::wants_seal() const noexcept {
  const bool corrects = std::ranges::any_of(to_correct_, [&](const auto& waiting) {
    return buckets_[waiting.first].unanswered() == nullptr && shards_[placement_.shard_of(waiting.first)].takes_batches;
  });
  return corrects || std::ranges::any_of(shards_, [&](const Shard& shard) {
           // Full: the next one waits until a good part of it is answered.
           return shard.takes_batches && !shard.to_seal.empty() &&
                  (shard.series_in_flight == 0 ||
                   shard.series_in_flight + std::min(least_pages_to_seal, limits_.series_in_flight / 2) <=
                       limits_.series_in_flight);
         });
}

void Batches::count_unanswered(const Bucket& bucket, std::size_t pages, bool made) noexcept {
  Shard& shard = shard_with(bucket);
  if (made) {
    ++unanswered_count_;
    ++shard.unanswered;
    shard.series_in_flight += pages;
  } else {
    --unanswered_count_;
    --shard.unanswered;
    shard.series_in_flight -= pages;
  }
}

// ---- moves

void Batches::set_shards(std::size_t count, std::uint64_t unix_now) {
  shards_.resize(count);
  open_.set_shards(count);
  kept_order_.set_shards(count);
  kept_order_.keep_anew(unix_now);
}

void Batches::leave_shard(std::uint32_t number) {
  Bucket& bucket = buckets_[number];
  Shard& shard = shard_with(bucket);
  if (bucket.due != 0) --shard.due;
  if (bucket.unanswered() != nullptr) {
    --shard.unanswered;
    shard.series_in_flight -= bucket.unanswered()->series.size();
  }
  if (std::exchange(bucket.queued, false)) std::erase(shard.to_seal, number);
  open_.leave_shard(number);
}

void Batches::enter_shard(std::uint32_t number) {
  Bucket& bucket = buckets_[number];
  Shard& shard = shard_with(bucket);
  if (bucket.due != 0) ++shard.due;
  if (bucket.unanswered() != nullptr) {
    ++shard.unanswered;
    shard.series_in_flight += bucket.unanswered()->series.size();
  }
  open_.enter_shard(number);
  queue(number);
}

// ---- transactions

Transaction Batches::capture(bool seal_now, const RingNote& ring, std::uint64_t unix_now) {
  assert(sealing_.empty() && rewriting_.empty());
  Transaction transaction;
  transaction.ring = ring;
  transaction.answered_at = unix_now;
  transaction.answered = std::exchange(answered_, {});
  transaction.accepted = std::exchange(accepted_, {});
  transaction.identities = std::exchange(identities_, {});
  transaction.set_aside = std::exchange(set_aside_, {});
  transaction.forgotten = std::exchange(forgotten_, {});
  transaction.corrected = noting_ = std::exchange(corrected_, {});
  transaction.imported = std::exchange(imported_, {});
  transaction.questions = std::exchange(questions_, {});
  giving_ = std::exchange(given_, {});
  for (const std::uint32_t number : std::exchange(changed_, {})) {
    // It may have been answered meanwhile, or stand here twice.
    if (buckets_[number].state() == Bucket::State::changed) rewrite(buckets_[number], transaction);
  }
  forget_old(transaction, unix_now);
  if (seal_now) seal_corrections(transaction);
  if (seal_now) seal_due(transaction);
  open_.capture(transaction);
  return transaction;
}

void Batches::seal_due(Transaction& transaction) {
  std::uint64_t pages = 0;
  // A bucket of each shard in turn: one with many does not keep the others waiting.
  for (bool any = true; any && pages < sealed_pages_limit;) {
    any = false;
    for (Shard& shard : shards_) {
      if (!shard.takes_batches || shard.to_seal.empty() || shard.series_in_flight >= limits_.series_in_flight) continue;
      any = true;
      pages += seal_next(shard, transaction);
    }
  }
}

std::size_t Batches::seal_next(Shard& shard, Transaction& transaction) {
  const std::uint32_t number = shard.to_seal.front();
  shard.to_seal.pop_front();
  buckets_[number].queued = false;
  if (buckets_[number].due == 0 || buckets_[number].unanswered() != nullptr) return 0;
  if (open_.is_in_memory(number)) return seal(number, transaction);
  open_.want(number);
  return 0;
}

std::size_t Batches::seal(std::uint32_t number, Transaction& transaction) {
  Bucket& bucket = buckets_[number];
  UnansweredBatch sealed;
  sealed.flush = bucket.due;
  sealed.series = open_.take(number, limits_.batch_pages);
  if (!open_.any(number)) set_due(bucket, 0);
  if (sealed.series.empty()) return 0;
  sealed.batch.effects.reserve(sealed.series.size());
  for (const std::uint32_t open : sealed.series) {
    const SeriesVisits& series = pending_[open];
    sealed.batch.effects.push_back({std::string(series.name()), series.open});
  }
  sealed.blob = encode_effects(sealed.batch.effects);
  const std::size_t size = sealed.series.size();
  keep_sealed(number, std::move(sealed), transaction);
  return size;
}

void Batches::keep_sealed(std::uint32_t number, UnansweredBatch sealed, Transaction& transaction) {
  Bucket& bucket = buckets_[number];
  const std::uint64_t digest = salted_digest(sealed.blob);
  bucket.seal(std::move(sealed), incarnation_, digest);
  transaction.sealed.push_back(bucket.unanswered()->batch);
  count_unanswered(bucket, bucket.unanswered()->series.size(), true);
  sealing_.push_back(number);
  statistics_.add(FlusherStatistic::seals);
}

std::vector<std::uint32_t> Batches::committed() {
  std::vector<std::uint32_t> ready = std::exchange(sealing_, {});
  for (const std::uint32_t number : ready) {
    const UnansweredBatch& sealed = *buckets_[number].unanswered();
    for (std::size_t i = 0; i < sealed.series.size(); ++i) {
      const std::uint64_t visits = sealed.batch.effects[i].operand;
      pending_.seal(sealed.series[i], visits);
      if (const std::uint32_t node = pending_[sealed.series[i]].node; node != 0) view_.seal(node, visits);
    }
  }
  ready.insert(ready.end(), rewriting_.begin(), rewriting_.end());
  rewriting_.clear();
  for (const std::uint32_t number : ready) buckets_[number].committed();
  // One that changed meanwhile waits for the next transaction.
  std::erase_if(ready, [&](std::uint32_t number) { return unanswered(number) == nullptr; });
  update_statistics();
  return ready;
}

void Batches::forget_old(Transaction& transaction, std::uint64_t unix_now) {
  for (const KeptOrder::Entry& old :
       kept_order_.forget_old({limits_.keep_batches_s, limits_.keep_batches_bytes}, unix_now)) {
    // An accepted bucket has forgotten its batches already.
    if (buckets_[old.bucket].forget(old.seq)) transaction.forgotten.emplace_back(old.bucket, old.seq);
  }
}

KeptOrder::Entry Batches::entry_of(std::uint32_t bucket, const Bucket::Kept& kept, std::uint64_t answered_at) {
  return {bucket, static_cast<std::uint32_t>(kept.content.size() + bytes_beside_effects), kept.mark.seq, answered_at};
}

void Batches::keep(std::uint32_t bucket, Bucket::Kept kept, std::uint64_t answered_at) {
  kept_order_.add(entry_of(bucket, kept, answered_at));
  buckets_[bucket].keep(std::move(kept));
}

void Batches::confirm(std::uint32_t shard, std::uint64_t up_to) noexcept {
  kept_order_.confirm(shard, up_to);
  update_statistics();
}

// ---- what a shard says

void Batches::answered(std::uint32_t number, const std::vector<std::uint64_t>& totals, std::uint64_t fix,
                       std::uint64_t now_ms, std::uint64_t unix_now) {
  Bucket& bucket = buckets_[number];
  UnansweredBatch done = bucket.answered();
  count_unanswered(bucket, done.series.size(), false);
  queue(number);
  const Batch& batch = done.batch;
  // Noted before its pages move, the spool's after: a view that died between is not taken for one that agrees with the
  // spool.
  view_.note_answered(number, batch.mark.seq);
  if (batch.correction) {
    settle_correction(done, totals, fix, now_ms + limits_.ttl_ms, unix_now);
  } else {
    settle_visits(done, totals, fix, now_ms + limits_.ttl_ms);
  }
  answered_.push_back({number, batch.mark.seq, bucket.field()});
  statistics_.add(FlusherStatistic::batches_answered);
  keep(number, {batch.mark, batch.expected, std::move(done.blob)}, unix_now);
  update_statistics();
}

void Batches::settle_visits(const UnansweredBatch& done, const std::vector<std::uint64_t>& totals, std::uint64_t fix,
                            std::uint64_t expires) {
  for (std::size_t i = 0; i < done.series.size(); ++i) {
    const std::uint32_t node = pending_[done.series[i]].node;
    const std::uint64_t visits = done.batch.effects[i].operand;
    if (node != 0 && totals[i] == no_total) {
      // The page is shown as damaged until Redis is asked, which is at once.
      view_.damage(node, 0);
      view_.acknowledge(node, visits, view_.base(node) + visits, 0);
    } else if (node != 0) {
      // A shard that lost visits of other hosts for now does not make a count fall.
      const std::uint64_t base = fix > view_.fix(node) ? totals[i] : std::max(totals[i], view_.base(node) + visits);
      view_.acknowledge(node, visits, base, expires, fix);
    }
    pending_.settle(done.series[i], visits);
  }
}

void Batches::settle_correction(const UnansweredBatch& done, const std::vector<std::uint64_t>& totals,
                                std::uint64_t fix, std::uint64_t expires, std::uint64_t unix_now) {
  const Batch& batch = done.batch;
  for (std::size_t i = 0; i < batch.effects.size(); ++i) {
    const Effect& effect = batch.effects[i];
    const std::uint32_t number = pending_.find(page_hash(effect.series, hash_seed_), effect.series);
    if (number != PendingSeries::none && pending_[number].node != 0) {
      const std::uint32_t node = pending_[number].node;
      if (totals[i] == no_total) {
        view_.damage(node, 0);
      } else {
        view_.acknowledge(node, 0, view_.base_after(node, totals[i], fix), expires, fix);
      }
    }
    // If the page holds no count by now, only the difference is known: it is told as if nothing else had been there.
    const auto gained = static_cast<std::uint64_t>(std::max<std::int64_t>(0, difference_of(effect)));
    const std::uint64_t after = totals[i] == no_total ? gained : totals[i];
    corrected_.push_back({batch.bucket, batch.mark, effect.series, difference_of(effect), after,
                          batch.correction->into[i], batch.correction->by, unix_now});
    note_question(batch.bucket, QuestionNote::State::done, after - effect.operand, after, questions_);
    listener_->corrected(corrected_.back());
    // Into the same transaction as the answer: given once, whenever this life ends.
    if (!batch.correction->into[i].empty()) {
      give(find_or_insert(batch.correction->into[i]), -effect.operand, batch.mark);
    }
  }
}

// ---- corrections

void Batches::correct(std::uint32_t bucket, std::vector<Effect> differences, Correction correction,
                      std::string question) {
  assert(!to_correct_.contains(bucket));
  to_correct_.emplace(bucket, ToCorrect{std::move(differences), std::move(correction), std::move(question)});
}

void Batches::note_question(std::uint32_t bucket, QuestionNote::State state, std::uint64_t before, std::uint64_t after,
                            std::vector<QuestionNote>& notes) {
  const auto asked = asked_by_.find(bucket);
  if (asked == asked_by_.end()) return;
  notes.push_back({std::move(asked->second), state, 0, before, after});
  asked_by_.erase(asked);
}

void Batches::seal_corrections(Transaction& transaction) {
  for (auto waiting = to_correct_.begin(); waiting != to_correct_.end();) {
    const Bucket& bucket = buckets_[waiting->first];
    if (bucket.unanswered() != nullptr || !shard_with(bucket).takes_batches) {
      ++waiting;
      continue;
    }
    UnansweredBatch sealed;
    sealed.flush = flush_ + 1;  // a flush under way does not wait for it
    sealed.batch.effects = std::move(waiting->second.differences);
    sealed.batch.correction = std::move(waiting->second.correction);
    sealed.blob = encode_content(sealed.batch);
    if (!waiting->second.question.empty()) {
      transaction.questions.push_back({waiting->second.question, QuestionNote::State::sealed, waiting->first, 0, 0});
      asked_by_[waiting->first] = std::move(waiting->second.question);
    }
    keep_sealed(waiting->first, std::move(sealed), transaction);
    waiting = to_correct_.erase(waiting);
  }
}

std::uint32_t Batches::find_or_insert(std::string_view page) {
  return pending_.find_or_insert(page, hash_seed_, static_cast<std::uint32_t>(buckets_.size()));
}

void Batches::add(const std::string& page, std::uint64_t visits, const std::string& by, const std::string& question,
                  std::uint64_t unix_now) {
  const std::uint32_t number = find_or_insert(page);
  corrected_.push_back({pending_[number].bucket, {}, page, static_cast<std::int64_t>(visits), {}, {}, by, unix_now});
  if (!question.empty()) questions_.push_back({question, QuestionNote::State::done, 0, 0, visits});
  give(number, visits);
  listener_->corrected(corrected_.back());
}

bool Batches::can_add(std::string_view page, std::uint64_t visits) const noexcept {
  const std::uint32_t number = pending_.find(page_hash(page, hash_seed_), page);
  const std::uint64_t pending = number == PendingSeries::none ? 0 : pending_[number].open + pending_[number].inflight;
  return pending <= count_limit && visits <= count_limit - pending;
}

void Batches::note_imported(CorrectedPage sum, std::string id) {
  corrected_.push_back(std::move(sum));
  imported_.push_back(std::move(id));
  listener_->corrected(corrected_.back());
}

void Batches::give(std::uint32_t number, std::uint64_t visits, const std::optional<Mark>& loser) {
  if (pending_.give(number, visits).in_bucket == 0) open_.series_opened(number);
  given_.push_back({number, visits, loser});
}

void Batches::show_corrections() {
  for (const CorrectedPage& page : std::exchange(noting_, {})) listener_->noted(page);
  for (const auto& [number, visits, loser] : std::exchange(giving_, {})) {
    pending_.show(number, visits);
    if (const std::uint32_t node = pending_[number].node; node != 0) view_.give(node, visits);
    listener_->given(std::string(pending_[number].name()), visits, loser);
  }
}

std::uint64_t Batches::begin_flush_of_bucket(std::uint32_t number) {
  if (buckets_[number].due == 0 && open_.any(number)) {
    set_due(buckets_[number], flush_ + 1);
    queue(number);
  }
  return flush_ + 1;
}

bool Batches::is_bucket_flushed(std::uint32_t number, std::uint64_t flush) const {
  const Bucket& bucket = buckets_[number];
  return (bucket.due == 0 || bucket.due > flush) &&
         (bucket.unanswered() == nullptr || bucket.unanswered()->flush > flush);
}

void Batches::outdated(std::uint32_t number) {
  std::vector<std::uint32_t> all(buckets_[number].unanswered()->batch.effects.size());
  std::iota(all.begin(), all.end(), 0U);
  buckets_[number].refuse(all, {});
}

void Batches::refused(std::uint32_t bucket, const std::vector<std::uint32_t>& bad_series, const std::string& why) {
  buckets_[bucket].refuse(bad_series, why);
}

void Batches::fenced(std::uint32_t number, std::uint64_t unix_now) {
  Bucket& bucket = buckets_[number];
  const Batch fence = *bucket.to_send();
  bucket.fenced(incarnation_);
  view_.note_answered(number, bucket.seq());
  answered_.push_back({number, bucket.seq(), bucket.field()});
  keep(number, {fence.mark, fence.expected, encode_effects(fence.effects)}, unix_now);
  changed_.push_back(number);
}

void Batches::rewrite(Bucket& bucket, Transaction& transaction) {
  const bool corrects = bucket.unanswered()->batch.correction.has_value();
  Bucket::BadSeries bad = bucket.take_bad_series();
  if (corrects) listener_->withdrawn(bucket.number(), bad.effects.size());
  if (corrects && !bucket.unanswered()->batch.correction) {
    note_question(bucket.number(), QuestionNote::State::withdrawn, 0, 0, transaction.questions);
  }
  for (std::size_t i = 0; i < bad.numbers.size(); ++i) {
    const std::uint64_t visits = bad.effects[i].operand;
    transaction.set_aside.push_back({bucket.number(), std::move(bad.effects[i]), bucket.unanswered()->why_bad});
    if (const std::uint32_t node = pending_[bad.numbers[i]].node; node != 0) view_.set_aside(node, visits);
    pending_.settle(bad.numbers[i], visits);
    statistics_.add(FlusherStatistic::pages_set_aside);
  }
  shard_with(bucket).series_in_flight -= bad.numbers.size();
  const UnansweredBatch& unanswered = *bucket.unanswered();
  const bool same = bad.effects.empty() && !unanswered.fence;
  const auto fence = bucket.rewrite(same ? unanswered.batch.mark.digest : salted_digest(unanswered.blob));
  if (fence) transaction.replaced.push_back(*fence);
  (fence ? transaction.sealed : transaction.replaced).push_back(unanswered.batch);
  rewriting_.push_back(bucket.number());
}

void Batches::set_aside_of_kept(Batch& batch, const std::vector<std::uint32_t>& bad_series, const std::string& why) {
  for (Effect& effect : take_at(batch.effects, bad_series)) {
    // What somebody has written over a count since is not corrected.
    if (batch.correction) continue;
    if (!set_aside_before_.emplace(batch.bucket, batch.mark.seq, effect.series).second) continue;
    set_aside_.push_back({batch.bucket, std::move(effect), why});
    statistics_.add(FlusherStatistic::pages_set_aside);
  }
}

bool Batches::accept(std::uint32_t number, const std::string& held) {
  Bucket& bucket = buckets_[number];
  const auto forgotten = bucket.accept(held);
  if (!forgotten) return false;
  for (const std::uint64_t seq : *forgotten) forgotten_.emplace_back(number, seq);
  accepted_.push_back({number, bucket.seq(), held});
  if (bucket.state() == Bucket::State::changed) changed_.push_back(number);
  return true;
}

void Batches::update_statistics() noexcept {
  statistics_.set(FlusherStatistic::pending_visits, pending_.visits());
  statistics_.set(FlusherStatistic::unanswered_batches, unanswered_count_);
  statistics_.set(FlusherStatistic::pending_pages, pending_.with_visits());
  statistics_.set(FlusherStatistic::pending_bytes, pending_.pending_bytes());
  statistics_.set(FlusherStatistic::kept_batches, kept_order_.size());
  statistics_.set(FlusherStatistic::kept_bytes, kept_order_.bytes());
  statistics_.set(FlusherStatistic::kept_overdue_batches, kept_order_.overdue());
  statistics_.set(FlusherStatistic::kept_dropped_batches, kept_order_.dropped());
}

}  // namespace visitd
