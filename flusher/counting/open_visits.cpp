#include "flusher/counting/open_visits.hpp"

#include <algorithm>
#include <cassert>
#include <string_view>

namespace visitd {

namespace {

// What one transaction may hold, so that gathering it does not keep the loop: these take 5 to 20 ms.
constexpr std::size_t folded_series_limit = 16384;
constexpr std::size_t spilled_series_limit = 65536;
constexpr std::uint64_t recalled_bytes_limit = 2U << 20U;
// A series that was recalled takes more in memory than in the spool: by so much for ids of a few bytes.
constexpr std::uint64_t recall_growth = 6;
// Spilled rows of a bucket are made one when they hold so much more than when that was last done.
constexpr std::uint64_t compaction_slack_bytes = 32U << 10U;

std::uint64_t visits_in(std::string_view blob) {
  std::uint64_t visits = 0;
  for (EffectReader reader(blob); reader.next();) visits += reader.operand();
  return visits;
}

}  // namespace

OpenVisits::OpenVisits(const OpenLimits& limits, const Placement& placement, PendingSeries& pending,
                       FlusherStatistics statistics)
    : limits_(limits),
      placement_(placement),
      pending_(pending),
      statistics_(statistics),
      buckets_(placement.buckets()),
      takes_batches_(placement.shards()),
      open_series_(placement.shards()),
      recalled_(placement.shards()) {}

// ---- recovery

void OpenVisits::recover(const SpoolState& spool, const FindSeries& find_or_insert) {
  const auto add = [&](std::string_view series, std::uint64_t visits) {
    if (visits == 0) return;
    const std::uint32_t number = find_or_insert(series);
    pending_.recover_open(number, visits);
    if (pending_[number].in_bucket == 0) series_opened(number);
  };
  std::vector<std::uint64_t> folded(buckets_.size());
  for (const OpenRow& row : spool.open) {
    if (row.bucket >= buckets_.size()) continue;
    folded[row.bucket] = row.folded;
    journal_ = std::max(journal_, row.folded);
    buckets_[row.bucket].row_bytes = row.effects.size();
    rows_bytes_ += row.effects.size();
    for (EffectReader reader(row.effects); reader.next();) add(reader.series(), reader.operand());
  }
  for (const visitd::JournalRow& row : spool.journal) {
    journal_ = std::max(journal_, row.number);
    journal_rows_.push_back({row.number, row.deltas.size()});
    journal_bytes_ += row.deltas.size();
    for (EffectReader reader(row.deltas); reader.next();) {
      // The series' bucket, by its number in the table: one that is not in it yet is made, and forgotten where the
      // bucket's row says it all.
      const std::uint32_t number = find_or_insert(reader.series());
      Bucket& bucket = buckets_[pending_[number].bucket];
      if (row.number <= folded[pending_[number].bucket]) {
        pending_.erase_if_idle(number);
        continue;
      }
      add(reader.series(), reader.operand());
      if (bucket.unfolded_since != 0) continue;
      bucket.unfolded_since = row.number;
      unfolded_.emplace_back(row.number, pending_[number].bucket);
    }
  }
  if (!spool.each_spilled) return;
  spool.each_spilled([&](std::uint32_t number, std::string_view blob) {
    if (number >= buckets_.size()) return;
    buckets_[number].place = Place::spilled;
    note_spilled(number, blob, true);
  });
  for (Bucket& bucket : buckets_) bucket.compacted_bytes = bucket.spilled_bytes;
  pending_.recover_spilled(spilled_visits_);
  update_statistics();
}

std::unordered_map<std::uint32_t, std::uint64_t> OpenVisits::spilled_of(const SpoolState& spool,
                                                                        const std::vector<std::uint32_t>& wanted,
                                                                        const FindSeries& find) const {
  std::unordered_map<std::uint32_t, std::uint64_t> spilled;
  if (spilled_bytes_ == 0) return spilled;
  for (const std::uint32_t series : wanted) {
    if (!is_in_memory(pending_[series].bucket)) spilled[series] = 0;
  }
  spool.each_spilled([&](std::uint32_t, std::string_view blob) {
    for (EffectReader reader(blob); reader.next();) {
      const auto known = spilled.find(find(reader.series()));
      if (known != spilled.end()) known->second += reader.operand();
    }
  });
  return spilled;
}

// ---- series

void OpenVisits::series_opened(std::uint32_t series) {
  const std::uint32_t number = pending_[series].bucket;
  pending_.set_in_bucket(pending_[series], true);
  buckets_[number].open.push_back(series);
  ++open_series_[placement_.shard_of(number)];
}

void OpenVisits::set_shards(std::size_t count) {
  takes_batches_.resize(count);
  open_series_.resize(count);
  recalled_.resize(count);
}

std::vector<std::uint32_t> OpenVisits::take(std::uint32_t number, std::size_t most) {
  assert(is_in_memory(number));
  Bucket& bucket = buckets_[number];
  const auto end = bucket.open.begin() + static_cast<std::ptrdiff_t>(std::min(most, bucket.open.size()));
  std::vector<std::uint32_t> taken(bucket.open.begin(), end);
  bucket.open.erase(bucket.open.begin(), end);
  if (bucket.open.empty()) bucket.open.shrink_to_fit();
  open_series_[placement_.shard_of(number)] -= taken.size();
  for (const std::uint32_t series : taken) pending_.set_in_bucket(pending_[series], false);
  fold(number);
  return taken;
}

// ---- what is due

std::uint64_t OpenVisits::journal_limit() const noexcept {
  return std::max(limits_.journal_bytes, rows_bytes_);
}

bool OpenVisits::is_crowded() const noexcept {
  return pending_.open_bytes() > limits_.memory_bytes / 2;
}

bool OpenVisits::may_recall(std::uint32_t bucket, std::uint64_t recalling_bytes) const noexcept {
  // One bucket comes in any case: series in memory that belong to spilled buckets leave it only after their bucket. The
  // next one waits only for a bucket that can be sealed: what came of a shard that takes no batches any more may stay.
  if (recalling_bytes == 0 && !may_seal_recalled()) return true;
  // A bucket that is larger than a part of the memory comes nevertheless: it has to come whole.
  const std::uint64_t needed = std::min(buckets_[bucket].spilled_bytes * recall_growth, limits_.memory_bytes / 4);
  return pending_.open_bytes() + recalling_bytes + needed <= limits_.memory_bytes / 4 * 3;
}

bool OpenVisits::may_seal_recalled() const noexcept {
  for (std::size_t shard = 0; shard < recalled_.size(); ++shard) {
    if (takes_batches_[shard] && recalled_[shard] != 0) return true;
  }
  return false;
}

void OpenVisits::want(std::uint32_t number) {
  Bucket& bucket = buckets_[number];
  if (bucket.place != Place::spilled || std::exchange(bucket.wanted, true)) return;
  wanted_.push_back(number);
}

void OpenVisits::want_for_read(std::uint32_t number) {
  Bucket& bucket = buckets_[number];
  if (bucket.place != Place::spilled || std::exchange(bucket.read, true)) return;
  wanted_.insert(wanted_.begin() + static_cast<std::ptrdiff_t>(wanted_for_reads_++), number);
}

bool OpenVisits::wants_transaction() const noexcept {
  if (journal_bytes_ > journal_limit()) return true;
  if (!wanted_.empty() && may_recall(wanted_.front(), 0)) return true;
  if (!is_crowded()) return false;
  std::uint64_t waiting = 0;
  for (std::size_t shard = 0; shard < open_series_.size(); ++shard) {
    if (!takes_batches_[shard]) waiting += open_series_[shard];
  }
  // Not for a few: each spill of a bucket is a row.
  return waiting > 0 && waiting * PendingSeries::bytes_of(0) >= limits_.memory_bytes / 32;
}

// ---- transactions

void OpenVisits::fold(std::uint32_t number) {
  if (std::exchange(buckets_[number].folding, true)) return;
  folding_.push_back(number);
}

void OpenVisits::choose_folds() {
  if (journal_bytes_ <= journal_limit()) return;
  std::size_t taken = 0;
  for (const auto& [first, number] : unfolded_) {
    if (taken >= folded_series_limit) return;
    if (buckets_[number].unfolded_since != first) continue;
    taken += buckets_[number].open.size() + 1;
    fold(number);
  }
}

void OpenVisits::capture(Transaction& transaction) {
  assert(spilling_.empty());
  transaction.number = ++journal_;
  choose_folds();
  choose_spills(transaction);
  pending_.take_unspooled([&](const SeriesVisits& series) {
    Bucket& bucket = buckets_[series.bucket];
    if (bucket.folding) return;  // its row, its batch or its spilled row holds it
    append_effect(transaction.deltas, series.name(), series.unspooled);
    if (bucket.unfolded_since != 0) return;
    bucket.unfolded_since = transaction.number;
    unfolded_.emplace_back(transaction.number, series.bucket);
  });
  for (const std::uint32_t number : std::exchange(folding_, {})) write_row(number, transaction);
  if (!transaction.deltas.empty()) {
    journal_rows_.push_back({transaction.number, transaction.deltas.size()});
    journal_bytes_ += transaction.deltas.size();
  }
  truncate_journal(transaction);
  choose_recalls(transaction);
  update_statistics();
}

void OpenVisits::write_row(std::uint32_t number, Transaction& transaction) {
  Bucket& bucket = buckets_[number];
  bucket.folding = false;
  bucket.unfolded_since = 0;
  if (bucket.place == Place::recalled) {
    unspill(number, transaction);
    bucket.place = Place::memory;
  }
  std::string row;
  const bool spilling = std::exchange(bucket.spilling, false);
  for (const std::uint32_t series : bucket.open) {
    // What a spill leaves in memory because somebody waits for its count.
    if (spilling && pending_[series].looked_up == 0) continue;
    append_effect(row, pending_[series].name(), pending_[series].open);
  }
  rows_bytes_ += row.size() - bucket.row_bytes;
  bucket.row_bytes = row.size();
  transaction.open.emplace_back(number, std::move(row));
}

void OpenVisits::truncate_journal(Transaction& transaction) {
  while (!unfolded_.empty() && buckets_[unfolded_.front().second].unfolded_since != unfolded_.front().first) {
    unfolded_.pop_front();
  }
  const std::uint64_t until = unfolded_.empty() ? transaction.number : unfolded_.front().first - 1;
  while (!journal_rows_.empty() && journal_rows_.front().number <= until) {
    transaction.journal_until = until;
    journal_bytes_ -= journal_rows_.front().bytes;
    journal_rows_.pop_front();
  }
}

void OpenVisits::choose_spills(Transaction& transaction) {
  if (!is_crowded()) return;
  std::size_t taken = 0;
  for (std::size_t looked = 0; looked < buckets_.size() && taken < spilled_series_limit; ++looked) {
    const std::uint32_t number = next_spill_;
    next_spill_ = (next_spill_ + 1) % static_cast<std::uint32_t>(buckets_.size());
    const Bucket& bucket = buckets_[number];
    if (takes_batches_[placement_.shard_of(number)] || bucket.open.empty() || bucket.folding) continue;
    taken += bucket.open.size();
    spill(number, transaction);
  }
}

void OpenVisits::spill(std::uint32_t number, Transaction& transaction) {
  Bucket& bucket = buckets_[number];
  Spilling spilling{number, {}};
  std::string blob;
  for (const std::uint32_t open : bucket.open) {
    const SeriesVisits& series = pending_[open];
    // The answer to a read that is under way must find all of the series here.
    if (series.looked_up != 0) continue;
    append_effect(blob, series.name(), series.open);
    spilling.series.emplace_back(open, series.open);
  }
  if (spilling.series.empty()) return;
  fold(number);
  if (bucket.place == Place::recalled) {
    // All that was spilled before is among the open series again.
    unspill(number, transaction);
  }
  bucket.place = Place::spilled;
  bucket.spilling = true;
  note_spilled(number, blob, true);
  if (bucket.compacted_bytes == 0) bucket.compacted_bytes = bucket.spilled_bytes;
  if (bucket.spilled_bytes > 2 * bucket.compacted_bytes + compaction_slack_bytes)
    transaction.compacted.push_back(number);
  transaction.spilled.emplace_back(number, std::move(blob));
  spilling_.push_back(std::move(spilling));
}

void OpenVisits::unspill(std::uint32_t number, Transaction& transaction) {
  Bucket& bucket = buckets_[number];
  transaction.unspilled.push_back(number);
  spilled_bytes_ -= std::exchange(bucket.spilled_bytes, 0);
  bucket.compacted_bytes = 0;
  --recalled_[placement_.shard_of(number)];
}

void OpenVisits::choose_recalls(Transaction& transaction) {
  std::uint64_t bytes = 0;
  while (!wanted_.empty() && bytes < recalled_bytes_limit && may_recall(wanted_.front(), bytes)) {
    const std::uint32_t number = wanted_.front();
    wanted_.pop_front();
    Bucket& bucket = buckets_[number];
    if (wanted_for_reads_ != 0) {
      --wanted_for_reads_;
      bucket.read = false;
    } else {
      bucket.wanted = false;
    }
    if (bucket.place != Place::spilled) continue;  // it stood in the queue twice
    bucket.place = Place::recalling;
    ++recalled_[placement_.shard_of(number)];
    bytes += bucket.spilled_bytes * recall_growth;
    transaction.recalled.push_back(number);
  }
}

std::vector<std::uint32_t> OpenVisits::committed(const SpoolResult& result, const FindSeries& find_or_insert) {
  for (const Spilling& spilling : std::exchange(spilling_, {})) {
    // An entry goes on counting what is spilled of its page.
    for (const auto& [number, visits] : spilling.series) pending_.spill(number, visits);
    Bucket& bucket = buckets_[spilling.bucket];
    const std::size_t before = bucket.open.size();
    std::erase_if(bucket.open, [&](std::uint32_t number) {
      if (pending_[number].open != 0) return false;
      pending_.set_in_bucket(pending_[number], false);
      pending_.erase_if_idle(number);
      return true;
    });
    if (bucket.open.empty()) bucket.open.shrink_to_fit();
    open_series_[placement_.shard_of(spilling.bucket)] -= before - bucket.open.size();
  }
  for (const auto& [number, bytes] : result.compacted) {
    spilled_bytes_ += bytes - buckets_[number].spilled_bytes;
    buckets_[number].spilled_bytes = buckets_[number].compacted_bytes = bytes;
  }
  std::vector<std::uint32_t> recalled;
  for (const auto& [number, blob] : result.recalled) {
    Bucket& bucket = buckets_[number];
    assert(bucket.place == Place::recalling);
    for (EffectReader reader(blob); reader.next();) {
      const std::uint32_t series = find_or_insert(reader.series());
      pending_.recall(series, reader.operand());  // where it has an entry, that counts them already
      if (pending_[series].in_bucket == 0) series_opened(series);
    }
    bucket.place = Place::recalled;
    note_spilled(number, blob, false);
    recalled.push_back(number);
  }
  update_statistics();
  return recalled;
}

void OpenVisits::note_spilled(std::uint32_t number, std::string_view blob, bool added) noexcept {
  const std::uint64_t visits = visits_in(blob);
  if (added) {
    buckets_[number].spilled_bytes += blob.size();
    spilled_bytes_ += blob.size();
    spilled_visits_ += visits;
  } else {
    spilled_visits_ -= visits;
  }
}

void OpenVisits::update_statistics() noexcept {
  statistics_.set(FlusherStatistic::pending_pages, pending_.with_visits());
  statistics_.set(FlusherStatistic::pending_bytes, pending_.pending_bytes());
  statistics_.set(FlusherStatistic::spilled_visits, spilled_visits_);
  statistics_.set(FlusherStatistic::spilled_bytes, spilled_bytes_);
  statistics_.set(FlusherStatistic::journal_bytes, journal_bytes_);
}

}  // namespace visitd
