#include "tests/simulation/simulated_spool.hpp"

namespace visitd {

void SimulatedSpool::apply(const Transaction& transaction) {
  if (transaction.ring) rings_[transaction.ring->id] = *transaction.ring;
  for (const auto& [page, visits] : decode_pages(transaction.deltas)) journal_[page] += visits;
  if (transaction.fold) journal_.clear();
  for (const Batch& batch : transaction.sealed) batches_[{batch.bucket, batch.mark.seq}] = {batch, false, 0};
  for (const auto& [bucket, pages] : transaction.open) {
    if (pages.empty()) {
      open_.erase(bucket);
    } else {
      open_[bucket] = pages;
    }
  }
  for (const BucketMark& mark : transaction.answered) {
    Row& row = batches_.at({mark.bucket, mark.seq});
    row.answered = true;
    row.answered_at = transaction.answered_at;
    marks_[mark.bucket] = mark;
  }
  for (const BucketMark& mark : transaction.accepted) marks_[mark.bucket] = mark;
  for (const Batch& batch : transaction.replaced) batches_.at({batch.bucket, batch.mark.seq}).batch = batch;
  for (const Key& key : transaction.forgotten) batches_.erase(key);
  for (const ShardIdentity& identity : transaction.identities) identities_[identity.shard] = identity.identity;
  for (const SetAside& aside : transaction.set_aside) set_aside_[aside.page.page] += aside.page.visits;
}

SpoolState SimulatedSpool::load() {
  SpoolState state;
  state.writer = "simulated";
  state.created = starts_ == 0;
  state.incarnation = {++starts_, starts_ * 7919};
  for (const auto& [id, note] : rings_) state.rings.push_back(note);
  std::map<std::string, std::uint64_t> open = journal_;
  for (const auto& [bucket, pages] : open_) {
    for (const auto& [page, visits] : decode_pages(pages)) open[page] += visits;
  }
  for (const auto& [page, visits] : open) state.open.push_back({page, visits});
  for (const auto& [key, row] : batches_) {
    if (row.answered) {
      state.kept.push_back({row.batch, row.answered_at});
    } else {
      state.unanswered.push_back(row.batch);
    }
  }
  for (const auto& [bucket, mark] : marks_) state.marks.push_back(mark);
  for (const auto& [shard, identity] : identities_) state.identities.push_back({shard, identity});
  return state;
}

}  // namespace visitd
