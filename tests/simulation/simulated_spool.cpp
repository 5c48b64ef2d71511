#include "tests/simulation/simulated_spool.hpp"

namespace visitd {

SpoolResult SimulatedSpool::apply(const Transaction& transaction) {
  if (transaction.ring) rings_[transaction.ring->id] = *transaction.ring;
  if (!transaction.deltas.empty()) journal_[transaction.number] = transaction.deltas;
  std::erase_if(journal_, [&](const auto& row) { return row.first <= transaction.journal_until; });
  for (const Batch& batch : transaction.sealed) batches_[{batch.bucket, batch.mark.seq}] = {batch, false, 0};
  for (const auto& [bucket, pages] : transaction.open) open_[bucket] = {bucket, transaction.number, pages};
  for (const std::uint32_t bucket : transaction.unspilled) spilled_.erase(bucket);
  for (const auto& [bucket, pages] : transaction.spilled) spilled_[bucket].push_back(pages);
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
  for (const SetAside& aside : transaction.set_aside) set_aside_[aside.effect.series] += aside.effect.operand;
  for (const QuestionNote& note : transaction.questions) {
    if (note.state == QuestionNote::State::withdrawn) {
      questions_.erase(note.id);
    } else {
      questions_[note.id] = note;
    }
  }
  SpoolResult result;
  for (const std::uint32_t bucket : transaction.compacted) {
    std::map<std::string, std::uint64_t> sums;
    for (const std::string& blob : spilled_[bucket]) {
      for (EffectReader reader(blob); reader.next();) sums[std::string(reader.series())] += reader.operand();
    }
    std::string whole;
    for (const auto& [page, visits] : sums) append_effect(whole, page, visits);
    result.compacted.emplace_back(bucket, whole.size());
    spilled_[bucket] = {whole};
  }
  for (const std::uint32_t bucket : transaction.recalled) {
    std::string whole;
    for (const std::string& blob : spilled_[bucket]) whole += blob;
    result.recalled.emplace_back(bucket, whole);
  }
  return result;
}

bool SimulatedSpool::waits(std::uint32_t bucket, const Mark& mark) const {
  const auto row = batches_.find({bucket, mark.seq});
  return row != batches_.end() && !row->second.answered && row->second.batch.mark == mark;
}

std::uint64_t SimulatedSpool::pending(const std::string& page, std::uint32_t bucket,
                                      const std::function<bool(const Batch&)>& applied) const {
  std::uint64_t visits = 0;
  const auto add = [&](std::string_view blob) {
    for (EffectReader reader(blob); reader.next();) visits += reader.series() == page ? reader.operand() : 0;
  };
  std::uint64_t folded = 0;
  if (const auto row = open_.find(bucket); row != open_.end()) {
    folded = row->second.folded;
    add(row->second.effects);
  }
  for (const auto& [number, deltas] : journal_) {
    if (number > folded) add(deltas);
  }
  if (const auto rows = spilled_.find(bucket); rows != spilled_.end()) {
    for (const std::string& blob : rows->second) add(blob);
  }
  for (const auto& [key, row] : batches_) {
    // A correction changes what is in the shards: nothing of it waits.
    if (row.batch.correction || row.answered || key.first != bucket || applied(row.batch)) continue;
    add(encode_effects(row.batch.effects));
  }
  return visits;
}

std::uint64_t SimulatedSpool::position(std::uint64_t ring, std::size_t lane) const {
  const auto note = rings_.find(ring);
  return note == rings_.end() ? 0 : note->second.positions[lane];
}

SpoolState SimulatedSpool::load(std::uint64_t random) {
  incarnation_ = {incarnation_.number + 1, random};
  return load_in_same_life();
}

SpoolState SimulatedSpool::load_in_same_life() const {
  SpoolState state;
  state.writer = writer_;
  state.created = incarnation_.number == 1;
  state.incarnation = incarnation_;
  for (const auto& [id, note] : rings_) state.rings.push_back(note);
  for (const auto& [bucket, row] : open_) state.open.push_back(row);
  for (const auto& [number, deltas] : journal_) state.journal.push_back({number, deltas});
  state.each_spilled = [this](const std::function<void(std::uint32_t, std::string_view)>& use) {
    for (const auto& [bucket, blobs] : spilled_) {
      for (const std::string& blob : blobs) use(bucket, blob);
    }
  };
  for (const auto& [key, row] : batches_) {
    if (row.answered) {
      state.kept.push_back(
          {row.batch.bucket, row.batch.mark, row.batch.expected, encode_content(row.batch), row.answered_at});
    } else {
      state.unanswered.push_back(row.batch);
    }
  }
  for (const auto& [bucket, mark] : marks_) state.marks.push_back(mark);
  for (const auto& [shard, identity] : identities_) state.identities.push_back({shard, identity});
  for (const auto& [id, note] : questions_) state.questions.push_back(note);
  return state;
}

}  // namespace visitd
